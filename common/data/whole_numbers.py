"""Whole numbers of a long column: which there are, the place of each among them, how often; without copies of it."""

from collections.abc import Iterator

import numpy as np

from common.data.scaling import Rows
from common.flat import Array

AT_A_TIME = 1 << 16
"""Rows that are looked at together."""
CLOSE = 1 << 24
"""Numbers that lie so close are told apart by a flag each; others are sorted."""


def blocks(n: int) -> Iterator[slice]:
    """Yield slices of so many rows as are looked at together."""
    return (slice(first, min(first + AT_A_TIME, n)) for first in range(0, n, AT_A_TIME))


def first_fraction(values: Array) -> int | None:
    """Return the place of the first that is no whole number; None if there is none."""
    for block in blocks(len(values) if values.dtype.kind == "f" else 0):
        if len(found := np.flatnonzero(values[block] != np.floor(values[block]))):
            return int(block.start + found[0])
    return None


def different(values: Array) -> Array:
    """Return the different ones of whole numbers, at least one, sorted."""
    low, high = values.min(), values.max()
    with np.errstate(over="ignore"):  # longdouble holds more
        if values.dtype.kind == "b" or not 0 <= float(high) - float(low) < CLOSE:
            return np.unique(values)
    there = np.zeros(int(float(high) - float(low)) + 1, bool)
    for block in blocks(len(values)):
        there[_above(values[block], low)] = True
    found = np.flatnonzero(there).astype(values.dtype)
    found += low
    return found


def places(values: Array, labels: Array) -> Array:
    """Return the place of each value among the labels, (n,) int64; ``values`` themselves where these are the places.

    ``labels``: whole numbers within float64, sorted, each once. Values that are none of them get any place.
    """
    numbered = labels[-1] - labels[0] == len(labels) - 1
    if numbered and labels[0] == 0 and values.dtype == np.int64 and values.min() >= 0 and values.max() <= labels[-1]:
        return values
    found = np.empty(len(values), np.int64)
    for block in blocks(len(values)):
        whole = values[block].astype(np.int64)
        found[block] = whole - labels[0] if numbered else np.searchsorted(labels, whole)
    return np.clip(found, 0, len(labels) - 1, out=found)


def counted(classes: Array, n: int, rows: Rows | None = None, weight: Array | None = None) -> Array:
    """Return how many rows each of ``n`` classes has: of those named, all unless given; or the sum of their weights."""
    found = np.zeros(n, np.int64 if weight is None else np.float64)
    for block in blocks(len(classes) if rows is None else len(rows)):
        some = block if rows is None else rows[block]
        found += np.bincount(classes[some], None if weight is None else weight[some], n)
    return found


def _above(some: Array, low: Array) -> Array:
    """Return how far numbers are above the lowest, which is no farther than ``CLOSE``."""
    if some.dtype.kind == "f":
        return (some - low).astype(np.int64)
    with np.errstate(over="ignore"):  # of unsigned numbers beyond int64 the difference is right all the same
        return some.astype(np.int64) - low.astype(np.int64)
