"""One evaluation of a model, whatever it predicts: takes predictions piece by piece, and tells what they are worth."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from common.evaluation.by_class import ClassTally
from common.evaluation.by_label import LabelTally
from common.evaluation.of_numbers import NumberTally
from common.flat import Array

MOST_LISTED = 200
"""Classes or targets that have a line each in the log."""


class Judged:
    """What is predicted for some rows, next to what is true, and to what is predicted without looking at them.

    ``labels``: of the classes, those that the model knows first, (``n_outputs`` of them), or of several labels at once;
    none for a regression, which has ``targets``. ``baseline``: shares of the classes or labels in the training rows, or
    the means of the targets in their unit.
    """

    def __init__(
        self,
        targets: Sequence[str],
        labels: Sequence[Any] = (),
        baseline: Array | None = None,
        *,
        n_outputs: int = 0,
        several: bool = False,
    ) -> None:
        """``several``: whether ``labels`` are several at once."""
        self.targets, self.labels, self.baseline = list(targets), list(labels), baseline
        self.classes = ClassTally(len(self.labels), n_outputs) if self.labels and not several else None
        n = len(self.labels) if several else len(self.targets)
        kind: type[LabelTally | NumberTally] = LabelTally if several else NumberTally
        self.own, self.constant = kind(0 if self.classes else n), kind(0 if self.classes else n)

    def add(self, predicted: Array, y: Array, probabilities: Array | None = None, weight: Array | None = None) -> None:
        """Take rows: classes from 0, (n,) each; numbers, (n, n_targets); or for several labels their probabilities."""
        if self.classes is not None:
            self.classes.add(predicted, y, probabilities, weight)
            return
        self.own.add(predicted, y, weight)
        if self.baseline is not None:
            self.constant.add(np.broadcast_to(self.baseline, y.shape), y, weight)

    @property
    def n(self) -> int:
        """Rows so far."""
        return (self.classes or self.own).rows

    def plain(self) -> list[dict[str, Any]]:
        """Return all that was counted as plain values, for messages between ranks."""
        return [tally.plain() for tally in self._tallies()]

    def merge(self, plain: list[dict[str, Any]]) -> None:
        """Add what another rank has counted."""
        for tally, theirs in zip(self._tallies(), plain, strict=True):
            tally.merge(theirs)

    def _tallies(self) -> list[Any]:
        return [self.own, self.constant] if self.classes is None else [self.classes]

    def result(self) -> dict[str, Any]:
        """Return the figures as plain values: what the log's end has as ``test`` and ``--json`` prints."""
        if self.classes is not None:
            return self._of_classes(self.classes)
        own = self.own
        told = "the mean" if isinstance(own, NumberTally) else "the usual value of each label"
        found: dict[str, Any] = {
            "task": "regression" if isinstance(own, NumberTally) else "labels",
            "rows": own.rows,
            "targets": self.targets,
            "metrics": _finite(own.metrics()),
            "baseline": None if self.baseline is None else {"of": told, "metrics": _finite(self.constant.metrics())},
        }
        if isinstance(own, LabelTally):
            return {**found, "by_class": own.by_class(self.labels)}
        if len(self.targets) > 1:
            found["by_target"] = [
                {"target": name, "metrics": _finite(metrics)}
                for name, metrics in zip(self.targets, own.by_target(), strict=True)
            ]
        return found

    def _of_classes(self, tally: ClassTally) -> dict[str, Any]:
        baseline = None
        if self.baseline is not None:
            most = self.labels[int(self.baseline.argmax())]
            baseline = {"of": f"always {most}", "metrics": tally.baseline(self.baseline)}
        matrix = tally.matrix.tolist() if tally.matrix.size else None
        return {
            "task": "classes",
            "rows": tally.rows,
            "targets": self.targets,
            "metrics": _finite(tally.metrics()),
            "baseline": baseline,
            "by_class": tally.by_class(self.labels),
            "matrix": matrix and [[_whole(n) for n in row] for row in matrix],
        }


def _finite(metrics: dict[str, float | None]) -> dict[str, float | None]:
    """Return figures without those that no JSON and no log can hold, as of predictions that are infinite."""
    return {name: value if value is not None and np.isfinite(value) else None for name, value in metrics.items()}


def _whole(n: float) -> float:
    """Return a count as a whole number if it is one: weighted ones need not be."""
    return int(n) if n == int(n) else n


def bounded(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result as the log keeps it: without the lines of very many classes or targets."""
    lists = {name: result[name] for name in ("by_class", "by_target", "targets") if name in result}
    return {**result, **{name: [] for name, lines in lists.items() if len(lines) > MOST_LISTED}}
