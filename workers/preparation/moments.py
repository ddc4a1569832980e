"""Count, mean and variance of columns in one pass: of blocks, merged in the order of the file.

Chan, Golub and LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample Variances, 1979.
"""

from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from common.flat import Array

AT_A_TIME = 1 << 15
"""Numbers of a block that are looked at together."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Of each column, (n_columns,) float64: numbers that are not NaN, mean, squared deviations' sum, least, largest.

    The mean is ``base + shift``, two numbers: of values around 10^8 that differ by 10^-3 a single one keeps too little.
    """

    count: Array
    base: Array
    shift: Array
    squares: Array
    minimum: Array
    maximum: Array

    @classmethod
    def of(cls, values: Array) -> "Moments":
        """Return the moments of a block, (rows, columns), in which NaN stands for no number."""
        values = values.T.astype(np.float64, order="C")  # a column's numbers beside each other are added up faster
        absent = np.isnan(values)
        count = values.shape[1] - absent.sum(axis=1).astype(np.float64)
        n = np.maximum(count, 1)
        if absent.any():
            low, high = np.where(absent, np.inf, values).min(axis=1), np.where(absent, -np.inf, values).max(axis=1)
        else:
            low, high = values.min(axis=1, initial=np.inf), values.max(axis=1, initial=-np.inf)
        # counted from the least one: a constant column is then exactly that, with no deviation
        first = np.where(np.isfinite(low), low, 0)
        values -= first[:, None]
        values[absent] = 0
        shift = values.sum(axis=1) / n
        values -= shift[:, None]
        values[absent] = 0
        return cls(count, first, shift, np.square(values).sum(axis=1), low, high)

    @classmethod
    def of_rows(cls, values: Array) -> "Moments":
        """Return the same, of some rows after the other, so many that what is computed stays in the processor."""
        step = max(1, AT_A_TIME // max(1, values.shape[1]))
        found = cls.of(values[:step])
        for first in range(step, len(values), step):
            found = found.merge(cls.of(values[first : first + step]))
        return found

    def merge(self, other: "Moments") -> "Moments":
        """Return the moments of these rows and of others that come behind them."""
        count = self.count + other.count
        n = np.maximum(count, 1)
        none, both = self.count == 0, (self.count > 0) & (other.count > 0)
        delta = np.where(both, other.base - self.base + (other.shift - self.shift), 0)
        base = np.where(none, other.base, self.base)
        shift = np.where(none, other.shift, self.shift + delta * (other.count / n))
        squares = self.squares + other.squares + np.square(delta) * (self.count * other.count / n)
        low, high = np.minimum(self.minimum, other.minimum), np.maximum(self.maximum, other.maximum)
        return Moments(count, base, shift, squares, low, high)

    def as_list(self) -> list[list[float]]:
        """Return plain values."""
        return [array.tolist() for array in astuple(self)]

    @classmethod
    def from_list(cls, plain: list[list[float]]) -> "Moments":
        """Return what ``as_list`` made plain."""
        return cls(*(np.array(values, np.float64) for values in plain))

    def facts(self) -> dict[str, list[Any]]:
        """Return what meta.json says of each column; None where it has no number."""
        has = self.count > 0
        columns = {
            "mean": self.base + self.shift, "variance": self.squares / np.maximum(self.count, 1),
            "minimum": self.minimum, "maximum": self.maximum,
        }  # fmt: skip
        named = {
            name: [float(v) if ok and np.isfinite(v) else None for v, ok in zip(values, has, strict=True)]
            for name, values in columns.items()
        }
        return {"count": self.count.astype(np.int64).tolist(), **named}
