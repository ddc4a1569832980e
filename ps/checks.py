"""Whether vectors are finite, and whether copies of one are equal, in few passes over memory."""

import math

import numpy as np

from common.flat import BLOCK, Array

WEIGHT = 0x9E3779B97F4A7C15
"""2^64 over the golden ratio: multiples of it spread over all bits."""


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
    """Return a checksum of 64 bits, and whether all numbers are finite, of a part that begins at number ``start``.

    sum over b of (2 b + 1) WEIGHT s_b modulo 2^64, where s_b is the sum of the 32-bit words in block b of the whole
    vector: those of its parts add up to it, however it is cut. It finds faults, not forgers.
    """
    words, numbers = vector.view(np.uint32), BLOCK * 4 // vector.itemsize
    total, finite, at = 0, True, 0
    while at < len(vector):
        block = (start + at) // numbers
        stop = min((block + 1) * numbers - start, len(vector))
        part = words[at * vector.itemsize // 4 : stop * vector.itemsize // 4]
        total += (2 * block + 1) * WEIGHT * int(np.add.reduce(part, dtype=np.uint64))
        finite = finite and is_finite(vector[at:stop])
        at = stop
    return total % 2**64, finite
