"""A model class of one's own: found, checked, and trained like the built-in ones."""

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from common.config import RunConfig
from common.errors import ConfigError, DataError, RankwiseError
from common.nn.custom_model import load
from common.nn.models import Model
from docs.examples.own_model import SkipNet
from tests.gradcheck import assert_gradient
from tests.ranks import Result, records
from workers.prediction.run_model import load_model
from workers.training.first_look import note_check

Job = Callable[..., Result]
Find = Callable[..., Model]
EXAMPLE = Path(__file__).parent.parent / "docs" / "examples" / "own_model.py"
RNG = np.random.default_rng(4)
# sums of losses and class counts of 97 training rows differ by rank: no number of ranks divides them
OPTIONS = ["--model", "own_model:SkipNet", "--dtype", "float64", "--epochs", "2", "--batch-size", "10",
           "--learning-rate", "0.01", "--test-fraction", "0.2", "--validation-fraction", "0.1"]  # fmt: skip


def test_the_examples_gradient_is_numeric() -> None:
    assert_gradient(SkipNet(5, 4), RNG.standard_normal((7, 5)), RNG.integers(0, 4, 7))


def test_the_check_in_the_documentation_finds_a_wrong_gradient() -> None:
    code = re.search(r"```python\n(.*?)```", (EXAMPLE.parent.parent / "own-model.md").read_text(), re.DOTALL)
    assert code
    exec(code[1], {})
    wrong = f"{code[1]}flat.grad_vector[3] *= 1.01\n"
    with pytest.raises(AssertionError):
        exec(wrong + code[1].splitlines()[-1], {})


def test_the_example_takes_no_rows() -> None:
    """A rank may have none in a step."""
    model, none = SkipNet(5, 4), np.empty((0, 5))
    params = {name: np.ones(shape) for name, shape in model.shapes().items()}
    grads = {name: np.full(shape, np.nan) for name, shape in model.shapes().items()}
    assert model.loss_grad(params, none, np.empty(0, np.int64), grads, lambda name: None) == 0
    assert all((grad == 0).all() for grad in grads.values())


@pytest.fixture
def trained(job: Job, tmp_path: Path) -> Callable[..., dict[str, np.ndarray]]:
    """Train the example from the folder the job starts in; return its parameters."""
    shutil.copy(EXAMPLE, tmp_path)
    y = np.repeat([0, 1, 2], [45, 44, 50])
    np.savez(tmp_path / "rows.npz", X=RNG.standard_normal((139, 6)) + y[:, None], y=y)

    def train(n: int, mode: str, *more: str) -> dict[str, np.ndarray]:
        folder = tmp_path / f"{mode}-{n}"
        result = job(n, *OPTIONS, "--data", "rows.npz", "--mode", mode, "--output", str(folder), *more)
        assert result.code == 0, result.err
        with np.load(folder / "model.npz") as arrays:
            return {name: array for name, array in arrays.items() if name != "facts"}

    return train


def test_it_trains_in_every_kind_of_mode_like_one_rank(
    trained: Callable[..., dict[str, np.ndarray]], tmp_path: Path
) -> None:
    expected = trained(1, "allreduce")
    assert set(expected) == {"W", "a", "S", "V", "c", "x_mean", "x_scale", "classes", "baseline"}
    header, *_, end = records(tmp_path / "allreduce-1")
    assert header["model"]["kind"] == "own_model:SkipNet"
    assert header["model"]["sizes"] == []
    assert header["model"]["loss"] == "SoftmaxCrossEntropy"
    assert header["model"]["parameters"]["V"] == [32, 3]
    assert end["test_metric"] > 0.5  # of three classes
    for n, mode in ((2, "allreduce"), (2, "shared"), (3, "factors")):
        found = trained(n, mode)
        for name, value in found.items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-10, atol=1e-13, err_msg=f"{mode} {name}")
    assert records(tmp_path / "factors-3")[0]["sync"]["factored"] == []


def test_no_reader_of_a_run_imports_a_changed_class(
    trained: Callable[..., dict[str, np.ndarray]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sklearn")
    from workers.estimator import load as load_estimator

    trained(1, "allreduce")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "own_model.py"
    with file.open("a") as text:
        text.write("\nraise RuntimeError('it was imported')\n")
    with pytest.raises(ConfigError, match=r"is not what the run was trained with .* add --trust-model"):
        load_model(tmp_path / "allreduce-1" / "model.npz", trust=False)
    with pytest.raises(ValueError, match=r"is not what the run was trained with .* add trust_model=True"):
        load_estimator(tmp_path / "allreduce-1")
    shutil.copy(EXAMPLE, tmp_path)
    x = np.load(tmp_path / "rows.npz")["X"]
    assert load_estimator(tmp_path / "allreduce-1").predict_proba(x).shape == (len(x), 3)


def test_a_wrong_class_is_told_once_by_all_ranks(job: Job, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("class Net:\n    def __init__(self, n_features):\n        pass\n")
    result = job(2, "--model", "mine:Net")
    assert result.code == 2
    assert result.err.startswith("rankwise: model mine:Net: Net(64, 10) failed: TypeError: ")
    assert result.err.count("rankwise:") == 1
    assert "Traceback" not in result.err


WRONG = """
from docs.examples.own_model import SkipNet

class Mean(SkipNet):
    def loss_grad(self, params, x, y, grads, ready):
        loss = super().loss_grad(params, x, y, grads, ready)
        grads["V"][...] /= max(1, len(x))
        return loss

class Replaces(SkipNet):
    def init(self, params, rng):
        for name, value in params.items():
            params[name] = rng.standard_normal(value.shape)
"""


@pytest.mark.parametrize(
    ("name", "mode", "message"),
    [
        ("Mean", "shared", r"grads\['V'\]\[\d+, \d\] is \S+, but the numeric derivative of the loss of 7 rows is \S+; "
         "that is 1/7 of it: .*; if that is meant, leave this check out with --no-check-model\n"),
        ("Replaces", "auto", r"init\(\) failed: TypeError: params\['W'\] = ... would replace an array that is sent .*: "
         r"params\['W'\]\[...\] = value \(wrong.py, line 13\)\n"),
    ],
)  # fmt: skip
def test_a_mistake_ends_the_job_before_training(job: Job, tmp_path: Path, name: str, mode: str, message: str) -> None:
    (tmp_path / "wrong.py").write_text(WRONG)
    result = job(2, "--model", f"wrong:{name}", "--mode", mode)
    assert (result.code, result.out) == (2, "")
    assert re.match(f"rankwise: model wrong:{name}: {message}", result.err)
    assert result.err.count("rankwise:") == 1
    assert not (tmp_path / "run").exists()


def test_one_that_is_meant_trains_if_it_is_not_checked(job: Job, tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(WRONG)
    result = job(2, "--model", "wrong:Mean", "--no-check-model", "--epochs", "1")
    assert result.code == 0, result.err
    assert not [r for r in records(tmp_path / "run") if r.get("what") == "model-check"]
    again = job(2, "--resume", str(tmp_path / "run"), "--no-check-model")
    assert "model wrong" not in again.err


def test_the_check_leaves_training_as_it_was(trained: Callable[..., dict[str, np.ndarray]], tmp_path: Path) -> None:
    for mode in ("send-recv", "shared"):
        with_check = trained(2, mode)
        (event,) = (r for r in records(tmp_path / f"{mode}-2") if r.get("what") == "model-check")
        assert event["derivatives"] > 50
        assert event["seconds"] > 0
        shutil.rmtree(tmp_path / f"{mode}-2")
        without = trained(2, mode, "--no-check-model")
        assert all(value.tobytes() == without[name].tobytes() for name, value in with_check.items())


@pytest.mark.parametrize("mode", ["allreduce", "shared"])
def test_the_built_in_model_is_checked_if_asked(job: Job, tmp_path: Path, mode: str) -> None:
    result = job(2, "--check-model", "--epochs", "1", "--mode", mode, "--activation", "gelu")
    assert result.code == 0, result.err
    (event,) = (r for r in records(tmp_path / "run") if r.get("what") == "model-check")
    assert event["derivatives"] > 20


def test_a_check_that_could_not_compare_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    events: list[Any] = []
    coordinator: Any = SimpleNamespace(
        config=RunConfig(model="own:Net"), event=lambda what, **fields: events.append((what, fields))
    )
    for derivatives in (3, 0):
        note_check(coordinator, {"derivatives": derivatives, "seconds": 0.5})
    assert events == [("model-check", {"derivatives": n, "seconds": 0.5}) for n in (3, 0)]
    said = "The gradient of own:Net was not compared with numeric derivatives: the model is too large or too slow; "
    assert capsys.readouterr().out == f"{said}try it with fewer parameters.\n"


@pytest.fixture
def find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Find]:
    """Write code to own.py in the current folder and load its Net for 3 features and so many classes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def find(code: str, n_classes: int = 2) -> Model:
        (tmp_path / "own.py").write_text(code)
        return load("own:Net", 3, n_classes, 1)

    yield find
    sys.modules.pop("own", None)


GOOD = """
from common.functional import LogisticCrossEntropy, MeanSquaredError, SoftmaxCrossEntropy

class Net:
    loss = SoftmaxCrossEntropy()
    shape = {"w": (3, 2)}
    def __init__(self, n_features, n_outputs): pass
    def shapes(self): return self.shape
    def init(self, params, rng): pass
    def predict(self, params, x): pass
    def loss_grad(self, params, x, y, grads, ready): pass

"""


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import no_such_library", "importing own failed: ModuleNotFoundError: No module named 'no_such_library' "
         r"\(own.py, line 1\)"),
        ("1 / 0", r"importing own failed: ZeroDivisionError: division by zero \(own.py, line 1\)"),
        ("def (", "importing own failed: SyntaxError: .*own.py, line 1"),
        ("import sys\nsys.exit(3)", r"importing own failed: SystemExit: 3 \(own.py, line 2\)"),
        ("class Nest: pass", "own has no class Net; it has Nest"),
        ("Net = 3", "own has no class Net; it has no class at all"),
        ("class Net: pass", r"Net\(3, 2\) failed: TypeError: Net\(\) takes no arguments$"),
        (GOOD + "    def __init__(self, n, m):\n        n[0]", r"Net\(3, 2\) failed: TypeError: .* \(own.py, "),
        (GOOD + "    predict = init = None", "has no method init, predict; a model has shapes, init, "),
        (GOOD + "    def shapes(self): raise KeyError('w')", r"shapes\(\) failed: KeyError: 'w' \(own.py, line 1\d\)"),
        (GOOD + "    shape = [('w', (3, 2))]", r"shapes\(\) returned \[\('w', \(3, 2\)\)\]; it returns a dict"),
        (GOOD + "    shape = {}", r"shapes\(\) returned {}; it returns a dict"),
        (GOOD + "    shape = {1: (3,)}", r"shapes\(\) has a parameter 1; allowed is a name of letters"),
        (GOOD + "    shape = {'a b': (3,)}", r"shapes\(\) has a parameter 'a b'; allowed is a name of letters"),
        (GOOD + "    shape = {'file': (3,)}", r"shapes\(\) has a parameter 'file'; .* but not file, "),
        (GOOD + "    shape = {'w': 3}", r"shapes\(\) gives w the shape 3; allowed is a tuple of int above 0"),
        (GOOD + "    shape = {'w': (3, 0)}", r"shapes\(\) gives w the shape \(3, 0\); allowed is"),
        (GOOD + "    shape = {'w': (3, 2.0)}", r"shapes\(\) gives w the shape \(3, 2.0\); allowed is"),
        (GOOD + "    shape = {'w': (2**30, 2**30)}", r"shapes\(\) asks for more than 1099511627776 numbers"),
        ("from common.nn.mlp import Mlp\nclass Net(Mlp):\n    def __init__(self, n, m):\n"
         "        super().__init__((n, m), 'relu', None)", "it is a subclass of Mlp, and would be trained as an Mlp"),
        (GOOD + "    loss = None", "its loss, None, has no method encode, sum, correct; take one of "),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_class_is_said(find: Find, code: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^model own:Net: {message}"):
        find(code)


@pytest.mark.parametrize(
    ("loss", "n_classes", "message"),
    [
        ("MeanSquaredError", 3, "its loss takes numbers, but the target is read as classes; add --loss mse"),
        ("SoftmaxCrossEntropy", 0, "its loss takes classes, but the target is read as numbers; "),
        ("LogisticCrossEntropy", 3, "the target has 3 classes; its loss takes 2"),
    ],
)
def test_a_target_of_the_other_kind_is_refused(find: Find, loss: str, n_classes: int, message: str) -> None:
    with pytest.raises(DataError, match=f"^model own:Net: {message}"):
        find(f"{GOOD}    loss = {loss}()", n_classes)


def test_a_module_that_is_not_there_is_named(find: Find) -> None:
    assert find(GOOD).shapes() == {"w": (3, 2)}
    for name, message in (("own.inner:Net", "no module own.inner, neither"), ("lost.own:Net", "no module lost, ")):
        with pytest.raises(ConfigError, match=message):
            load(name, 3, 2, 1)


@pytest.mark.parametrize("name", ["own:", ":Net", "own.py:Net:x", "a/b.py:Net", "a..b:Net", "C:\\net", "own:Net()"])
def test_a_wrong_name_is_refused_before_anything_is_imported(name: str) -> None:
    with pytest.raises(RankwiseError, match=r"^model: got '.*'; a class of one's own is named package.module:Class"):
        RunConfig(model=name)
