"""Takes the statistics of columns that were read as numbers, of all at once."""

from collections.abc import Collection

import numpy as np
import polars as pl

from common.flat import Array
from workers.preparation.number_columns import LARGEST
from workers.preparation.statistics import NUMBER, SKETCH, ColumnStatistics, different


def number_statistics(frame: pl.DataFrame, names: Collection[str]) -> dict[str, ColumnStatistics]:
    """Return those of the columns that are numbers, finite and within float32, or missing; of others nothing."""
    values = frame.select(
        pl.col(name).cast(pl.Float64).fill_nan(None) for name in names if frame[name].dtype.is_numeric()
    )
    fit = values.select((pl.all().abs() <= LARGEST).all()).row(0) if values.width else ()
    values = values.select(name for name, fits in zip(values.columns, fit, strict=True) if fits)
    if not values.width:
        return {}
    missing, least, most = values.null_count().row(0), values.min().row(0), values.max().row(0)
    whole = values.select((pl.all() == pl.all().floor()).all()).row(0)
    found = {}
    for i, series in enumerate(values.iter_columns()):
        present = series.drop_nulls() if missing[i] else series
        one = ColumnStatistics(rows=len(series), missing=missing[i], texts=None, hashes=least_hashes(present))
        if len(present):
            one.kinds[NUMBER], one.least, one.most, one.whole = len(present), least[i], most[i], whole[i]
        if not missing[i] and _counts(series, least[i], most[i]):
            one.first, one.last = least[i], most[i]
        found[series.name] = one
    return found


def _counts(series: pl.Series, least: float | None, most: float | None) -> bool:
    """Say whether each number is one more than the one before."""
    if least is None or most is None or most - least != len(series) - 1:
        return False
    return bool((np.diff(series.to_numpy()) == 1).all())


def least_hashes(cells: pl.Series) -> Array:
    """Return the smallest hashes of different cells, sorted."""
    hashes = cells.hash(seed=0).to_numpy()
    if len(hashes) > 4 * SKETCH:  # most likely there are enough of these, and all need not be sorted
        least = different(hashes[hashes < np.uint64((2 * SKETCH << 64) // len(hashes))])
        if len(least) >= SKETCH:
            return least[:SKETCH].astype(np.uint64)
    return different(hashes)[:SKETCH].astype(np.uint64)
