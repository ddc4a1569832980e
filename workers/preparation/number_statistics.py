"""Takes the statistics of columns that were read as numbers, of all at once."""

from collections.abc import Collection

import numpy as np
import polars as pl

from common.flat import Array
from workers.preparation.number_columns import LARGEST
from workers.preparation.statistics import NUMBER, SKETCH, ColumnStatistics, different


def number_statistics(frame: pl.DataFrame, names: Collection[str]) -> dict[str, ColumnStatistics]:
    """Return those of the columns that are numbers, finite and within float32, or missing; of others nothing."""
    kinds = frame.schema  # made anew each time
    values = frame.select(name for name in names if kinds[name].is_numeric())
    if not values.width or not values.height:
        return {}
    values = values.cast(pl.Float64)
    x = values.to_numpy()
    absent = np.isnan(x)
    missing = absent.sum(axis=0)
    some = bool(missing.any())
    least = np.where(absent, np.inf, x).min(axis=0) if some else x.min(axis=0)
    most = np.where(absent, -np.inf, x).max(axis=0) if some else x.max(axis=0)
    fits = (missing == len(x)) | (np.maximum(-least, most) <= LARGEST)
    whole = ((x == np.floor(x)) | absent).all(axis=0)
    hashes = values.select(pl.all().hash(seed=0))
    found = {}
    for i, name in enumerate(values.columns):
        if not fits[i]:
            continue
        own = hashes.to_series(i).to_numpy()
        one = ColumnStatistics(rows=len(x), missing=int(missing[i]), texts=None)
        one.hashes = least_hashes(own[~absent[:, i]] if missing[i] else own)
        if one.cells:
            one.kinds[NUMBER], one.whole = one.cells, bool(whole[i])
            one.least, one.most = float(least[i]), float(most[i])
        if not missing[i] and most[i] - least[i] == len(x) - 1 and (np.diff(x[:, i]) == 1).all():
            one.first, one.last = one.least, one.most
        found[name] = one
    return found


def hashes_of(cells: pl.Series) -> Array:
    """Return the smallest hashes of different cells, sorted."""
    return least_hashes(cells.hash(seed=0).to_numpy())


def least_hashes(hashes: Array) -> Array:
    """Return the smallest different ones, sorted."""
    if len(hashes) > 4 * SKETCH:  # most likely there are enough of these, and all need not be sorted
        least = different(hashes[hashes < np.uint64((2 * SKETCH << 64) // len(hashes))])
        if len(least) >= SKETCH:
            return least[:SKETCH].astype(np.uint64)
    return different(hashes)[:SKETCH].astype(np.uint64)
