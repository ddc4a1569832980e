"""Values in order, each with what the rows of it weigh: what ROC AUC and a median of all rows are made of."""

from typing import Any

import numpy as np

from common.flat import Array

MOST_EXACT = 1 << 18
"""Values that are kept as they are; of more, they are rounded, which takes 65,536 values at most and bounded memory."""
LOG_ODDS_STEP = 2.0**-10
LEAST_LOG_ODDS, MOST_LOG_ODDS = -64.0, 20.0
"""Of a probability that is rounded. Those nearer to 1 are told apart badly: float64 has no digits left there."""
MANTISSA_BITS = 8
"""Of a positive number that is rounded: by 0.2 % at most."""


def _rounded_probabilities(p: Array) -> Array:
    """Return probabilities whose log-odds, log(p / (1 - p)), are multiples of a step."""
    with np.errstate(divide="ignore"):
        odds = np.clip(np.log(p) - np.log1p(-p), LEAST_LOG_ODDS, MOST_LOG_ODDS)
    return np.asarray(1 / (1 + np.exp(-np.round(odds / LOG_ODDS_STEP) * LOG_ODDS_STEP)))


def _rounded_numbers(values: Array) -> Array:
    with np.errstate(over="ignore"):
        bits = values.astype(np.float32).view(np.int32)
    shift = 23 - MANTISSA_BITS
    return ((bits + (1 << shift >> 1)) >> shift << shift).view(np.float32).astype(np.float64)


class Ranked:
    """Sorted values, and for each the weight of rows where something ``holds``, and of the ``rest``.

    ``most``: rows from which on values are rounded. So whether they are depends on how many there are in all, not on
    how they came. ``probabilities``: what values are; others are positive numbers.
    """

    def __init__(self, most: int = MOST_EXACT, *, probabilities: bool = False) -> None:
        self.most = most
        self._rounded = _rounded_probabilities if probabilities else _rounded_numbers
        self.n = 0
        self.values: Array
        self.holds: Array
        self.rest: Array
        self.values = self.holds = self.rest = np.empty(0)
        self._new: list[tuple[Array, Array, Array]] = []
        self._n_new = 0

    def add(self, values: Array, holds: Array, weight: Array) -> None:
        """Take rows: (n,) each; ``holds`` bool."""
        self._take(len(values), (values.astype(np.float64), weight * holds, weight * ~holds))

    def merge(self, plain: dict[str, Any]) -> None:
        """Take what another one has, as ``plain``."""
        self._take(plain["n"], tuple(np.frombuffer(plain[name]) for name in ("values", "holds", "rest")))  # type: ignore[arg-type]

    def plain(self) -> dict[str, Any]:
        """Return all that is in it, as plain values."""
        self._sort()
        arrays = {"values": self.values, "holds": self.holds, "rest": self.rest}
        return {"n": self.n, **{name: array.tobytes() for name, array in arrays.items()}}

    def _take(self, n: int, rows: tuple[Array, Array, Array]) -> None:
        self.n += n
        self._new.append(rows)
        self._n_new += len(rows[0])
        if self._n_new >= self.most:
            self._sort()

    def _sort(self) -> None:
        """Bring all values into order, each once."""
        rows = zip((self.values, self.holds, self.rest), *self._new, strict=True)
        values, holds, rest = (np.concatenate(some) for some in rows)
        self._new, self._n_new = [], 0
        if self.n > self.most:
            values = self._rounded(values)
        self.values, places = np.unique(values, return_inverse=True)
        self.holds, self.rest = (np.bincount(places, some, len(self.values)) for some in (holds, rest))

    def auc(self) -> float | None:
        """Return the area under the ROC curve, equal values counted half; None if all rows are of one kind."""
        self._sort()
        positive, negative = float(self.holds.sum()), float(self.rest.sum())
        if not positive or not negative:
            return None
        below = np.cumsum(self.rest) - self.rest
        return float((self.holds * (below + self.rest / 2)).sum() / positive / negative)

    def median(self) -> float | None:
        """Return the median of all rows, the mean of two values where it lies between them; None without rows."""
        self._sort()
        cumulated = np.cumsum(self.holds + self.rest)
        if not len(cumulated) or not cumulated[-1]:
            return None
        half = cumulated[-1] / 2
        at = int(np.searchsorted(cumulated, half))
        if cumulated[at] != half:
            return float(self.values[at])
        after = int(np.searchsorted(cumulated, half, side="right"))  # beyond values of rows that weigh nothing
        return float((self.values[at] + self.values[after]) / 2)
