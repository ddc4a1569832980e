"""The estimators: what scikit-learn asks of them, how ranks are started and stopped, and what a fit leaves behind."""

import contextlib
import inspect
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from common.config import OPTIONS
from common.option import DATA
from tests.ranks import MPIRUN, PROGRAMS, environment, finish, mpirun, popen, records, wait_for_epochs, wait_until
from workers.estimator import Classifier, Regressor, load
from workers.estimators.parameters import PARAMETERS

ROOT = PROGRAMS.parent.parent
X, Y = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[Y]


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def quiet() -> Iterator[None]:
    """Let pass what scikit-learn's own checks warn of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@parametrize_with_checks([Classifier(), Regressor()])  # type: ignore[untyped-decorator]
def test_scikit_learn_checks(estimator: Any, check: Callable[[Any], object], quiet: None) -> None:
    check(estimator)


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        (Classifier, "check_dict_unchanged"),
        (Classifier, "check_sample_weight_equivalence_on_dense_data"),
        (Regressor, "check_fit_idempotent"),
    ],
)
def test_scikit_learn_checks_with_two_ranks(kind: type, check: str, quiet: None) -> None:
    getattr(estimator_checks, check)(kind.__name__, kind(ranks=2, epochs=3))


def test_without_scikit_learn_the_extra_is_named(tmp_path: Path) -> None:
    (tmp_path / "sklearn.py").write_text("raise ImportError('broken')")
    result = finish(popen([sys.executable, "-c", "import workers.estimator"], cwd=tmp_path))
    assert "needs scikit-learn (broken); pip install 'rankwise[sklearn]'" in result.err


def test_labels_of_several_columns() -> None:
    labels = np.stack([Y == 1, Y > 0, X[:, 0] > 6], axis=1).astype(int)
    made = Classifier(epochs=40, hidden=(16,), learning_rate=0.01).fit(X, labels)
    assert made.classes_.tolist() == [0, 1, 2]
    assert made.predict_proba(X).shape == (150, 3)
    assert (made.predict(X) == labels).mean() > 0.9
    assert made.score(X, labels) > 0.7
    assert (load(made.log_).predict(X) == made.predict(X)).all()


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_with_texts_dates_and_missing_cells(library: str) -> None:
    frame: Any = pytest.importorskip("pandas").DataFrame(
        {
            "length": np.where(np.arange(150) % 9 == 0, np.nan, X[:, 2]),
            "kind": np.where(X[:, 3] > 1.7, "wide", np.where(X[:, 3] > 1, "middle", "thin")).astype(object),
            "day": np.datetime64("2024-01-01") + np.arange(150).astype("timedelta64[D]"),
            "is_long": X[:, 0] > 6,
        }
    )
    if library == "polars":
        frame = pytest.importorskip("polars").DataFrame({name: frame[name].to_list() for name in frame.columns})
    made = Classifier(epochs=30, learning_rate=0.01, hidden=(16,)).fit(frame, NAMES)
    assert made.feature_names_in_.tolist() == ["length", "kind", "day", "is_long"]
    assert made.n_features_in_ == 4
    assert made.score(frame, NAMES) > 0.9
    again = load(made.log_)
    assert again.feature_names_in_.tolist() == made.feature_names_in_.tolist()
    other = frame[frame.columns[::-1]]
    assert (again.predict(other) == made.predict(frame)).all()  # columns go by their names
    assert made.partial_fit(frame[:20], NAMES[:20]).n_iter_ == 31
    with pytest.raises(ValueError, match="X: no column 'kind', which the model was trained with; got length"):
        made.predict(frame[["length", "day", "is_long"]])
    with pytest.raises(ValueError, match="X: got ndarray; this model takes a frame with the columns length, kind"):
        made.predict(X)


def test_every_option_of_training_is_a_parameter() -> None:
    training = {name for name, option in OPTIONS.items() if option.group not in (DATA, "usual options", "internal")}
    apart = {"loss", "resume", "start_from", "trust_model", "trust_types", "elastic", "inject", "debug"}
    assert training - apart <= PARAMETERS.keys()
    signature = inspect.signature(Classifier)
    assert signature.parameters["hidden"].default == (256,)
    assert signature.parameters["hidden"].kind is inspect.Parameter.KEYWORD_ONLY
    shown = " ".join(str(Classifier.__doc__).split())
    assert "learning_rate : default 0.002" in shown
    assert "model : default 'mlp' What is trained (linear, logistic, softmax, mlp, package.module:Class)." in shown
    assert "--" not in shown.replace("---", "")
    with pytest.raises(TypeError, match=r"unknown parameter 'lr' .did you mean 'learning_rate'"):
        Classifier(lr=0.1)
    assert clone(Regressor(hidden=[3], ranks=2)).get_params()["hidden"] == [3]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": 0}, "epochs: got 0; allowed is at least 1"),
        ({"hidden": (0,)}, "hidden: got 0; allowed is at least 1"),
        ({"mode": "alreduce"}, "mode: unknown value 'alreduce' .did you mean 'allreduce'"),
        ({"ranks": 0}, "ranks: got 0; allowed is a whole number of at least 1"),
        ({"verbose": 7}, "verbose: got 7"),
        ({"runs": ""}, "runs: got ''"),
        ({"runs": "/proc/none"}, "runs: /proc/none cannot be written"),
        ({"model": "linear"}, "loss: 'cross-entropy' does not go with model 'linear'"),
        ({"class_weight": "equal"}, "class_weight: got 'equal'; allowed are None, 'balanced' or a dict"),
        ({"dtype": "float16"}, "dtype: unknown value 'float16'"),
    ],
)
def test_wrong_parameters(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Classifier(**wrong).fit(X, Y)


def test_wrong_data() -> None:
    with pytest.raises(ValueError, match="only one class, 1, in all rows"):
        Classifier().fit(X, np.ones(len(X), int))
    with pytest.raises(ValueError, match="3 ranks for 2 rows"):
        Classifier(ranks=3).fit(X[49:51], Y[49:51])
    with pytest.raises(ValueError, match="got the label 2, which is none of the classes"):
        Classifier().partial_fit(X, Y, classes=[0, 1])


def test_a_job_that_fails_is_one_exception() -> None:
    with pytest.raises(RuntimeError, match=r"^(not finite|parameters: not finite|validation)"):
        Regressor(optimizer="sgd", learning_rate=1e20, ranks=2).fit(X, Y)
    with pytest.raises(RuntimeError, match="not finite"):
        Regressor(optimizer="sgd", learning_rate=1e20).fit(X, Y)
    assert Regressor(epochs=2).fit(X, Y).n_iter_ == 2  # the helper is there still


@pytest.mark.parametrize(
    ("labels", "kept"),
    [
        (NAMES, "U"), (NAMES.astype(object), "O"), (Y == 1, "b"), (np.where(Y == 1, 1, -1), "i"), (Y * 100 + 5, "i"),
        (Y.astype(float), "f"),
    ],
)  # fmt: skip
def test_any_labels(labels: np.ndarray, kept: str) -> None:
    classifier = Classifier(epochs=40, hidden=16, learning_rate=0.01).fit(X, labels)
    assert classifier.classes_.dtype.kind == kept
    assert classifier.classes_.tolist() == np.unique(labels).tolist()
    assert (classifier.predict(X) == labels).mean() > 0.9
    assert classifier.predict_proba(X).shape == (150, len(classifier.classes_))
    again = load(classifier.log_)
    assert (again.predict(X).astype(labels.dtype) == classifier.predict(X)).all()
    assert again.classes_.dtype.kind == {"O": "U", "f": "i"}.get(kept, kept)


def test_what_a_fit_knows(tmp_path: Path) -> None:
    frame = load_iris(as_frame=True).data
    for _ in range(2):
        made = Classifier(epochs=4, patience=2, runs=str(tmp_path / "mine")).fit(frame, NAMES)
    assert made.feature_names_in_.tolist() == list(frame.columns)
    assert (made.n_features_in_, made.n_ranks_, made.n_iter_, len(made.loss_curve_)) == (4, 1, 4, 4)
    assert made.loss_ == made.loss_curve_[-1] < made.loss_curve_[0]
    assert len(made.validation_loss_curve_) == 4
    run = Path(made.log_)
    assert run.parent == tmp_path / "mine"
    assert len(list(run.parent.iterdir())) == 2  # one for each fit
    assert [r["loss"] for r in records(run) if r["kind"] == "epoch"] == made.loss_curve_
    with pytest.raises(ValueError, match="feature names should match"):
        made.predict(frame[frame.columns[::-1]])
    again = pickle.loads(pickle.dumps(made))  # noqa: S301 - as joblib keeps models
    assert (again.predict(frame) == made.predict(frame)).all()


def test_load() -> None:
    x, y = load_diabetes(return_X_y=True)
    made = Regressor(epochs=5, hidden=(8,), learning_rate=0.01).fit(x, np.stack([y, -y], axis=1))
    again = load(Path(made.log_).name)
    assert isinstance(again, Regressor)
    assert (again.hidden, again.learning_rate, again.epochs) == ((8,), 0.01, 5)
    assert np.array_equal(again.predict(x), made.predict(x))
    assert again.predict(x).shape == (len(x), 2)
    assert again.loss_curve_ == made.loss_curve_
    assert again.partial_fit(x, np.stack([y, -y], axis=1)).n_iter_ == 6
    with pytest.raises(ValueError, match="run: no run and no file nowhere"):
        load("nowhere")


def test_partial_fit_continues() -> None:
    made = Classifier(optimizer="sgd", learning_rate=0.05, batch_size=0, dtype="float64")
    whole = clone(made).set_params(epochs=5).fit(X, NAMES)
    for _ in range(5):
        made.partial_fit(X, NAMES)
    assert np.allclose(made.predict_proba(X), whole.predict_proba(X), rtol=1e-9)
    assert np.allclose(made.loss_curve_, whole.loss_curve_, rtol=1e-9)
    made.partial_fit(X[:10], NAMES[:10])  # of one class
    assert made.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    with pytest.raises(ValueError, match="got the label tulip, which is none of the classes"):
        made.partial_fit(X[:2], ["tulip", "setosa"])
    small = Classifier(hidden=(4,)).partial_fit(X[:60], Y[:60], classes=[0, 1, 2])
    assert small.predict_proba(X).shape == (150, 3)


def test_class_weights() -> None:
    counts = np.where(Y == 2, 3.0, 1.0)
    made = Classifier(epochs=3, batch_size=0, dtype="float64")
    by_dict = clone(made).set_params(class_weight={2: 3}).fit(X, Y)
    by_row = clone(made).fit(X, Y, sample_weight=counts)
    assert np.allclose(by_dict.predict_proba(X), by_row.predict_proba(X), rtol=1e-10)
    balanced = clone(made).set_params(class_weight="balanced").fit(X[:120], Y[:120])
    rows = clone(made).fit(X[:120], Y[:120], sample_weight=np.where(Y[:120] == 2, 50 / 20, 1))
    assert np.allclose(balanced.predict_proba(X), rows.predict_proba(X), rtol=1e-10)


def test_with_other_parts_of_scikit_learn() -> None:
    frame = (
        load_iris(as_frame=True)
        .data.set_axis(list("abcd"), axis=1)
        .assign(kind=np.where(X[:, 0] > 5.8, "long", "short"))
    )
    columns = ColumnTransformer([("text", OneHotEncoder(), ["kind"]), ("numbers", StandardScaler(), list("abcd"))])
    pipeline = make_pipeline(columns, Classifier(epochs=15, learning_rate=0.01))
    search = GridSearchCV(pipeline, {"classifier__hidden": [(4,), (16, 16)], "classifier__batch_size": [16]}, cv=2)
    search.fit(frame, NAMES)
    assert search.best_score_ > 0.85
    assert search.predict(frame[:3]).tolist() == ["setosa"] * 3


def script(text: str) -> list[str]:
    start = "from sklearn.datasets import load_iris\nX, y = load_iris(return_X_y=True)\n"
    return [sys.executable, "-c", f"import os, signal, sys\n{start}{text}"]


LEFT = """
import threading
from threadpoolctl import threadpool_info
def state():
    handlers = [signal.getsignal(n) for n in range(1, 32) if n not in (9, 19)]
    pools = [(pool["filepath"], pool["num_threads"]) for pool in threadpool_info()]
    return dict(os.environ), handlers, signal.set_wakeup_fd(-1), sys.excepthook, list(sys.path), list(sys.meta_path), \
        threading.active_count(), pools, os.getcwd(), sorted(os.listdir(sys.argv[1])), "mpi4py" in sys.modules
before_import = dict(os.environ)
import workers.estimator
assert dict(os.environ) == before_import
from workers.estimator import Classifier
before = state()
for ranks in (1, 2, 1):
    Classifier(ranks=ranks, epochs=2).fit(X, y)
files = len(os.listdir("/proc/self/fd"))
Classifier(epochs=2).fit(X, y)
assert len(os.listdir("/proc/self/fd")) == files
after = state()
assert after == before, [pair for pair in zip(before, after) if pair[0] != pair[1]]
print("LEFT AS FOUND")
"""


def test_a_process_is_left_as_it_was_found(tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    result = finish(popen([*script(LEFT), str(temporary)], env=environment(TMPDIR=str(temporary))))
    assert (result.code, result.out) == (0, "LEFT AS FOUND\n"), result.err


STOPPED = """
from workers.estimator import Classifier
made = Classifier(ranks=int(sys.argv[1]), epochs=10**8, runs=sys.argv[2]).fit(X, y)
print("KEPT", made.n_iter_ > 0, made.score(X, y) > 0.3)
"""


def first_run(process: "subprocess.Popen[str]", place: Path) -> Path:
    wait_until(lambda: list(place.glob("2*")), process=process)
    (run,) = place.glob("2*")
    return run


def has_ended(run: Path) -> bool:
    return bool(records(run)[-1]["kind"] == "end")


def training(folder: Path) -> Iterator[tuple["subprocess.Popen[str]", Path]]:
    """Yield programs that train without an end, on one rank and on two, with the run folder of each."""
    runs = {ranks: folder / f"runs-{ranks}" for ranks in (1, 2)}
    env = environment(TMPDIR=str(folder))  # which a program that is killed leaves behind
    processes = [popen([*script(STOPPED), str(ranks), str(place)], env=env) for ranks, place in runs.items()]
    for process, place in zip(processes, runs.values(), strict=True):
        run = first_run(process, place)
        wait_for_epochs(process, run, 2)
        yield process, run


def test_ctrl_c_keeps_what_was_learned(tmp_path: Path) -> None:
    for process, run in training(tmp_path):
        process.send_signal(signal.SIGINT)
        result = finish(process)
        assert (result.code, result.out) == (0, "KEPT True True\n"), result.err
        assert "Training was stopped; the model of its last step is kept." in result.err
        assert records(run)[-1]["status"] == "stopped"


def test_training_stops_when_its_program_is_killed(tmp_path: Path) -> None:
    for process, run in training(tmp_path):
        process.kill()
        with contextlib.suppress(AssertionError):
            finish(process)
        wait_until(partial(has_ended, run), "it trains on")
        assert records(run)[-1]["status"] == "stopped"


def test_a_helper_that_dies_is_an_error_and_the_next_fit_has_another() -> None:
    text = """
import glob, threading, time
from workers.estimator import Classifier
from workers.estimators.processes import HELPERS
Classifier(epochs=1).fit(X, y)
pid = HELPERS._idle[0].process.pid
def kill():
    while not glob.glob("runs/*-2/coordinator.msgpack") and len(glob.glob("runs/2*")) < 2:
        time.sleep(0.01)
    os.kill(pid, 9)
threading.Thread(target=kill).start()
try:
    Classifier(epochs=10**8).fit(X, y)
except RuntimeError as error:
    print(error)
print(Classifier(epochs=1).fit(X, y).n_iter_)
os.kill(HELPERS._idle[0].process.pid, 9)
HELPERS._idle[0].process.wait()
print(Classifier(epochs=2).fit(X, y).n_iter_)
"""
    result = finish(popen(script(text)))
    assert (result.code, result.out) == (0, "the process that trained has ended\n1\n2\n"), result.err


def test_forked_and_threaded_fits() -> None:
    text = """
from concurrent.futures import ThreadPoolExecutor
from workers.estimator import Classifier
def fit(seed):
    return Classifier(epochs=2, seed=seed).fit(X, y).loss_
losses = [fit(seed) for seed in range(4)]
with ThreadPoolExecutor(4) as pool:
    assert list(pool.map(fit, range(4))) == losses
pid = os.fork()
if not pid:
    assert fit(2) == losses[2]
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
assert fit(1) == losses[1]
print("ALIKE")
"""
    result = finish(popen(script(text)))
    assert (result.code, result.out) == (0, "ALIKE\n"), result.err


def test_progress_is_shown_if_it_is_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Classifier(epochs=2).fit(X, Y)
    assert capsys.readouterr() == ("", "")
    Classifier(epochs=2, verbose=True).fit(X, Y)
    assert re.search(r"^Epoch 2/2: loss \d", capsys.readouterr().out, re.MULTILINE)
    monkeypatch.setenv("RANKWISE_EPOCHS", "7")  # options in the environment are for commands
    assert Classifier(epochs=2, verbose=2, ranks=2).fit(X, Y).n_iter_ == 2
    assert "Process 1, Epoch 2: Contribution to" in capsys.readouterr().out


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "python.md").read_text(), re.DOTALL | re.MULTILINE)


def test_under_mpirun(tmp_path: Path) -> None:
    """What the page shows for mpirun runs there, too."""
    (example,) = (block for block in blocks() if "mpirun" in block)
    (tmp_path / "train.py").write_text(example)
    result = mpirun(2, str(PROGRAMS / "estimates.py"), str(tmp_path), env=environment(OMP_NUM_THREADS="1"))
    assert result.code == 0, result.out + result.err
    assert result.out.splitlines().count("2 True True") == 2
    (line,) = (line for line in result.out.splitlines() if line.startswith("RESULT "))
    found = json.loads(line.removeprefix("RESULT "))
    assert (found["ranks"], found["alone"], found["epochs"]) == (2, 1, 4)
    assert found["same"]
    assert found["all_ranks_alike"]
    alone = Classifier(epochs=3, dtype="float64").fit(X, NAMES)
    assert np.allclose(found["probabilities"], alone.predict_proba(X), rtol=1e-9)
    assert found["labels"] == alone.predict(X[:2]).tolist()
    assert found["shared"] > 0.4
    starts = ("epochs: got 0", "mode: unknown value", "Found array with 0 feature", "not finite")
    assert [error.startswith(start) for error, start in zip(found["errors"], starts, strict=True)] == [True] * 4
    assert found["handlers"]
    assert found["variables"] == {}
    assert Path(found["log"]).parent == tmp_path / "runs"


def test_without_a_launcher_a_message_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert os.path.exists(MPIRUN)
    monkeypatch.setenv("MPI4PY_LIBMPI", "/nowhere/libmpi.so")
    with pytest.raises(ValueError, match="MPI library"):
        Classifier(ranks=2).fit(X, Y)


@pytest.mark.slow
def test_examples_of_the_page(tmp_path: Path) -> None:
    """All in one process, as in a notebook, but the one for mpirun."""
    here = [block for block in blocks() if "mpirun" not in block]
    assert len(here) == 4
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    result = finish(popen([sys.executable, "-c", "\n".join(here)], cwd=tmp_path))
    assert result.code == 0, result.err
    prices, digits, search, loaded = result.out.splitlines()
    assert len(prices.strip("[]").split()) == 3
    assert float(digits.split()[0]) > 0.95
    assert "classifier__hidden" in search
    assert re.fullmatch(r"(Classifier|Regressor) \d+ True", loaded)
