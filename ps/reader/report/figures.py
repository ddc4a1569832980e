"""Figures that sum up others, where some may be undefined."""

import numpy as np

from common.flat import Array
from common.limits import PAGE_ROWS


def block_means(values: Array, size: int) -> Array:
    """Return the means of blocks of ``size`` along the first axis; the last block may be smaller."""
    starts = np.arange(0, len(values), size)
    counts = np.diff([*starts, len(values)])
    sums = np.add.reduceat(values, starts, axis=0)  # undefined if one is: a gap
    return np.asarray(sums / counts.reshape(-1, *[1] * (values.ndim - 1)))


def column_means(values: Array) -> Array:
    """Return the mean of the known values of each column; NaN if there are none."""
    known = np.isfinite(values)
    return np.asarray(np.where(known, values, 0).sum(axis=0) / known.sum(axis=0))


def quantiles(values: Array, levels: tuple[float, ...]) -> Array:
    """Return (levels, rows) quantiles of the known values of each row; NaN if there are none."""
    empty = np.asarray(np.isnan(values).all(axis=1))
    filled = np.where(empty[:, None], 0.0, values)
    return np.where(empty, np.nan, np.nanquantile(filled, levels, axis=1))


def spread(n: int, most: int = PAGE_ROWS) -> list[int]:
    """Return at most ``most`` of n indices, evenly spread, the first and the last among them."""
    return sorted({round(i * (n - 1) / (most - 1)) for i in range(most)}) if n > most else list(range(n))
