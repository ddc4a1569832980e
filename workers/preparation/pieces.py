"""Which pieces there are of all files, in the order of their rows, and which rank reads which."""

import itertools
from typing import NamedTuple

from common.data.prepared_file import N_PIECES
from workers.preparation import byte_pieces

LEAST_BYTES = 4 << 20
"""Of files for each rank that starts a child: for less it takes longer to start than to read."""

LEAST_PART = 1 << 20
"""Bytes that are read as one, if a file has so many."""


class Piece(NamedTuple):
    """A part of a file: ``table`` numbers the file. ``start``, ``stop``: bytes of a text, rows of a Parquet file."""

    table: int
    start: int
    stop: int


def of_bytes(sizes: list[int]) -> list[Piece]:
    """Return 64 pieces of each file by its bytes."""
    return [Piece(i, start, stop) for i, size in enumerate(sizes) for start, stop in _pairs(byte_pieces.bounds(size))]


def of_rows(table: int, starts: list[int]) -> list[Piece]:
    """Return the pieces of a file that begin there; the last of ``starts`` is its end."""
    return [Piece(table, start, stop) for start, stop in _pairs(starts)]


def together(size: int) -> int:
    """Return how many neighbouring pieces of a file are read as one: each costs something by itself."""
    n = 1
    while n < N_PIECES and n * size < N_PIECES * LEAST_PART:
        n *= 2
    return n


def _pairs(places: list[int]) -> list[tuple[int, int]]:
    return list(itertools.pairwise(places))


def owners(sizes: list[int], n_ranks: int) -> list[int]:
    """Return the rank that reads each piece: one after the other, each rank about as many bytes.

    Nothing that is written depends on it.
    """
    total = sum(sizes)
    n = max(1, min(n_ranks, total // LEAST_BYTES))
    middles = (size * (2 * k + 1) / (2 * N_PIECES) for size in sizes for k in range(N_PIECES))
    before = (sum(sizes[:i]) for i in range(len(sizes)) for _ in range(N_PIECES))
    return [
        min(n - 1, int(n * (start + middle) / max(1, total))) for start, middle in zip(before, middles, strict=True)
    ]
