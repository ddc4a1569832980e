"""Judges predicted classes: accuracy, log-loss, ROC AUC, what each class scores, and the confusion matrix."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from common.evaluation.ranked import MOST_EXACT, Ranked
from common.flat import Array

MOST_CLASSES = 200
"""Of more, there is neither a confusion matrix nor a ROC AUC, which takes the probabilities of each in all rows."""
EPSILON = np.finfo(np.float64).eps
"""The least probability that a log-loss counts, as scikit-learn's does."""


class ClassTally:
    """Weighted counts of rows by class. The first ``n_outputs`` of ``n_classes`` are known to the model."""

    def __init__(self, n_classes: int, n_outputs: int = 0) -> None:
        self.n_classes, self.n_outputs = n_classes, n_outputs or n_classes
        self.rows = 0
        self.right, self.predicted, self.support = (np.zeros(n_classes) for _ in range(3))
        self.matrix = np.zeros((n_classes, n_classes) if n_classes <= MOST_CLASSES else (0, 0))
        self.loss = np.zeros(2)
        """Of the rows whose class is known to the model: sum of the losses, and weight."""
        columns = self.n_outputs if 2 < self.n_outputs <= MOST_CLASSES else int(self.n_outputs == 2)
        self.ranked = [Ranked(MOST_EXACT // columns, probabilities=True) for _ in range(columns)]
        """By class, the probabilities of it; of two classes that of the second one says all."""

    def add(self, predicted: Array, y: Array, probabilities: Array | None = None, weight: Array | None = None) -> None:
        """Take rows: classes from 0, (n,) each, and (n, n_outputs), if there are any."""
        w, n = np.ones(len(y)) if weight is None else weight, self.n_classes
        self.rows += len(y)
        self.support += np.bincount(y, w, n)
        self.predicted += np.bincount(predicted, w, n)
        right = predicted == y
        self.right += np.bincount(y[right], w[right], n)
        if self.matrix.size:
            self.matrix += np.bincount(y * n + predicted, w, n * n).reshape(n, n)
        if probabilities is None:
            return
        known = y < self.n_outputs
        y, w, p = y[known], w[known], probabilities[known]
        own = np.clip(p[np.arange(len(y)), y], EPSILON, 1 - EPSILON)
        self.loss += -np.log(own).dot(w), w.sum()
        first = self.n_outputs - len(self.ranked) if self.ranked else 0
        for k, ranked in enumerate(self.ranked, first):
            ranked.add(p[:, k], y == k, w)

    def plain(self) -> dict[str, Any]:
        """Return all counts as plain values, for messages between ranks."""
        return {
            "rows": self.rows,
            **{name: getattr(self, name).tobytes() for name in ("right", "predicted", "support", "matrix", "loss")},
            "ranked": [ranked.plain() for ranked in self.ranked],
        }

    def merge(self, plain: dict[str, Any]) -> None:
        """Add what another rank has counted."""
        self.rows += plain["rows"]
        for name in ("right", "predicted", "support", "matrix", "loss"):
            own = getattr(self, name)
            own += np.frombuffer(plain[name]).reshape(own.shape)
        for ranked, theirs in zip(self.ranked, plain["ranked"], strict=True):
            ranked.merge(theirs)

    def metrics(self) -> dict[str, float | None]:
        """Return the figures of all rows by name; None where one is not defined."""
        there = self.support > 0
        return {
            "accuracy": ratio(self.right.sum(), self.support.sum()),
            "balanced accuracy": float((self.right[there] / self.support[there]).mean()) if there.any() else None,
            "log-loss": ratio(*self.loss),
            "ROC AUC": mean_of([ranked.auc() for ranked in self.ranked]),
        }

    def by_class(self, labels: Sequence[Any]) -> list[dict[str, Any]]:
        """Return for each class what scikit-learn's classification report has; 0 where it divides by 0."""
        return [
            {"label": label, **scores(*counts)}
            for label, *counts in zip(labels, self.right, self.predicted, self.support, strict=True)
        ]

    def baseline(self, shares: Array) -> dict[str, float | None]:
        """Return the metrics of always predicting the class with the largest of these shares, (n_outputs,)."""
        most, there, total = int(shares.argmax()), int((self.support > 0).sum()), self.support.sum()
        known = self.support[: self.n_outputs]
        loss = -np.log(np.clip(shares, EPSILON, 1 - EPSILON)).dot(known)
        return {
            "accuracy": ratio(self.support[most], total),
            "balanced accuracy": float(self.support[most] > 0) / there if there else None,
            "log-loss": ratio(loss, known.sum()),
            "ROC AUC": None if mean_of([ranked.auc() for ranked in self.ranked]) is None else 0.5,
        }


def scores(right: float, predicted: float, support: float) -> dict[str, float]:
    """Return precision, recall, F1 and support of a class by weights of rows; 0 where it divides by 0."""
    return {
        "precision": ratio(right, predicted) or 0.0,
        "recall": ratio(right, support) or 0.0,
        "f1": ratio(2 * right, predicted + support) or 0.0,
        "support": float(support),
    }


def ratio(part: float, whole: float) -> float | None:
    """Return a quotient, None by 0."""
    return float(part / whole) if whole else None


def mean_of(values: Sequence[float | None]) -> float | None:
    """Return the mean of those that are defined; None if none are."""
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None
