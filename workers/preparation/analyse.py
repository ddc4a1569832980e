"""Takes the statistics of some rows of a table."""

from collections import Counter
from typing import Any

import numpy as np
import polars as pl

from common.flat import Array
from workers.preparation.cells import (
    CURRENCY,
    DATES,
    PERCENT,
    category,
    frame_seconds,
    is_missing,
    numbers,
    plain_numbers,
    seconds,
    texts,
)
from workers.preparation.number_columns import NONE, NumberColumns
from workers.preparation.number_statistics import hashes_of, number_statistics
from workers.preparation.options import Options, names_in
from workers.preparation.statistics import (
    INFINITE,
    LARGE,
    MOST_TEXTS,
    NESTED,
    NUMBER,
    STORED,
    TEXT,
    Analysis,
    ColumnStatistics,
    bounded,
    interleaved,
)

LOOKED_AT = 4096
TRIED = 20
"""Texts that show which kinds of dates may fit all."""
LONGEST_EXAMPLE = 80


def analyse(frame: pl.DataFrame, options: Options, place: Any = None, numbers: NumberColumns = NONE) -> Analysis:
    """Return the statistics of some rows. ``place``: what the caller calls the frame.

    ``numbers``: columns that are taken for numbers; one that is texts here is said to be unlike them.
    """
    missing, taken = tuple(names_in(options.missing)), {*numbers.names}
    found = number_statistics(frame, [name for name in frame.columns if name in taken])
    columns, unlike = {}, set()
    for series in frame.iter_columns():
        if series.name in taken and series.dtype == pl.String:
            unlike.add(series.name)
            columns[series.name] = ColumnStatistics()
        else:
            columns[series.name] = found.get(series.name) or _column(series, missing, place)
    return Analysis(frame.height, int(has_target(frame, options).sum()), columns, unlike)


def has_target(frame: pl.DataFrame, options: Options) -> Array:
    """Return which rows have all targets."""
    missing = tuple(names_in(options.missing))
    kept = np.ones(frame.height, bool)
    for name in names_in(options.target):
        if name in frame.columns:
            kept &= ~is_missing(frame[name], missing).to_numpy()
    return kept


def _column(cells: pl.Series, missing: tuple[str, ...], place: Any) -> ColumnStatistics:
    if (values := plain_numbers(cells, missing)) is not None:
        return _plain(cells, values, place)
    kind = cells.dtype
    if kind.is_numeric():
        values = cells.cast(pl.Float64).fill_nan(None)
        found = ColumnStatistics(rows=len(cells), missing=values.null_count())
        _add_numbers(found, values, values, place)
        several = cells.head(LOOKED_AT).n_unique() > MOST_TEXTS or cells.n_unique() > MOST_TEXTS
        found.texts = None if several else _counter(texts(cells).drop_nulls())
        found.hashes = hashes_of(values.drop_nulls())
    elif kind.is_temporal():
        found = ColumnStatistics(rows=len(cells), missing=cells.null_count(), texts=None)
        _add_dates(found, STORED, frame_seconds(cells))
        found.hashes = hashes_of(cells.drop_nulls())
    elif kind.is_nested() or kind in (pl.Binary, pl.Object):
        found = ColumnStatistics(rows=len(cells), missing=cells.null_count(), texts=None, stored=str(kind))
        found.kinds[NESTED] = found.cells
    else:
        text = texts(cells, missing)
        found = ColumnStatistics(rows=len(text), missing=text.null_count())
        _add_texts(found, text, place)
    return found


def _plain(text: pl.Series, values: pl.Series, place: Any) -> ColumnStatistics:
    """Return the statistics of texts that all are plain numbers."""
    found = ColumnStatistics(rows=len(text))
    found.texts = None if text.head(LOOKED_AT).n_unique() > MOST_TEXTS else _counter(text)
    found.hashes = hashes_of(text)
    _add_numbers(found, values, values, place, None, text)
    return found


def _counter(text: pl.Series) -> Counter[str] | None:
    return _summed(*_values(text))


def _values(text: pl.Series) -> tuple[pl.Series, Array]:
    """Return different texts, and how often each occurs."""
    counted = text.drop_nulls().alias("text").value_counts(name="n")
    return counted["text"], counted["n"].to_numpy()


def _summed(unique: pl.Series, n: Array) -> Counter[str] | None:
    """Return how often each text occurs as a category."""
    found: Counter[str] = Counter()
    for one, times in zip(category(unique).to_list(), n.tolist(), strict=True):
        found[one] += times
    return bounded(found)


def _add_texts(found: ColumnStatistics, text: pl.Series, place: Any) -> None:
    """Add cells that are texts; of few different ones each is looked at once."""
    unique, n = text, np.ones(len(text), np.int64)
    found.texts, several = None, False
    if text.head(LOOKED_AT).n_unique() <= MOST_TEXTS:
        different, times = _values(text)
        found.texts = _summed(different, times) if len(different) <= 2 * MOST_TEXTS else None
        several = len(text) > 2 * len(different)
        unique, n = (different, times) if several else (unique, n)
    found.hashes = hashes_of(unique.drop_nulls())
    values = numbers(unique)
    _add_numbers(found, values, None if several else values, place, n, text)
    odd = (values.is_null() & unique.is_not_null()).to_numpy()
    if odd.any():
        _add_odd(found, unique.filter(odd), n[odd], text, place)


def _add_numbers(
    found: ColumnStatistics,
    values: pl.Series,
    in_order: pl.Series | None,
    place: Any,
    n: Array | None = None,
    text: pl.Series | None = None,
) -> None:
    """Add numbers, each ``n`` times. ``in_order``: all of the column in its order, if that is known."""
    array = np.asarray(values.fill_null(np.nan).to_numpy(), np.float64)
    weight = np.ones(len(array), np.int64) if n is None else n
    finite, infinite = np.isfinite(array), np.isinf(array)
    found.kinds[NUMBER] += int(weight[finite].sum())
    if infinite.any():
        found.kinds[INFINITE] += int(weight[infinite].sum())
        row = int(np.flatnonzero(infinite)[0])
        if text is not None and in_order is None:
            row = int(np.flatnonzero(np.isinf(numbers(text).fill_null(0).to_numpy()))[0])
        found.examples[INFINITE] = (str(text[row]) if text is not None else str(array[row]), place, row)
    if not finite.any():
        return
    present = array[finite]
    found.least, found.most = float(present.min()), float(present.max())
    found.whole = bool((present == np.floor(present)).all())
    _add_extremes(found, in_order, text, place)
    if in_order is not None and len(present) == len(array) and (len(array) == 1 or (np.diff(array) == 1).all()):
        found.first, found.last = float(array[0]), float(array[-1])


def _add_extremes(found: ColumnStatistics, in_order: pl.Series | None, text: pl.Series | None, place: Any) -> None:
    """Keep where a number is that float32 cannot hold."""
    largest = float(np.finfo(np.float32).max)
    if max(-found.least, found.most) <= largest:
        return
    values = in_order if in_order is not None else numbers(text) if text is not None else None
    if values is not None:
        row = int(np.flatnonzero(np.abs(values.fill_null(0).to_numpy()) > largest)[0])
        found.examples[LARGE] = (str(text[row]) if text is not None else str(values[row]), place, row)


def _add_odd(found: ColumnStatistics, odd: pl.Series, n: Array, text: pl.Series, place: Any) -> None:
    """Add texts that are no numbers, each ``n`` times."""
    left = np.ones(len(odd), bool)
    if not odd.str.contains(r"\d").any():  # all that is looked for has digits
        _count(found, TEXT, left, (odd, n, text, place))
        return
    for kind, pattern in (("percent", PERCENT), ("currency", CURRENCY)):
        fits = odd.str.contains(pattern).to_numpy()
        left &= ~fits
        _count(found, kind, fits, (odd, n, text, place))
    for form in [form for form, (pattern, _) in DATES.items() if odd.head(TRIED).str.contains(pattern).any()]:
        when = seconds(odd, form)
        fits = ~np.isnan(when)
        left &= ~fits
        _count(found, form, fits, (odd, n, text, place))
        _add_dates(found, form, when, counted=False)
    _count(found, TEXT, left, (odd, n, text, place))


def _count(found: ColumnStatistics, kind: str, fits: Array, cells: tuple[pl.Series, Array, pl.Series, Any]) -> None:
    odd, n, text, place = cells
    if fits.any():
        found.kinds[kind] += int(n[fits].sum())
        one = odd.filter(fits)
        one = one.head(1) if len(odd) > 2 * MOST_TEXTS else one.unique()  # of many texts these are in their order
        row = int(np.flatnonzero(text.is_in(one.to_list()).fill_null(value=False).to_numpy())[0])
        found.examples[kind] = (str(text[row])[:LONGEST_EXAMPLE], place, row)


def _add_dates(found: ColumnStatistics, form: str, when: Array, *, counted: bool = True) -> None:
    """Add seconds since 1970, NaN for none: the spans of the parts of their dates."""
    present = when[~np.isnan(when)]
    if counted:
        found.kinds[form] += len(present)
    if len(present):
        parts = date_parts(present)
        found.spans[form] = interleaved(parts.min(axis=1), parts.max(axis=1))


def date_parts(when: Array) -> Array:
    """Return year, month, weekday and seconds of the day, (4, n)."""
    whole = np.floor(when).astype(np.int64)
    days = whole // 86400
    months = days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    return np.stack([1970 + months // 12, 1 + months % 12, (days + 3) % 7, whole % 86400]).astype(np.float64)
