"""Mapped matrices one behind the other, as one: sets and numbered files that lie in files of their own."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from common.data import maps
from common.data.scaling import Rows
from common.flat import Array


class Stacked:
    """What is needed of one matrix, of several with the same columns and dtype; nothing is copied but what is taken."""

    nbytes = 0
    """Of this process's own memory."""

    def __init__(self, parts: Sequence[Array]) -> None:
        self.parts = tuple(parts)
        self.firsts = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
        self.shape: tuple[int, ...] = (int(self.firsts[-1]), *parts[0].shape[1:])
        self.dtype, self.ndim = parts[0].dtype, parts[0].ndim

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Array:
        """Return rows by their numbers, by a slice, or by slices of rows and of columns."""
        rows, columns = key if isinstance(key, tuple) else (key, slice(None))
        if not isinstance(rows, slice):
            return self.take(rows, np.empty((len(rows), *self.shape[1:]), self.dtype))[:, columns]
        start, stop, step = rows.indices(len(self))
        assert step == 1, "rows of several files are taken one after the other"
        cut = [part[:, columns] for part in self._cut(start, stop)]
        return cut[0] if len(cut) == 1 else np.concatenate(cut)

    def take(self, numbers: Rows, out: Array) -> Array:
        """Write rows into ``out`` and return it."""
        where = np.searchsorted(self.firsts, numbers, side="right") - 1
        for i in np.unique(where):
            here = where == i
            if here.all():
                return np.take(self.parts[i], numbers - self.firsts[i], axis=0, out=out, mode="clip")
            out[here] = self.parts[i][numbers[here] - self.firsts[i]]
        return out

    def first(self, n: int) -> "Stacked":
        """Return the first ``n`` rows."""
        return Stacked(self._cut(0, n))

    def read_ahead(self, numbers: Rows) -> None:
        """See ``maps.read_ahead``."""
        where = np.searchsorted(self.firsts, numbers, side="right") - 1
        for i in np.unique(where):
            maps.read_ahead(self.parts[i], numbers[where == i] - self.firsts[i])

    def _cut(self, start: int, stop: int) -> list[Array]:
        """Return what parts have of neighbouring rows; an empty piece if there are none."""
        begins, ends = np.clip(start - self.firsts[:-1], 0, None), np.clip(stop - self.firsts[:-1], 0, None)
        cut = [part[begin:end] for part, begin, end in zip(self.parts, begins, ends, strict=True)]
        return [part for part in cut if len(part)] or cut[:1]


Matrix = Array | Stacked
"""Features as read: (rows, columns)."""


def behind(parts: Sequence[Matrix]) -> Matrix:
    """Return matrices of the same columns one behind the other; what is mapped is not copied, if it is all alike."""
    flat = [own for part in parts for own in (part.parts if isinstance(part, Stacked) else [part])]
    flat = [own for own in flat if len(own)] or flat[:1]  # nothing can be mapped of an empty file
    if len(flat) == 1:
        return flat[0]
    if any(maps.map_of(own) is None or own.dtype != flat[0].dtype for own in flat):
        return np.concatenate(flat)
    joined = maps.one_view(flat)
    return Stacked(flat) if joined is None else joined


def is_mapped(values: Matrix) -> bool:
    """Say whether a matrix lies in files, not in the memory of this process."""
    return isinstance(values, Stacked) or maps.map_of(values) is not None
