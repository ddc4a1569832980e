"""Weights of rows and classes: a row of weight k is k rows, in every mode; and nothing leaks out of rows held out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss, mean_squared_error, r2_score
from sklearn.utils.class_weight import compute_sample_weight

from common.config import RunConfig
from common.data.dataset import Dataset, Raw, check
from common.data.scaling import moments
from common.errors import DataError
from common.nn.model_file import ModelFile
from ps.sync.modes import MODES
from tests.ranks import SharedStart, epochs, records

RNG = np.random.default_rng(3)
N, N_HELD = 61, 40
X = RNG.standard_normal((N + 2 * N_HELD, 4))
Z = X @ RNG.standard_normal((4, 3)) + 0.3 * RNG.standard_normal((len(X), 3))
TARGETS = {
    "classes": Z.argmax(axis=1) * 5 + 1,
    "two": (Z[:, 0] > 0).astype(int),
    "numbers": 1e4 + Z[:, :2] * [1.0, 50.0],
    "labels": (Z > 0).astype(int),
}
WEIGHT = RNG.integers(0, 4, len(X))
COMMON = ["--dtype", "float64", "--hidden", "8", "--epochs", "4", "--optimizer", "momentum", "--learning-rate", "0.1"]
WHOLE = [*COMMON, "--batch-size", "0", "--clip", "2", "--weight-decay", "0.01", "--test-fraction", "0",
         "--validation-fraction", "0"]  # fmt: skip
SMALL = [*COMMON, "--batch-size", "7"]
MODEL = {"two": ["--model", "logistic"]}
TRAIN, VALIDATION, TEST = slice(N), slice(N, N + N_HELD), slice(N + N_HELD, None)
FRACTIONS = ("--test-fraction", "0.3", "--validation-fraction", "0.2")
CHANGED = {name: ("--data", f"{name}.npz") for name in ("group", "time", "chance")}


def save(folder: Path, name: str, y: np.ndarray, rows: Any = TRAIN, **more: Any) -> None:
    np.savez(folder / f"{name}.npz", X=X[rows], y=y[rows], **more)


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> SharedStart:
    folder = tmp_path_factory.mktemp("weights")
    repeated = np.repeat(np.arange(N), WEIGHT[TRAIN])
    named: dict[str, tuple[int, list[str]]] = {}

    def job(name: str, n: int, data: str, *options: str) -> None:
        named[name] = n, ["-m", "workers.run", "--data", str(folder / f"{data}.npz"), *options]

    for task, y in TARGETS.items():
        held = {"X_val": X[VALIDATION], "y_val": y[VALIDATION], "X_test": X[TEST], "y_test": y[TEST]}
        weights = {"sample_weight": WEIGHT[TRAIN], "sample_weight_val": WEIGHT[VALIDATION],
                   "sample_weight_test": WEIGHT[TEST]}  # fmt: skip
        save(folder, f"{task}-repeated", y, repeated)
        save(folder, f"{task}-weighted", y, sample_weight=WEIGHT[TRAIN])
        save(folder, f"{task}-left-out", y, np.flatnonzero(WEIGHT[TRAIN]), of_row=WEIGHT[TRAIN][WEIGHT[TRAIN] > 0])
        save(folder, f"{task}-held", y, **held, **weights)
        job(f"{task}-repeated", 1, f"{task}-repeated", *WHOLE, *MODEL.get(task, []))
        for mode in MODES:
            for n in (1, 2, 3):
                job(f"{task}-{mode}-{n}", n, f"{task}-weighted", *WHOLE, *MODEL.get(task, []), "--mode", mode)
        job(f"{task}-0", 2, f"{task}-weighted", *SMALL)
        job(f"{task}-left-out", 2, f"{task}-left-out", *SMALL, "--weight", "of_row")
        for n in (1, 3):
            job(f"{task}-held-{n}", n, f"{task}-held", *SMALL)
    y = TARGETS["classes"]
    save(folder, "balanced", y)
    save(folder, "by-hand", y, sample_weight=compute_sample_weight("balanced", y[TRAIN]))
    for name, options in (("balanced", ["--class-weight", "balanced"]), ("by-hand", [])):
        job(name, 2, name, *WHOLE, *options)
    _leaks(folder, job)
    return SharedStart(folder, named)


def _leaks(folder: Path, job: Any) -> None:
    """Save data twice, with everything else in the rows held out, for each way to hold rows out."""
    rng = np.random.default_rng(11)
    n = 120
    x, group, time = rng.standard_normal((n, 4)), rng.integers(0, 20, n), rng.permutation(n).astype(float)
    for task in ("classes", "numbers", "labels"):
        y, odd = TARGETS[task][:n], TARGETS[task][:n].copy()
        for how in ("group", "time", "chance", "sets"):
            options = [*SMALL, *FRACTIONS]
            of_rows = {"group": {"g": group}, "time": {"t": time}}.get(how, {})
            options += {"group": ["--group", "g"], "time": ["--time", "t"]}.get(how, [])
            given = how == "sets"
            arrays = {"X_val": x[60:90], "y_val": y[60:90], "X_test": x[90:], "y_test": y[90:]} if given else {}
            rows = slice(60) if given else slice(None)
            whole = {"X": x[rows], "y": y[rows], **of_rows, "sample_weight": rng.uniform(1, 2, n)[rows], **arrays}
            np.savez(folder / f"leak-{task}-{how}.npz", **whole)
            sets = ((x[60:90], y[60:90]), (x[90:], y[90:])) if given else (None, None)
            raw = Raw("data", whole["X"], whole["y"], group=of_rows.get("g"), time=of_rows.get("t"),
                      validation=sets[0], test=sets[1])  # fmt: skip
            config = RunConfig(group="g" * (how == "group"), time="t" * (how == "time"), test_fraction=0.3,
                               validation_fraction=0.2)  # fmt: skip
            data = check(raw, config)
            held = np.concatenate([data.validation, data.test])
            other_x, other_y = x.copy(), y.copy()
            other_x[held] = rng.standard_normal((len(held), 4)) * [1e30, 1.0, 0.0, -1e6]
            if how != "chance" or task != "classes":  # classes are split by their labels
                other_y[held] = odd[rng.permutation(n)[: len(held)]] * (1e6 if task == "numbers" else 1)
            others = {"X_val": other_x[60:90], "y_val": other_y[60:90], "X_test": other_x[90:], "y_test": other_y[90:]}
            changed = {**whole, "X": other_x[rows], "y": other_y[rows], **(others if given else {})}
            if not given:
                changed["sample_weight"] = whole["sample_weight"].copy()
                changed["sample_weight"][held] *= 1000
            np.savez(folder / f"leak-{task}-{how}-other.npz", **changed)
            for name in (f"leak-{task}-{how}", f"leak-{task}-{how}-other"):
                job(name, 2, name, *options)


def parameters(run: Path) -> dict[str, np.ndarray]:
    with np.load(run / "model.npz") as arrays:
        return {name: array for name, array in arrays.items() if name != "facts"}


def same(one: Path, other: Path, rtol: float = 1e-10, but: str = "") -> None:
    found, expected = parameters(one), parameters(other)
    assert found.keys() == expected.keys()
    expected.pop(but, None)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=rtol, atol=rtol / 1e3, err_msg=name)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("task", TARGETS)
def test_a_row_of_weight_k_is_k_rows(batch: SharedStart, task: str, mode: str, n: int) -> None:
    weighted, repeated = batch.run(f"{task}-{mode}-{n}"), batch.run(f"{task}-repeated")
    same(weighted, repeated)
    losses = [[epoch["loss"] for epoch in epochs(run)] for run in (weighted, repeated)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-10)
    if n == 1:
        assert epochs(weighted)[-1]["loss_by_rank"][0] == pytest.approx(losses[0][-1], rel=1e-12)


@pytest.mark.parametrize("task", TARGETS)
def test_a_row_of_weight_0_is_left_out(batch: SharedStart, task: str) -> None:
    """To the last bit, in batches too."""
    zero, without = parameters(batch.run(f"{task}-0")), parameters(batch.run(f"{task}-left-out"))
    for name, array in without.items():
        np.testing.assert_array_equal(zero[name], array, err_msg=name)


@pytest.mark.parametrize("task", TARGETS)
def test_losses_and_metrics_are_weighted(batch: SharedStart, task: str) -> None:
    run, y, weight = batch.run(f"{task}-held-3"), TARGETS[task], WEIGHT
    same(run, batch.run(f"{task}-held-1"))
    model, end, last = ModelFile.load(run / "model.npz"), records(run)[-1], epochs(run)[-1]
    for rows, loss, metric in (
        (VALIDATION, last["validation_loss"], last["validation_metric"]),
        (TEST, end["test_loss"], end["test_metric"]),
    ):
        w, true, predicted = weight[rows], y[rows], model.predict(X[rows])
        if task == "numbers":
            expected = (
                mean_squared_error(true, predicted, sample_weight=w),
                r2_score(true, predicted, sample_weight=w),
            )
        elif task == "labels":
            p = model.predict_proba(X[rows])
            each = [log_loss(true[:, k], p[:, k], sample_weight=w) for k in range(true.shape[1])]
            expected = float(np.mean(each)), accuracy_score(true, predicted, sample_weight=w)
        else:
            p = model.predict_proba(X[rows])
            expected = log_loss(true, p, sample_weight=w), accuracy_score(true, predicted, sample_weight=w)
        assert (loss, metric) == pytest.approx(expected, rel=1e-9)


def test_balanced_classes_are_what_scikit_learn_calls_so(batch: SharedStart) -> None:
    same(batch.run("balanced"), batch.run("by-hand"), but="baseline")  # of the rows as they are


@pytest.mark.parametrize("how", ["group", "time", "chance", "sets"])
@pytest.mark.parametrize("task", ["classes", "numbers", "labels"])
def test_nothing_leaks_out_of_rows_held_out(batch: SharedStart, task: str, how: str) -> None:
    """Whatever stands in validation and test rows, what was trained is the same bits."""
    one, other = batch.run(f"leak-{task}-{how}"), batch.run(f"leak-{task}-{how}-other")
    with np.load(one / "splits.npz") as splits, np.load(other / "splits.npz") as others:
        for name in ("train", "validation", "test"):
            np.testing.assert_array_equal(splits[name], others[name])
    found, expected = parameters(other), parameters(one)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    assert epochs(one)[-1]["validation_loss"] != epochs(other)[-1]["validation_loss"]


def dataset(weights: Any, y: Any = TARGETS["classes"][TRAIN], **options: Any) -> Dataset:
    return check(Raw("data", X[: len(y)], y, weight=np.asarray(weights)), RunConfig(**options))


def with_one(value: float) -> np.ndarray:
    weight = np.ones(N)
    weight[7] = value
    return weight


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (
            with_one(-1),
            r"sample_weight of row 7: got -1 \(1 row like that\); a weight is a number from 0 to 1e\+100, and a",
        ),
        (with_one(np.nan), "sample_weight of row 7: got nan"),
        (with_one(np.inf), "sample_weight of row 7: got inf"),
        (with_one(1e200), r"sample_weight of row 7: got 1e\+200"),
        (np.zeros(N), "sample_weight is 0 in all rows, so there is nothing to train on"),
        (np.ones(N - 1), r"sample_weight has shape \(60,\); it takes \(61,\), one weight a row"),
        (np.ones((N, 1)), r"sample_weight has shape \(61, 1\)"),
        (np.full(N, "1"), "sample_weight holds <U1; weights are numbers"),
    ],
)
def test_what_is_no_weight_is_refused(weight: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        dataset(weight)


def test_the_option_is_named_that_gave_the_weights() -> None:
    with pytest.raises(DataError, match="--weight w of row 7: got -1"):
        dataset(with_one(-1), weight="w")


@pytest.mark.parametrize("y", [Z[TRAIN, 0], TARGETS["labels"][TRAIN]])
def test_classes_alone_are_balanced(y: np.ndarray) -> None:
    with pytest.raises(DataError, match="--class-weight balanced is for classes"):
        dataset(np.ones(N), y, class_weight="balanced")


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e99])
def test_only_the_ratio_of_weights_matters(scale: float) -> None:
    one, other = dataset(WEIGHT[TRAIN]), dataset(WEIGHT[TRAIN] * scale)
    assert one.weight is not None
    assert other.weight is not None
    np.testing.assert_allclose(other.weight, one.weight, rtol=1e-14)
    for rows in (one.train, one.validation, one.test):
        assert one.weight[rows].mean() == pytest.approx(1, rel=1e-14)


def test_moments_are_those_of_repeated_rows() -> None:
    weight = WEIGHT[TRAIN]
    rows = np.flatnonzero(weight)
    found = moments("X", X[TRAIN] + 1e6, rows, weight.astype(float))
    repeated = np.repeat(X[TRAIN] + 1e6, weight, axis=0)
    np.testing.assert_allclose(found, (repeated.mean(axis=0), repeated.std(axis=0)), rtol=1e-12)


def test_what_weights_do_is_said() -> None:
    notes = " ".join(dataset(WEIGHT[TRAIN], class_weight="balanced").notes)
    assert f"Rows are weighted, from 1 to 3; {np.count_nonzero(WEIGHT[TRAIN] == 0)} rows of weight 0 are left" in notes
    assert "Training rows count by their class (1: " in notes
