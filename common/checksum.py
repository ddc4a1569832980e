"""Whether vectors are finite, and whether copies of one are equal, in few passes over memory."""

import math

import numpy as np

from common.flat import BLOCK, Array

WEIGHT = 0x9E3779B97F4A7C15
"""2^64 over the golden ratio: multiples of it spread over all bits."""
COLUMNS = 128
PLACES = np.arange(BLOCK, dtype=np.uint64)


def long_norm(vector: Array) -> float:
    """Return the Euclidean norm of a finite vector, also if its square overflows; NaN if it is not finite."""
    square = float(vector.dot(vector))
    if math.isfinite(square):
        return math.sqrt(square)
    largest = float(np.abs(vector).max())
    return largest * float(np.linalg.norm(vector / largest)) if math.isfinite(largest) else math.nan


def is_finite(block: Array) -> bool:
    """Say whether all numbers are finite: by their sum of squares, and only if that overflows one by one."""
    square = block.dot(block) if block.ndim == 1 else np.vdot(block, block)
    return math.isfinite(square) or bool(np.isfinite(block).all())


def check(vector: Array, start: int) -> tuple[int, bool]:
    """Return a 64-bit checksum, and whether all numbers are finite, of a range that begins at number ``start``.

    WEIGHT times the sum over p of (2 p + 1) w_p modulo 2^64, where w_p is the 32-bit word at place p of the whole
    vector: checksums of ranges add up to that of the whole, however it is cut. Words that change places change it, and
    so do flips that cancel in a plain sum. It finds faults, not forgers.
    """
    words, each = vector.view(np.uint32), vector.itemsize // 4
    first, total, finite = start * each, 0, True
    for at in range(0, len(words), BLOCK):
        plain, placed = _sums(words[at : at + BLOCK])
        total += 2 * placed + (2 * (first + at) + 1) * plain
        finite = finite and is_finite(vector[at // each : (at + BLOCK) // each])
    return total * WEIGHT % 2**64, finite


def _sums(words: Array) -> tuple[int, int]:
    """Return the sum of at most ``BLOCK`` words, and of their products with their places.

    Words are laid out in rows, whose sums, and those of the columns, are few: p is its row times ``COLUMNS`` and its
    column. That costs two plain sums; products of all words would take three times as long.
    """
    whole = len(words) // COLUMNS * COLUMNS
    table, tail = words[:whole].reshape(-1, COLUMNS), words[whole:].astype(np.uint64)
    columns, rows = (np.add.reduce(table, axis=axis, dtype=np.uint64) for axis in (0, 1))
    placed = COLUMNS * int(rows @ PLACES[: len(rows)]) + int(columns @ PLACES[:COLUMNS])
    return int(rows.sum()) + int(tail.sum()), placed + int(tail @ PLACES[whole : len(words)])
