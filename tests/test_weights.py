"""Weights of rows and classes: a row of weight k is k rows, in every mode."""

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
from tests.ranks import SharedStart, epochs, program, records

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
COMMON = ["--dtype", "float64", "--hidden", "8", "--optimizer", "momentum", "--learning-rate", "0.1"]
FOUR = ["--epochs", "4"]
WHOLE = [*COMMON, *FOUR, "--batch-size", "0", "--clip", "2", "--weight-decay", "0.01", "--test-fraction", "0",
         "--validation-fraction", "0"]  # fmt: skip
SMALL = [*COMMON, "--batch-size", "7"]  # epochs are to be said
AUTO = ["--mode", "auto", "--rows", "shard", "--balance", "speed"]
OWN = [*COMMON, *FOUR, "--model", "tests.weighted_model:WeightedNet"]
REFUSED = [*COMMON, *FOUR, "--model", "docs.examples.own_model:SkipNet"]
TRAIN, VALIDATION, TEST = slice(N), slice(N, N + N_HELD), slice(N + N_HELD, None)


def save(folder: Path, name: str, y: np.ndarray, rows: Any = TRAIN, **more: Any) -> None:
    np.savez(folder / f"{name}.npz", X=X[rows], y=y[rows], **more)


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> SharedStart:
    folder = tmp_path_factory.mktemp("weights")
    named: dict[str, tuple[int, list[str]]] = {}

    def job(name: str, n: int, *options: str) -> None:
        named[name] = n, ["-m", "workers.run", *options]

    for task, y in TARGETS.items():
        held = {"X_val": X[VALIDATION], "y_val": y[VALIDATION], "X_test": X[TEST], "y_test": y[TEST]}
        weights = {"sample_weight": WEIGHT[TRAIN], "sample_weight_val": WEIGHT[VALIDATION],
                   "sample_weight_test": WEIGHT[TEST]}  # fmt: skip
        save(folder, f"{task}-held", y, **held, **weights)
        for n in (1, 3):
            check = "--check-model" if n == 1 else "--no-check-model"
            job(f"{task}-held-{n}", n, "--data", str(folder / f"{task}-held.npz"), *SMALL, *FOUR, check)
    y = TARGETS["classes"]
    save(folder, "plain", y)
    save(folder, "by-hand", y, sample_weight=compute_sample_weight("balanced", y[TRAIN]))
    save(folder, "weighted", y, of_row=WEIGHT[TRAIN])
    save(folder, "repeated", y, np.repeat(np.arange(N), WEIGHT[TRAIN]))
    job("balanced", 3, "--data", str(folder / "plain.npz"), *WHOLE, "--class-weight", "balanced")
    job("by-hand", 3, "--data", str(folder / "by-hand.npz"), *WHOLE)
    faulty = [*WHOLE, "--nonfinite", "skip", "--inject", "nan:rank=1,step=4"]
    job("repeated", 3, "--data", str(folder / "repeated.npz"), *faulty)
    job("weighted", 3, "--data", str(folder / "weighted.npz"), "--weight", "of_row", *faulty, *AUTO)
    job("own-weighted", 3, "--data", str(folder / "weighted.npz"), "--weight", "of_row", *OWN)
    job("own-refused", 3, "--data", str(folder / "weighted.npz"), "--weight", "of_row", *REFUSED)
    table = np.column_stack([X, y, WEIGHT, np.arange(len(X)) % 20])
    np.savetxt(folder / "table.csv", table, "%.17g", ",", header="a,b,c,d,y,w,site", comments="")
    prepared = [*SMALL, "--data", str(folder / "table.csv"), "--target", "y", "--weight", "w", "--group", "site",
                "--rows", "shard", "--checkpoint-every", "1"]  # fmt: skip
    job("whole", 3, *prepared, *FOUR)
    job("half", 3, *prepared, "--epochs", "2")
    job("other-half", 2, "--resume", str(folder / "3" / "half"), *FOUR, "--mode", "shared")
    return SharedStart(folder, named)


def parameters(run: Path) -> dict[str, np.ndarray]:
    with np.load(run / "model.npz") as arrays:
        return {name: array for name, array in arrays.items() if name != "facts"}


def same(one: Path, other: Path, rtol: float = 1e-10, but: str = "") -> None:
    found, expected = parameters(one), parameters(other)
    assert found.keys() == expected.keys()
    expected.pop(but, None)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=rtol, atol=rtol / 1e3, err_msg=name)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7])
def test_a_row_of_weight_k_is_k_rows_in_every_mode(n: int) -> None:
    """Of every kind of target, clipped and decayed, on several nodes, with a model class of one's own.

    Steps of few rows are those of one rank, also in shards, with unequal shares of the ranks and behind a step that was
    left out; and a row of weight 0 is left out to the last bit.
    """
    assert program(n, "weights.py").out == f"ok {n}\n"


def test_a_job_with_weights_is_one_with_rows_repeated(batch: SharedStart) -> None:
    """With the fastest mode, rows in shards, shares by speed and a step that was left out."""
    weighted, repeated = batch.run("weighted"), batch.run("repeated")
    same(weighted, repeated)
    assert [[record["epoch"] for record in records(run) if record["kind"] == "event" and record["what"] == "skip"]
            for run in (weighted, repeated)] == [[4], [4]]  # fmt: skip
    losses = [[epoch["loss"] for epoch in epochs(run)] for run in (weighted, repeated)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-10)


def test_a_prepared_table_with_weights_continues_on_other_ranks(batch: SharedStart) -> None:
    """In the same splits by group, in shards."""
    whole, half = batch.run("whole"), batch.run("half")
    with np.load(half / "splits.npz") as before:
        splits = dict(before)
    assert batch["other-half"].code == 0, batch["other-half"].err
    same(half, whole)
    assert [len(epoch["rows"]) for epoch in epochs(half)] == [3, 3, 2, 2]
    losses = [[epoch["loss"] for epoch in epochs(run)] for run in (half, whole)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-10)
    with np.load(half / "splits.npz") as after:
        for name, rows in splits.items():
            np.testing.assert_array_equal(after[name], rows)


def test_a_model_of_ones_own_takes_weights_or_is_refused(batch: SharedStart) -> None:
    event = next(record for record in records(batch.run("own-weighted")) if record.get("what") == "model-check")
    assert event["derivatives"] > 0
    refused = batch["own-refused"]
    assert refused.code == 2
    assert refused.err.count("rows have weights, and loss_grad() has no argument weight=None") == 1


@pytest.mark.parametrize("task", TARGETS)
def test_losses_and_metrics_are_weighted(batch: SharedStart, task: str) -> None:
    run, y, weight = batch.run(f"{task}-held-3"), TARGETS[task], WEIGHT
    same(run, batch.run(f"{task}-held-1"))
    alone = epochs(batch.run(f"{task}-held-1"))[-1]
    assert alone["loss_by_rank"] == pytest.approx([alone["loss"]], rel=1e-12)
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
