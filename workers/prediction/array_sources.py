"""Arrays of which rows are read a piece at a time: held or mapped, members of an .npz file, IDX files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from common import memory
from common.arrays_file import open_arrays
from common.data import idx_file
from common.data.stacked import Matrix
from common.errors import BrokenFileError, DataError
from common.flat import Array


class RowSource(Protocol):
    """An array."""

    @property
    def name(self) -> str:
        """In messages."""

    @property
    def shape(self) -> tuple[int, ...]:
        """See NumPy."""

    @property
    def kind(self) -> str:
        """Of its dtype, as NumPy has it."""

    def rows(self, first: int, last: int, step: int) -> Iterator[Array]:
        """Yield rows from ``first`` to before ``last``, ``step`` at a time. Raises DataError."""


@dataclass(frozen=True, slots=True)
class Held:
    """An array in memory, or a map of one."""

    name: str
    array: Matrix

    @property
    def shape(self) -> tuple[int, ...]:
        """See RowSource."""
        return self.array.shape

    @property
    def kind(self) -> str:
        """See RowSource."""
        return self.array.dtype.kind

    def rows(self, first: int, last: int, step: int) -> Iterator[Array]:
        """See RowSource."""
        return (self.array[at : min(at + step, last)] for at in range(first, last, step))


@dataclass(frozen=True, slots=True)
class Member:
    """An array of an .npz file."""

    path: Path
    name: str
    shape: tuple[int, ...]
    kind: str

    @classmethod
    def of(cls, path: Path, name: str) -> "Member":
        """Look at an array. Raises DataError, and MemoryLimitError if its rows cannot be read one after the other."""
        try:
            with open_arrays(path) as arrays:
                if not arrays.streams(name):
                    memory.check(f"data {path}", arrays.n_bytes(name))
                return cls(path, name, arrays.shape(name), arrays.kind(name))
        except BrokenFileError as error:
            raise broken_npz(path, error) from error

    def rows(self, first: int, last: int, step: int) -> Iterator[Array]:
        """See RowSource."""
        try:
            with open_arrays(self.path) as arrays:
                yield from arrays.rows(self.name, first, last, step)
        except BrokenFileError as error:
            raise broken_npz(self.path, error) from error


def broken_npz(path: Path, error: BrokenFileError) -> DataError:
    """Return what is said of an .npz file that is not as it should be."""
    return DataError(f"{path}: not a readable .npz file of plain arrays ({error})")


@dataclass(frozen=True, slots=True)
class IdxArray:
    """What an IDX file holds; ``flat``: each row as one of numbers."""

    path: Path
    whole: tuple[int, ...]
    kind: str
    flat: bool

    @classmethod
    def of(cls, path: Path, *, flat: bool) -> "IdxArray":
        """Look at a file. Raises DataError."""
        shape, dtype = idx_file.layout_of(path)
        return cls(path, shape, dtype.kind, flat and len(shape) > 1)

    @property
    def name(self) -> str:
        """See RowSource."""
        return self.path.name

    @property
    def shape(self) -> tuple[int, ...]:
        """See RowSource."""
        return (self.whole[0], int(np.prod(self.whole[1:], dtype=object))) if self.flat else self.whole

    def rows(self, first: int, last: int, step: int) -> Iterator[Array]:
        """See RowSource."""
        found = idx_file.rows_of(self.path, first, last, step)
        return (rows.reshape(len(rows), -1) for rows in found) if self.flat else found
