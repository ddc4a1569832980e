"""Scores of predictions are scikit-learn's, however rows are cut into pieces, and whatever they weigh."""

import json
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
import pytest
from sklearn import metrics

from common.evaluation import ranked
from common.evaluation.by_class import ClassTally
from common.evaluation.by_label import LabelTally
from common.evaluation.judged import Judged, bounded
from common.evaluation.of_numbers import NumberTally
from common.flat import Array
from ps.logfile.schema import Check
from ps.reader.report.predictions import predictions
from ps.text import evaluation
from ps.text.layout import lines_of

Add = Callable[[Any, slice], None]


def tallied(make: Callable[[], Any], add: Add, n: int, pieces: int) -> Any:
    """Return a tally of n rows that were cut into pieces, each counted by another rank."""
    whole = make()
    for rows in np.array_split(np.arange(n), pieces):
        part = make()
        middle = (rows[0] + rows[-1]) // 2
        add(part, slice(rows[0], middle))
        add(part, slice(middle, rows[-1] + 1))
        whole.merge(part.plain())
    return whole


def drawn(n: int, k: int, seed: int = 0) -> tuple[Array, Array]:
    """Return classes, and probabilities with many equal ones."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    p = np.round(rng.dirichlet(np.ones(k), n) + 0.3 * np.eye(k)[y], 2) + 0.01
    return y, p / p.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("k", [2, 4])
def test_classes(k: int, weighted: bool) -> None:
    n = 700
    y, p = drawn(n, k)
    predicted = p.argmax(axis=1)
    w = np.random.default_rng(9).random(n) if weighted else None
    tally: ClassTally = tallied(
        lambda: ClassTally(k),
        lambda t, s: t.add(predicted[s], y[s], p[s], None if w is None else w[s]), n, 3,
    )  # fmt: skip
    auc = metrics.roc_auc_score(y, p[:, 1] if k == 2 else p, multi_class="ovr", sample_weight=w)
    expected = {
        "accuracy": metrics.accuracy_score(y, predicted, sample_weight=w),
        "balanced accuracy": metrics.balanced_accuracy_score(y, predicted, sample_weight=w),
        "log-loss": metrics.log_loss(y, p, sample_weight=w),
        "ROC AUC": auc,
    }
    assert tally.rows == n
    assert tally.metrics() == pytest.approx(expected, rel=1e-12)
    assert np.allclose(tally.matrix, metrics.confusion_matrix(y, predicted, sample_weight=w), rtol=1e-12)
    theirs = metrics.precision_recall_fscore_support(y, predicted, sample_weight=w)
    ours = [[row[name] for name in ("precision", "recall", "f1", "support")] for row in tally.by_class(range(k))]
    assert np.allclose(ours, np.transpose(theirs), rtol=1e-12)


def test_baseline_of_classes_is_a_dummy() -> None:
    from sklearn.dummy import DummyClassifier

    y, p = drawn(500, 3)
    y[:200] = 1
    shares = np.array([0.2, 0.5, 0.3])
    trained = np.repeat(np.arange(3), [20, 50, 30])
    dummy = DummyClassifier(strategy="prior").fit(np.zeros((100, 1)), trained)
    tally = ClassTally(3)
    tally.add(p.argmax(axis=1), y, p)
    constant, same = dummy.predict_proba(np.zeros((500, 1))), dummy.predict(np.zeros((500, 1)))
    assert tally.baseline(shares) == pytest.approx(
        {
            "accuracy": metrics.accuracy_score(y, same),
            "balanced accuracy": metrics.balanced_accuracy_score(y, same),
            "log-loss": metrics.log_loss(y, constant),
            "ROC AUC": metrics.roc_auc_score(y, constant, multi_class="ovr"),
        },
        rel=1e-12,
    )


def test_a_class_that_the_model_does_not_know_counts_as_wrong() -> None:
    y, p = drawn(300, 3)
    y[:30] = 3
    predicted = p.argmax(axis=1)
    tally = ClassTally(4, 3)
    tally.add(predicted, y, p)
    found = tally.metrics()
    assert found["accuracy"] == metrics.accuracy_score(y, predicted)
    assert found["balanced accuracy"] == pytest.approx(metrics.balanced_accuracy_score(y, predicted))
    assert found["log-loss"] == pytest.approx(metrics.log_loss(y[30:], p[30:]))
    assert tally.by_class("abcd")[3] == {"label": "d", "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 30.0}


def test_one_class_alone_and_no_rows() -> None:
    tally = ClassTally(2)
    assert set(tally.metrics().values()) == {None}
    tally.add(np.zeros(4, int), np.zeros(4, int), np.full((4, 2), 0.5))
    assert tally.metrics() == {"accuracy": 1.0, "balanced accuracy": 1.0, "log-loss": np.log(2), "ROC AUC": None}
    tally.add(np.zeros(1, int), np.ones(1, int), np.array([[1.0, 0.0]]))
    assert tally.metrics()["log-loss"] == pytest.approx(metrics.log_loss([0] * 4 + [1], [[0.5, 0.5]] * 4 + [[1.0, 0]]))


def test_numbers() -> None:
    n = 501
    rng = np.random.default_rng(1)
    y = 1e8 + rng.normal(size=(n, 2)) * [1, 50]
    predicted = y + rng.normal(size=(n, 2)) * [0.3, 70]

    def add(tally: NumberTally, rows: slice) -> None:
        tally.add(predicted[rows], y[rows])

    tally: NumberTally = tallied(lambda: NumberTally(2), add, n, 4)
    for k, found in enumerate(tally.by_target()):
        one, other = y[:, k], predicted[:, k]
        assert found == pytest.approx(
            {
                "R2": metrics.r2_score(one, other),
                "MAE": metrics.mean_absolute_error(one, other),
                "RMSE": metrics.root_mean_squared_error(one, other),
                "median absolute error": metrics.median_absolute_error(one, other),
            },
            rel=1e-9,
        )
    found = tally.metrics()
    assert found["R2"] == pytest.approx(metrics.r2_score(y, predicted), rel=1e-9)
    assert found["RMSE"] == pytest.approx(metrics.root_mean_squared_error(y, predicted), rel=1e-9)
    assert found["median absolute error"] == pytest.approx(metrics.median_absolute_error(y, predicted), rel=1e-9)


def test_a_constant_target_has_no_r2() -> None:
    tally = NumberTally(1)
    tally.add(np.array([[1e6], [2e6 + 1]]), np.full((2, 1), 1e6 + 0.1))
    found = tally.metrics()
    assert found["R2"] is None
    assert found["MAE"] == pytest.approx(500_000.5)


@pytest.mark.parametrize("n", [10, 11])
def test_a_weight_of_three_is_three_rows(n: int) -> None:
    rng = np.random.default_rng(n)
    y, predicted = rng.normal(size=(2, n, 1))
    k = rng.integers(0, 4, n)
    weighted, repeated = NumberTally(1), NumberTally(1)
    weighted.add(predicted, y, k.astype(float))
    repeated.add(np.repeat(predicted, k, axis=0), np.repeat(y, k, axis=0))
    assert weighted.metrics() == pytest.approx(repeated.metrics(), rel=1e-12)
    errors = np.abs(np.repeat(predicted - y, k))
    assert weighted.metrics()["median absolute error"] == pytest.approx(np.median(errors), rel=1e-12)


def test_several_labels() -> None:
    n = 400
    rng = np.random.default_rng(4)
    y = rng.integers(0, 2, (n, 3))
    p = np.clip(np.round(rng.random((n, 3)) * 0.7 + 0.3 * y, 2), 0.01, 0.99) + 1e-9
    w = rng.random(n)
    tally: LabelTally = tallied(lambda: LabelTally(3), lambda t, s: t.add(p[s], y[s], w[s]), n, 3)
    given = p > 0.5
    expected = {
        "accuracy": metrics.accuracy_score(y, given, sample_weight=w),
        "accuracy by label": 1 - metrics.hamming_loss(y, given, sample_weight=w),
        "log-loss": np.mean([metrics.log_loss(y[:, k], p[:, k], sample_weight=w) for k in range(3)]),
        "ROC AUC": metrics.roc_auc_score(y, p, sample_weight=w),
        "F1": metrics.f1_score(y, given, average="macro", sample_weight=w),
    }
    assert tally.metrics() == pytest.approx(expected, rel=1e-12)
    theirs = metrics.precision_recall_fscore_support(y, given, sample_weight=w)
    ours = [[row[name] for name in ("precision", "recall", "f1", "support")] for row in tally.by_class("abc")]
    assert np.allclose(ours, np.transpose(theirs), rtol=1e-12)


@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_many_rows_take_bounded_memory_and_little_is_lost(pieces: int) -> None:
    """Whether values are rounded follows from how many there are in all, not from the pieces."""
    n = 40_000
    rng = np.random.default_rng(7)
    values = np.exp(rng.normal(size=n) * 3)
    y = rng.random(n) < 0.3
    p = 1 / (1 + np.exp(-rng.normal(size=n) - y))

    def make(most: int, *, probabilities: bool) -> Callable[[], ranked.Ranked]:
        return lambda: ranked.Ranked(most, probabilities=probabilities)

    few = tallied(make(5000, probabilities=False), lambda t, s: t.add(values[s], y[s], np.ones(len(y[s]))), n, pieces)
    once = make(5000, probabilities=False)()
    once.add(values, y, np.ones(n))
    assert few.median() == once.median() == pytest.approx(np.median(values), rel=2.0**-9)
    assert len(few.values) < 8000
    few = tallied(make(5000, probabilities=True), lambda t, s: t.add(p[s], y[s], np.ones(len(y[s]))), n, pieces)
    once = make(5000, probabilities=True)()
    once.add(p, y, np.ones(n))
    assert few.auc() == once.auc() == pytest.approx(metrics.roc_auc_score(y, p), abs=1e-4)
    assert len(few.values) < 15_000


def results() -> dict[str, dict[str, Any]]:
    """Return what each task's evaluation comes to."""
    y, p = drawn(60, 3)
    classes = Judged(["colour"], ["red", 'a "<b>', "c"], np.array([0.2, 0.5, 0.3]))
    classes.add(p.argmax(axis=1), y, p, np.linspace(0, 1, 60))
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(60, 2))
    regression = Judged(["a", "b"], baseline=np.zeros(2))
    regression.add(numbers + 1, numbers)
    labels = Judged(["a", "b"], ["a", "b"], np.array([0.5, 0.1]), several=True)
    labels.add(rng.random((60, 2)), (numbers > 0).astype(float))
    points = {"true": numbers.tolist(), "predicted": (numbers + 1).tolist()}
    return {
        "classes": bounded(classes.result()),
        "regression": {**bounded(regression.result()), "points": points},
        "labels": bounded(labels.result()),
        "very many": bounded(Judged(["k"], range(300), np.full(300, 1 / 300)).result()),
    }


@pytest.mark.parametrize("task", ["classes", "regression", "labels", "very many"])
def test_results_are_records_of_the_log_with_tables_and_charts(task: str) -> None:
    result = results()[task]
    end = {"kind": "end", "seq": 1, "t": 1e9, "loss": 1.0, "validation_loss": None, "validation_metric": None,
           "status": "ok", "metric": "r2", "wall_s": 1.0, "epochs": 1, "best_epoch": None}  # fmt: skip
    assert Check()(msgpack.unpackb(msgpack.packb({**end, "test": result}))) == ""
    assert json.loads(json.dumps(result)) == result
    assert "test.metrics" in Check()({**end, "test": {**result, "metrics": {"accuracy": "x"}}})
    section = predictions(result)
    titles = [chart.title for chart in section.charts]
    assert titles == {"classes": ["Confusion matrix"], "regression": ["Residuals of a", "Residuals of b"]}.get(task, [])
    for table in evaluation.tables(result, all_classes=True):
        assert all(len(row) == len(table.columns) for row in table.rows)
        assert lines_of(table, 60)


def test_the_baseline_of_numbers_is_their_mean() -> None:
    y = np.random.default_rng(2).normal(size=(80, 1)) * 4 + 100
    judged = Judged(["price"], baseline=np.array([99.0]))
    judged.add(y * 0, y)
    found = judged.result()["baseline"]["metrics"]
    assert found["R2"] == pytest.approx(metrics.r2_score(y, np.full_like(y, 99)))
    assert found["MAE"] == pytest.approx(metrics.mean_absolute_error(y, np.full_like(y, 99)))


def test_predictions_that_are_infinite_are_no_figures() -> None:
    judged = Judged(["price"], baseline=np.array([0.0]))
    with np.errstate(all="ignore"):
        judged.add(np.array([[np.inf], [1.0]]), np.ones((2, 1)))
    assert judged.result()["metrics"]["RMSE"] is None
