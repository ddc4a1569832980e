"""Features as a model takes them: held scaled where that is small, else scaled whenever rows of them are taken."""

from functools import partial
from typing import Any, Protocol

import numpy as np

from common.data import maps
from common.data.feature_scaling import Scaling
from common.data.moments import BLOCK_NUMBERS
from common.data.scaling import row_blocks
from common.data.stacked import Matrix, Stacked, is_mapped
from common.flat import Array

MOST_HELD, MOST_HELD_OF_MAPS = 256 << 20, 64 << 20
"""Bytes of scaled features that a rank holds: a step then copies rows and computes nothing. More are scaled in the
step, which costs some 2 % of it where layers are wide, and more where they are narrow, but takes no memory beside the
data themselves. Maps are to cost a rank no memory, so fewer of theirs are held."""


class Features(Protocol):
    """Rows of features, scaled. ``shape``: (n, used features); ``nbytes``: of this process's own memory."""

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    nbytes: int

    def __len__(self) -> int: ...

    def __getitem__(self, numbers: Any) -> Array:
        """Return rows, (m, used features), by their numbers or a slice."""

    def take(self, numbers: Array, out: Array) -> None:
        """Write rows and a column of ones for the biases into ``out``, (m, used features + 1)."""

    def read_ahead(self, numbers: Array) -> None:
        """Begin to fetch rows that are taken next, without waiting for them."""


class HeldFeatures:
    """Scaled features in memory. ``rows``: (n, used features + 1), the last column ones."""

    def __init__(self, rows: Array) -> None:
        self.rows = rows
        self.shape, self.dtype, self.nbytes = (rows.shape[0], rows.shape[1] - 1), rows.dtype, rows.nbytes

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, numbers: Any) -> Array:
        return np.asarray(self.rows[:, :-1][numbers])

    def take(self, numbers: Array, out: Array) -> None:
        """See Features."""
        # mode clip writes straight into the buffer; the default takes a detour over a copy
        np.take(self.rows, numbers, axis=0, out=out, mode="clip")

    def read_ahead(self, numbers: Array) -> None:
        """See Features; they are here."""


class MappedFeatures:
    """Features as read, mostly of a map, that are scaled and cast while rows are copied.

    ``exact``: the type of numbers that they are scaled in. A block of rows at a time stays in the core's cache on its
    way; what it takes is made once.
    """

    def __init__(
        self, values: Matrix, scaling: Scaling, dtype: np.dtype[Any], exact: np.dtype[Any], *, missing: bool
    ) -> None:
        self.values, self.scaling, self.dtype = values, scaling, dtype
        n = len(scaling.mean)
        self.shape = len(values), n
        self.nbytes = 0 if is_mapped(values) else values.nbytes
        step = max(1, BLOCK_NUMBERS // 2 // max(values.shape[1], 1))
        self._take = values.take if isinstance(values, Stacked) else partial(_take, values)
        self._read = np.empty((step, values.shape[1]), values.dtype)
        self._kept = None if scaling.kept is None else np.empty((step, n), values.dtype)
        self._mean, self._scale = scaling.mean.astype(exact), scaling.scale.astype(exact)
        self._wide = None if exact == dtype else np.empty((step, n), exact)
        self._fill: Array | None = None
        if missing and scaling.fill is not None:
            self._fill = ((scaling.fill - scaling.mean) / scaling.scale).astype(dtype)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, numbers: Any) -> Array:
        if isinstance(numbers, slice):
            numbers = np.arange(*numbers.indices(len(self.values)))
        out = np.empty((len(numbers), self.shape[1]), self.dtype)
        self._copy(np.asarray(numbers), out)
        return out

    def take(self, numbers: Array, out: Array) -> None:
        """See Features."""
        self._copy(numbers, out[:, :-1])
        out[:, -1] = 1

    def read_ahead(self, numbers: Array) -> None:
        """See Features."""
        if isinstance(self.values, Stacked):
            self.values.read_ahead(numbers)
        else:
            maps.read_ahead(self.values, numbers)

    def _copy(self, numbers: Array, out: Array) -> None:
        step = len(self._read)
        for first in range(0, len(numbers), step):
            some = numbers[first : first + step]
            n = len(some)
            read = self._take(some, self._read[:n])
            if self._kept is not None and self.scaling.kept is not None:
                read = np.take(read, self.scaling.kept, axis=1, out=self._kept[:n], mode="clip")
            into = out[first : first + n]
            wide = into if self._wide is None else self._wide[:n]
            with np.errstate(invalid="ignore"):
                np.subtract(read, self._mean, out=wide, dtype=wide.dtype)
                np.divide(wide, self._scale, out=into, casting="same_kind")
            if self._fill is not None and (absent := np.isnan(into)).any():
                np.copyto(into, self._fill, where=absent)


def _take(values: Array, numbers: Array, out: Array) -> Array:
    return np.take(values, numbers, axis=0, out=out, mode="clip")


def held_bytes(n_rows: int, n_features: int, dtype: str, *, mapped: bool) -> int:
    """Return what scaled features and the ones beside them take in memory; 0 if they are not held."""
    needed = n_rows * (n_features + 1) * np.dtype(dtype).itemsize
    return needed if needed <= (MOST_HELD_OF_MAPS if mapped else MOST_HELD) else 0


def scaled(values: Matrix, scaling: Scaling, dtype: str, *, missing: bool, moderate: bool) -> Features:
    """Return features, as read, as a model takes them; the same numbers whether they are held or not.

    ``missing``: whether any is NaN. ``moderate``: whether float32 can hold all that is on the way. Then bytes, and
    numbers that are stored in float32, are scaled in float32, which takes a third of the time and loses no digit that
    they have; all others in float64.
    """
    n, final = len(scaling.mean), np.dtype(dtype)
    short = moderate and np.result_type(values.dtype, final) == np.float32
    exact = np.dtype(np.float32 if short else np.float64)
    mapped = MappedFeatures(values, scaling, final, exact, missing=missing)
    if not held_bytes(len(values), n, dtype, mapped=is_mapped(values)):
        return mapped
    rows = np.empty((len(values), n + 1), dtype)
    for block in row_blocks(*values.shape):
        mapped.take(np.arange(*block.indices(len(rows))), rows[block])
    return HeldFeatures(rows)
