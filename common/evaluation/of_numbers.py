"""Judges predicted numbers: R2, MAE, RMSE and the median absolute error of each target, in its own unit."""

from typing import Any

import numpy as np

from common.data.scaling import is_constant
from common.evaluation.by_class import mean_of
from common.evaluation.ranked import MOST_EXACT, Ranked
from common.flat import Array

MOST_MEDIANS = 200
"""Targets; of more there is no median, which takes the errors of each in all rows."""
SUMS = ("weight", "mean", "spread", "squares", "absolute")


class NumberTally:
    """Weighted sums by target, (n_targets,) each.

    ``mean``, ``spread``: of the targets, and the sum of squared deviations from it, merged as in Chan et al. 1983.
    ``squares``, ``absolute``: of the errors.
    """

    def __init__(self, n_targets: int) -> None:
        self.rows = 0
        self.weight, self.mean, self.spread, self.squares, self.absolute = np.zeros((5, n_targets))
        n = n_targets if n_targets <= MOST_MEDIANS else 0
        self.errors = [Ranked(MOST_EXACT // n) for _ in range(n)]

    def add(self, predicted: Array, y: Array, weight: Array | None = None) -> None:
        """Take rows: (n, n_targets) each, in the target's unit."""
        if not len(y):
            return
        w, y = np.ones(len(y)) if weight is None else weight, y.astype(np.float64)
        self.rows += len(y)
        error = predicted.astype(np.float64) - y
        self.squares += w @ np.square(error)
        self.absolute += w @ np.abs(error)
        total = w.sum()
        mean = y[0] + (w @ (y - y[0]) / total if total else 0)  # counted from the first row: a constant has no spread
        self._add_spread(np.full(len(mean), total), mean, w @ np.square(y - mean))
        for k, errors in enumerate(self.errors):
            errors.add(np.abs(error[:, k]), np.ones(len(y), bool), w)

    def _add_spread(self, weight: Array, mean: Array, spread: Array) -> None:
        """Merge weight, mean and spread of other rows. Chan, Golub & LeVeque 1983, eq. 2.1."""
        total = self.weight + weight
        share = np.divide(weight, total, out=np.zeros_like(total), where=total > 0)
        away = mean - self.mean
        self.spread += spread + np.square(away) * self.weight * share
        self.mean += away * share
        self.weight = total

    def plain(self) -> dict[str, Any]:
        """Return all sums as plain values, for messages between ranks."""
        sums = {name: getattr(self, name).tobytes() for name in SUMS}
        return {"rows": self.rows, **sums, "errors": [errors.plain() for errors in self.errors]}

    def merge(self, plain: dict[str, Any]) -> None:
        """Add what another rank has."""
        self.rows += plain["rows"]
        weight, mean, spread, squares, absolute = (np.frombuffer(plain[name]) for name in SUMS)
        self._add_spread(weight, mean, spread)
        self.squares += squares
        self.absolute += absolute
        for errors, theirs in zip(self.errors, plain["errors"], strict=True):
            errors.merge(theirs)

    def by_target(self) -> list[dict[str, float | None]]:
        """Return the metrics of each target by name; None where one is not defined, as R2 of a constant target."""
        found: list[dict[str, float | None]] = []
        for k, weight in enumerate(self.weight):
            spread, squares, absolute = (float(some[k]) for some in (self.spread, self.squares, self.absolute))
            constant = not weight or bool(is_constant(np.sqrt(spread / weight), self.mean[k]))
            found.append(
                {
                    "R2": None if constant else 1 - squares / spread,
                    "MAE": absolute / weight if weight else None,
                    "RMSE": float(np.sqrt(squares / weight)) if weight else None,
                    "median absolute error": self.errors[k].median() if self.errors else None,
                }
            )
        return found

    def metrics(self) -> dict[str, float | None]:
        """Return the mean over the targets of each metric; of R2 over those that vary."""
        targets = self.by_target()
        return {name: mean_of([target[name] for target in targets]) for name in targets[0]}
