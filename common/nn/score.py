"""How predictions are judged: the sums over rows that accuracy or R2 are made of, and the unit that losses are in."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from common.data.dataset import Dataset
from common.data.scaling import Rows, is_constant
from common.flat import Array
from common.nn.functional import Loss, MeanSquaredError


@dataclass(frozen=True, slots=True)
class Score:
    """The same on every rank.

    ``spread``: by split (validation, test), the summed squared deviation of each target from its mean, (n_targets,), 0
    where it does not vary; empty for classes. ``unit``: what sums of losses are multiplied with to be in the target's
    unit. ``mixed``: whether there are targets of different scales.
    """

    spread: Mapping[str, Array] = field(default_factory=dict)
    unit: float = 1.0
    mixed: bool = False

    def nothing(self) -> Array:
        """Return the counts of no rows, to which others are added."""
        return np.zeros(len(self.spread["test"]) if self.spread else 1)

    def count(self, loss: Loss, out: Array, y: Array, *weight: Array) -> Array:
        """Return squared errors by target of rows for which ``out`` is predicted, or how many are classified right.

        ``weight``: what each row counts, if not 1.
        """
        if not self.spread:
            return np.array([loss.correct(out, y, *weight)])
        squares = np.square(out - y)
        return np.asarray(weight[0] @ squares if weight else squares.sum(axis=0, dtype=np.float64))

    def of(self, split: str, counted: Array) -> float:
        """Return what some rows of a split, of which ``counted`` was counted, add to the sum that makes the metric.

        Rows classified right; or the squared errors as a share of each target's spread, averaged over those that vary.
        """
        if not self.spread:
            return float(counted[0])
        spread = self.spread[split]
        varies = spread > 0
        return float((counted[varies] / spread[varies]).mean()) if varies.any() else 0.0

    def varies(self) -> dict[str, bool]:
        """Return by split whether any target varies in it; nothing for classes."""
        return {split: bool(spread.any()) for split, spread in self.spread.items()}


def score_of(data: Dataset, loss: Loss, *, own_model: bool) -> Score:
    """Return by what a model is judged. ``own_model``: it is of the user's making.

    One with several targets adds up their losses itself, without weights: these stay in units of the scales.
    """
    if not isinstance(loss, MeanSquaredError):
        return Score()
    scale = data.target_scale
    unit = 1.0 if own_model and len(scale) > 1 else float(np.square(scale.max()))
    spread = {"validation": _spread(data, data.validation), "test": _spread(data, data.test)}
    return Score(spread, unit, bool((scale != scale[0]).any()))


def _spread(data: Dataset, rows: Rows) -> Array:
    if not len(rows):
        return np.zeros(data.n_targets)
    y = data.y[rows].astype(np.float64)
    if data.weight is None:
        mean = y.mean(axis=0)
        spread = np.square(y - mean).sum(axis=0)
    else:
        mean = np.average(y, axis=0, weights=data.weight[rows])
        spread = data.weight[rows] @ np.square(y - mean)
    return np.where(is_constant(np.sqrt(spread / len(rows)), mean), 0.0, spread)


def loss_weights(scale: Array) -> Array:
    """Return the squares of targets' scales, relative to the largest: what each counts in a loss in their units."""
    return np.asarray(np.square(scale / scale.max()))
