"""The estimators: what scikit-learn asks of them, how ranks are started and stopped, and what a fit leaves behind."""

import contextlib
import copy
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
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from common.config import OPTIONS
from common.data import handed_over
from common.data.stacked import is_mapped
from common.option import DATA
from tests.ranks import MPIRUN, PROGRAMS, environment, finish, mpirun, popen, records, wait_for_epochs, wait_until
from workers.estimator import Classifier, Regressor, load
from workers.estimators import frames
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "check"),
    [
        (Classifier, "check_classifiers_classes"),
        (Classifier, "check_classifiers_train"),
        (Classifier, "check_estimators_pickle"),
        (Regressor, "check_estimators_dtypes"),
        (Regressor, "check_methods_sample_order_invariance"),
        (Regressor, "check_regressors_train"),
    ],
)
def test_further_checks_with_two_ranks(kind: type, check: str, quiet: None) -> None:
    getattr(estimator_checks, check)(kind.__name__, kind(ranks=2))


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
    told = {column["name"]: column["became"] for column in records(Path(made.log_))[0]["data"]["columns"]}
    assert told == {
        "length": "number, missing flagged", "kind": "one-hot, 3 features", "day": "month, weekday",
        "is_long": "one-hot, 2 features",
    }  # fmt: skip
    assert made.feature_names_in_.tolist() == ["length", "kind", "day", "is_long"]
    assert made.n_features_in_ == 4
    assert made.score(frame, NAMES) > 0.9
    again = load(made.log_)
    assert again.feature_names_in_.tolist() == made.feature_names_in_.tolist()
    other = frame[frame.columns[::-1]]
    assert (again.predict(other) == made.predict(frame)).all()  # columns go by their names
    assert made.partial_fit(frame[:20], NAMES[:20]).n_iter_ == 31
    wrong = frame[:3].to_dict(**({"as_series": False} if library == "polars" else {"orient": "list"}))
    wrong["length"] = ["1", "much", "2"]
    with pytest.raises(ValueError, match=r"X, row 1: column 'length': got 'much'; allowed is a finite number"):
        made.predict(type(frame)(wrong))
    with pytest.raises(ValueError, match="X: no column 'kind', which the model was trained with; got length"):
        made.predict(frame[["length", "day", "is_long"]])
    with pytest.raises(ValueError, match="X: got ndarray; this model takes a frame with the columns length, kind"):
        made.predict(X)


def test_columns_of_frames_keep_what_their_types_say() -> None:
    """The same features from pandas' types as from polars', and as of a file with these texts."""
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    n = 24
    when = pd.date_range("2024-01-01 23:30", periods=n, freq="h", tz="America/New_York")
    frame = pd.DataFrame(
        {
            "zip": pd.Categorical([8001, 8002, 10] * 8), "when": when,
            "took": pd.to_timedelta(np.arange(n), unit="min"),
            "n": pd.array([1, None, 3] * 8, dtype="Int64"), "is": pd.array([True, None, False] * 8, dtype="boolean"),
            "text": pd.array(["a", None, "b"] * 8, dtype="string"), "half": np.arange(n, dtype=np.float16),
        }
    )  # fmt: skip
    decided = frames.decide(frame)
    kinds = {column.name: column.kind for column in decided.preprocessing.columns}
    assert kinds == {
        "zip": "category", "when": "date", "took": "number", "n": "number", "is": "category", "text": "category",
        "half": "number",
    }  # fmt: skip
    x = frames.encode(frame, decided.preprocessing)
    texts = pl.DataFrame(
        {
            name: pl.Series([None if gone else str(cell) for cell, gone in zip(cells, cells.isna(), strict=True)])
            for name, cells in frame.items()
        }
    )
    other = texts.with_columns(
        pl.Series("when", when.tz_convert("UTC").tz_localize(None).to_numpy()).dt.replace_time_zone("UTC"),
        pl.Series("took", frame["took"].to_numpy()), pl.col("zip").cast(pl.Categorical),
    ).select(frame.columns)  # fmt: skip
    assert frames.decide(other).preprocessing == decided.preprocessing
    np.testing.assert_array_equal(frames.encode(other, decided.preprocessing), x)


def test_frames_that_cannot_be_learned_from() -> None:
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    notes = [f"note {i}" for i in range(24)]
    with pytest.warns(UserWarning, match=r"nothing is learned from 'note' \(mostly unique\) and 'one' \(constant\)$"):
        frames.decide(pd.DataFrame({"x": np.arange(24), "note": notes, "one": "1"}))
    for frame, error in (
        (
            pd.DataFrame({"x": [*range(23), "much"]}),
            r"put NaN in place of 'much' if .* with X\['x'\].astype\('category'\)$",
        ),
        (pd.DataFrame([[1, "a"]] * 4, columns=["x", "x"]), "two columns are called 'x'; rename one"),
        (pd.DataFrame({"x": ["a"] * 4}), "X: no column is left to learn from$"),
        (pl.DataFrame({"x": [1.0, float("nan"), 1e300]}), r"got '1e\+300'.*use X.drop\(columns='x'\)$"),
    ):
        with pytest.raises(ValueError, match=error):
            Classifier().fit(frame, np.arange(len(frame)) % 2)
    with pytest.raises(TypeError, match=r"got a LazyFrame; give X.collect\(\)"):
        Classifier().fit(pl.DataFrame({"x": [1, 2]}).lazy(), [0, 1])


def test_any_array_of_numbers() -> None:
    made = Classifier(epochs=2, dtype="float64")
    expected = made.fit(X.round(), Y).predict_proba(X.round())
    for kind in (np.float16, np.longdouble, np.int8, np.uint64, object, ">f8"):
        x = np.asfortranarray(X.round().astype(kind))
        np.testing.assert_allclose(made.fit(x, Y).predict_proba(x), expected, rtol=1e-12)
    assert made.fit(X > 3, Y).n_features_in_ == 4
    assert Classifier(epochs=1).fit(X.astype(np.float16), Y).score(X, Y) > 0.3
    with pytest.raises(TypeError, match=r"[Ss]parse data"):
        made.fit(OneHotEncoder().fit_transform(X), Y)


def test_ranks_map_arrays_of_any_order(tmp_path: Path) -> None:
    about: dict[str, Any] = {"features": [], "labels": [], "columns": [], "preprocessing": None}
    for name, x in {"c": X, "fortran": np.asfortranarray(X), "part": X[::2, ::-1]}.items():
        raw = handed_over.read(Path(handed_over.write(tmp_path / name, {"x": x, "y": Y[: len(x)]}, about)))
        assert is_mapped(raw.x)
        np.testing.assert_array_equal(raw.x[:], x)


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
    with pytest.raises(ValueError, match=r"sample_weight: all are 0|at least one non-zero"):
        Classifier().fit(X, Y, sample_weight=np.zeros(len(Y)))
    for weights, message in (({3: 2}, "got the label 3, which is none"), ({0: np.inf}, "allowed are finite numbers")):
        with pytest.raises(ValueError, match=f"class_weight: {message}" if 3 in weights else message):
            Classifier(class_weight=weights).fit(X, Y)
    made = Classifier(epochs=1).fit(X, Y)
    with pytest.raises(ValueError, match="only one class"):
        made.fit(X[:, :2], np.ones(len(X), int))
    with pytest.raises(NotFittedError):  # not what another fit has learned, with what is known of these data
        made.predict(X)


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
        made = Classifier(epochs=4, patience=2, runs=tmp_path / "mine").fit(frame, NAMES)
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
    for again in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):  # noqa: S301 - as joblib keeps models
        assert (again.predict(frame) == made.predict(frame)).all()
        assert again.loss_curve_ == made.loss_curve_
    assert not hasattr(clone(made), "classes_")


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
    """With the optimizer as it was, on any number of ranks, also in a copy."""
    made = Classifier(learning_rate=0.01, batch_size=0, dtype="float64")
    whole = clone(made).set_params(epochs=4).fit(X, NAMES)
    for ranks in (1, 1, 2, 1):
        made = copy.deepcopy(made.set_params(ranks=ranks, mode="shared").partial_fit(X, NAMES))
    assert not list(Path(made.log_).glob("checkpoint*"))
    assert np.allclose(made.predict_proba(X), whole.predict_proba(X), rtol=1e-9)
    assert np.allclose(made.loss_curve_, whole.loss_curve_, rtol=1e-9)
    anew = copy.deepcopy(made).set_params(optimizer="sgd").partial_fit(X, NAMES)  # which has no such state
    assert anew.n_iter_ == 5
    made.partial_fit(X[:10], NAMES[:10])  # of one class
    assert made.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    with pytest.raises(ValueError, match="got the label tulip, which is none of the classes"):
        made.partial_fit(X[:2], ["tulip", "setosa"])
    small = Classifier(hidden=(4,)).partial_fit(X[:60], Y[:60], classes=[0, 1, 2])
    assert small.predict_proba(X).shape == (150, 3)


OWN = """
from common.nn.functional import SoftmaxCrossEntropy
class Model:
    loss = SoftmaxCrossEntropy()
    def __init__(self, n_features, n_outputs): self.n = n_features, n_outputs
    def shapes(self): return {"W": self.n}
    def init(self, params, rng): params["W"][...] = SCALE
    def predict(self, params, x): return x @ params["W"]
    def loss_grad(self, params, x, y, grads, ready):
        grads["W"][...] = 0
        return float(len(x))
"""


def test_a_class_of_ones_own_is_that_of_the_folder_as_it_is_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Classifier(epochs=1).fit(X, Y)  # in a helper, which goes on
    for scale in (1, 2):
        (tmp_path / str(scale)).mkdir()
        monkeypatch.chdir(tmp_path / str(scale))
        Path("own_of_a_folder.py").write_text(OWN.replace("SCALE", str(scale)))
        made = Classifier(model="own_of_a_folder:Model", epochs=1, check_model=False).fit(X, Y)
        with np.load(Path(made.log_, "model.npz")) as file:
            assert (file["W"] == scale).all()


def test_class_weights() -> None:
    counts = np.where(Y == 2, 3.0, 1.0)
    made = Classifier(epochs=3, batch_size=0, dtype="float64")
    by_dict = clone(made).set_params(class_weight={2: 3}).fit(X, Y)
    by_row = clone(made).fit(X, Y, sample_weight=counts)
    assert np.allclose(by_dict.predict_proba(X), by_row.predict_proba(X), rtol=1e-10)
    texts = clone(made).set_params(class_weight={"virginica": 3.0}).fit(X, NAMES, sample_weight=1 / counts)
    assert np.allclose(texts.predict_proba(X), clone(made).fit(X, Y).predict_proba(X), rtol=1e-10)
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
        threading.active_count(), pools, os.getcwd(), "mpi4py" in sys.modules, \
        [name for name in os.listdir(sys.argv[1]) if not name.startswith("ompi.")]  # which a helper's MPI has there
before_import = dict(os.environ)
import workers.estimator
assert dict(os.environ) == before_import
from workers.estimator import Classifier
before = state()
Classifier(epochs=2).fit(X, y)
thread = threading.Thread(target=Classifier(epochs=2, ranks=2, verbose=2).fit, args=(X, y))
thread.start()
thread.join()
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
    env = environment(TMPDIR=str(temporary), RANKWISE_EPOCHS="7")  # options in the environment are for commands
    result = finish(popen([*script(LEFT), str(temporary)], env=env))
    assert result.code == 0, result.err
    assert result.out.splitlines()[-1] == "LEFT AS FOUND"
    assert "Process 1, Epoch 2: Contribution to" in result.out
    assert "Epoch 3" not in result.out
    assert all(path.name.startswith("ompi.") for path in temporary.iterdir())  # which Open MPI leaves


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
from sklearn.model_selection import GridSearchCV
def fit(seed):
    return Classifier(epochs=2, seed=seed).fit(X, y).loss_
losses = [fit(seed) for seed in range(4)]
grid = {"hidden": [(4,), (8,)]}
found = [GridSearchCV(Classifier(epochs=2), grid, cv=2, n_jobs=n).fit(X, y).cv_results_ for n in (None, 2)]
assert (found[0]["mean_test_score"] == found[1]["mean_test_score"]).all()
with ThreadPoolExecutor(2) as pool:
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


def test_progress_is_shown_if_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    Classifier(epochs=2).fit(X, Y)
    assert capsys.readouterr() == ("", "")
    Classifier(epochs=2, verbose=True).fit(X, Y)
    assert re.search(r"^Epoch 2/2: loss \d", capsys.readouterr().out, re.MULTILINE)


def blocks(page: Path = ROOT / "docs" / "python.md") -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def test_under_mpirun(tmp_path: Path) -> None:
    """What the page shows for mpirun runs there, too."""
    (example,) = (block for block in blocks() if "mpirun" in block)
    (tmp_path / "train.py").write_text(example)
    result = mpirun(2, str(PROGRAMS / "estimates.py"), str(tmp_path), env=environment(OMP_NUM_THREADS="1"))
    assert result.code == 0, result.out + result.err
    assert result.out.splitlines().count("2 True True") == 2
    (line,) = (line for line in result.out.splitlines() if line.startswith("RESULT "))
    found = json.loads(line.removeprefix("RESULT "))
    assert (found["ranks"], found["alone"], found["epochs"], found["in_child"]) == (2, 1, 4, 11)
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
    here = [block for block in (*blocks(), *blocks(ROOT / "README.md")) if "mpirun" not in block]
    assert len(here) == 5
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    result = finish(popen([sys.executable, "-c", "\n".join(here)], cwd=tmp_path))
    assert result.code == 0, result.err
    prices, digits, search, loaded, species = result.out.splitlines()
    assert len(prices.strip("[]").split()) == 3
    assert float(digits.split()[0]) > 0.95
    assert "classifier__hidden" in search
    assert re.fullmatch(r"(Classifier|Regressor) \d+ True", loaded)
    assert species == "['Adelie' 'Adelie' 'Adelie']"
