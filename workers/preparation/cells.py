"""What a cell says: nothing, a number, a point in time or a text; for whole polars series.

Numbers are as Python writes them, with thousands separators or without. A decimal comma has become a point before.
"""

from typing import Any

import numpy as np
import polars as pl

from common.flat import Array

_MISSING = (
    *("na", "nan", "null", "none", "n/a", "#n/a", "#na", "<na>", "-nan", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"),
    *("?", "-", "--", ".", "\\n", "(null)", "#null!", "#value!", "#div/0!", "#ref!", "#num!", "#name?"),
)
MISSING = ["", "#N/A N/A", "NaN", "-NaN", "NaT", "None", "Null", "N.A.", "n.a."]
MISSING += sorted({*_MISSING, *(text.upper() for text in _MISSING)})
"""What pandas takes for missing, and what spreadsheets, R, SAS and the UCI archive write."""
_SPACES = "\u00a0\u2007\u2009\u202f "
THOUSANDS = (
    rf"^[+-]?(?:\d{{1,3}}(?:,\d{{2,3}})*,\d{{3}}|\d{{1,3}}(?:[{_SPACES}]\d{{3}})+|\d{{1,3}}(?:['\u2019]\d{{3}})+)"
    r"(?:\.\d*)?$"
)
_SEPARATORS = rf"[,'\u2019{_SPACES}]"
_SIGNS = "[$\u20ac\u00a3\u00a5\u20b9\u20a9\u20bd\u20ba]|(?:EUR|USD|GBP|CHF|JPY|CAD|AUD|SEK|NOK|DKK|PLN|CZK|INR|CNY|BRL)"
_AMOUNT = rf"\(?[+-]?\d[\d.,'\u2019{_SPACES}]*\)?"
CURRENCY = rf"^(?:[+-]?\(?(?:{_SIGNS})\s?{_AMOUNT}|{_AMOUNT}\s?(?:{_SIGNS})\)?)$"
PERCENT = r"^[+-]?\d[\d.,]*\s?%$"
_CLOCK = r"(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,]\d+)?)?\s?([AaPp]\.?[Mm]\.?)?"
_ZONE = r"\s?(Z|UTC|GMT|[+-]\d{2}:?\d{2})?"
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = r"(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*\.?"
_AFTER = rf"(?:,?[T ]\s?{_CLOCK}{_ZONE})?$"
_DAY_NAME = r"^(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,?\s)?"
DATES: dict[str, tuple[str, str]] = {
    "ymd": (rf"^(\d{{4}})(?:-|/|\.)(\d{{1,2}})(?:[-/.](\d{{1,2}})){_AFTER}", "ymd"),
    "dmy": (rf"^(\d{{1,2}})[-/.](\d{{1,2}})[-/.](\d{{4}}|\d{{2}}){_AFTER}", "dmy"),
    "mdy": (rf"^(\d{{1,2}})[-/.](\d{{1,2}})[-/.](\d{{4}}|\d{{2}}){_AFTER}", "mdy"),
    "day month year": (rf"(?i){_DAY_NAME}(\d{{1,2}})[-\s./]{_MONTH}[-\s,./]*(\d{{4}}|\d{{2}}){_AFTER}", "dmy"),
    "month day year": (rf"(?i){_DAY_NAME}{_MONTH}\s(\d{{1,2}}),?\s(\d{{4}}){_AFTER}", "mdy"),
    "year month": (r"^(\d{4})[-/](\d{1,2})$", "ym"),
    "clock": (rf"^{_CLOCK}$", ""),
}
"""How dates are written: a pattern whose groups are the parts in that order, then hour, minute, second, AM or PM, zone.

The first one that fits all cells of a column counts: 01/02/2024 is the 1st of February unless another cell says the
month comes first; decide.py says which.
"""


def texts(cells: pl.Series, missing: tuple[str, ...] = ()) -> pl.Series:
    """Return cells as texts without blanks around them, null for a missing one.

    ``missing``: texts that stand for it beside the usual ones.
    """
    if cells.dtype == pl.Boolean:
        cells = cells.replace_strict({True: "True", False: "False"}, default=None, return_dtype=pl.String)
    elif cells.dtype.is_float():
        cells = cells.fill_nan(None).cast(pl.String)
    elif cells.dtype.is_temporal() or cells.dtype != pl.String:
        cells = cells.cast(pl.String)
    cells = cells.str.strip_chars()
    absent = cells.is_in([*MISSING, *missing])
    return cells.set(absent, None) if absent.any() else cells


def different(text: pl.Series) -> tuple[pl.Series, Array]:
    """Return the different texts, null among them where it occurs, and for each cell the place of its text there."""
    unique = text.unique()
    places = text.replace_strict(unique, pl.int_range(len(unique), eager=True), return_dtype=pl.Int64)
    return unique, np.asarray(places.to_numpy(), np.int64)


def category(text: pl.Series) -> pl.Series:
    """Return texts as a category has them: 1.0, which a program makes of 1 where others are missing, is 1."""
    found = text.str.replace(r"^([+-]?\d+)\.0*$", "$1")
    lower = text.str.to_lowercase()
    found = found.set(lower == "true", "True") if (lower == "true").any() else found
    return found.set(lower == "false", "False") if (lower == "false").any() else found


def numbers(text: pl.Series) -> pl.Series:
    """Return texts as float64, null for what is no number; one too large is infinite."""
    found = text.cast(pl.Float64, strict=False)
    odd = found.is_null() & text.is_not_null()
    if not odd.any():
        return found
    rest = text.str.replace("\u2212", "-", literal=True)
    plain = pl.select(
        pl.when(rest.str.contains(THOUSANDS)).then(rest.str.replace_all(_SEPARATORS, "")).otherwise(rest)
    ).to_series()
    return plain.cast(pl.Float64, strict=False)


def seconds(text: pl.Series, form: str) -> Array:
    """Return seconds since 1970 of texts, float64, NaN for what is not written so; ``form``: of ``DATES``.

    A time with a zone is brought to UTC; a clock alone counts from midnight.
    """
    pattern, order = DATES[form]
    groups = text.str.extract_groups(pattern).struct.unnest()
    parts = [groups.to_series(i) for i in range(groups.width)]
    day = np.zeros(len(text))
    if order:
        found = dict(zip(order, parts, strict=False))
        year, month = _years(found["y"]), _months(found["m"])
        day = _days(year, month, _floats(found["d"]) if "d" in found else np.ones(len(text)))
    rest = parts[len(order) :]
    if not rest:
        return day * 86400
    hour, minute, second = (_floats(part, 0 if order else np.nan) for part in rest[:3])
    second = np.nan_to_num(second)
    half = rest[3].str.head(1).str.to_lowercase()
    afternoon, morning = ((half == letter).fill_null(value=False).to_numpy() for letter in "pa")
    wrong = (hour > np.where(afternoon | morning, 12, 24)) | (minute > 59) | (second > 60)
    hour = np.where(afternoon | morning, hour % 12 + 12 * afternoon, hour)
    ahead = _zone(rest[4]) if len(rest) > 4 else 0
    found_s = day * 86400 + hour * 3600 + minute * 60 + second - ahead
    return np.where(wrong, np.nan, found_s)


def _floats(text: pl.Series, absent: float = np.nan) -> Array:
    return np.asarray(text.cast(pl.Float64, strict=False).fill_null(absent).to_numpy(), np.float64)


def _years(text: pl.Series) -> Array:
    """Return years; of two digits as Python takes them, 69 to 99 of the last century."""
    year = _floats(text)
    short = (text.str.len_chars() == 2).fill_null(value=False).to_numpy()
    return np.where(short, year + np.where(year >= 69, 1900, 2000), year)


def _months(text: pl.Series) -> Array:
    names = {name: i for i, name in enumerate(_MONTHS, 1)}
    named = text.str.head(3).str.to_lowercase().replace_strict(names, default=None, return_dtype=pl.Float64)
    return np.asarray(named.fill_null(text.cast(pl.Float64, strict=False)).fill_null(np.nan).to_numpy(), np.float64)


def _days(year: Array, month: Array, day: Array) -> Array:
    """Return days since 1970, NaN for a date that no calendar has."""
    possible = (month >= 1) & (month <= 12) & (day >= 1) & (year >= 1)
    months = np.where(possible, (np.nan_to_num(year) - 1970) * 12 + np.nan_to_num(month) - 1, 0).astype(np.int64)
    begin = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    end = (months + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    possible &= day <= end - begin
    return np.where(possible, begin + day - 1, np.nan)


def _zone(text: pl.Series) -> Array:
    """Return the seconds by which a zone is ahead of UTC."""
    digits = text.str.replace_all(r"[^0-9]", "")
    hours, minutes = _floats(digits.str.slice(0, 2), 0), _floats(digits.str.slice(2, 2), 0)
    behind = text.str.starts_with("-").fill_null(value=False).to_numpy()
    return np.asarray(np.where(behind, -1, 1) * (hours * 3600 + minutes * 60))


def frame_seconds(cells: pl.Series) -> Array:
    """Return seconds since 1970 of a series of dates or times, NaN for a missing one."""
    if cells.dtype == pl.Time:
        return _floats(cells.cast(pl.Int64)) / 1e9
    if cells.dtype == pl.Duration:
        return _floats(cells.dt.total_microseconds()) / 1e6
    return _floats(cells.cast(pl.Datetime("us", getattr(cells.dtype, "time_zone", None))).dt.timestamp("us")) / 1e6


def without_missing(frame: pl.DataFrame, missing: tuple[str, ...]) -> pl.DataFrame:
    """Return a frame with null for numbers that stand for a missing cell, where a file has types: -999, for one."""
    values = pl.Series(missing, dtype=pl.String).cast(pl.Float64, strict=False).drop_nulls().drop_nans()
    columns = [name for name, kind in frame.schema.items() if kind.is_numeric()] if len(values) else []
    return frame.with_columns(
        pl.when(pl.col(name).cast(pl.Float64).is_in(values.implode())).then(None).otherwise(pl.col(name)).alias(name)
        for name in columns
    )


def plain_numbers(cells: pl.Series, missing: tuple[str, ...]) -> pl.Series | None:
    """Return float64 if each cell is a finite number as programs write it; None otherwise.

    Of most columns of numbers this spares all that is done for cells that may say something else.
    """
    if cells.dtype != pl.String or missing:
        return None
    found = cells.cast(pl.Float64, strict=False)
    return None if found.null_count() or not found.is_finite().all() else found


def is_missing(cells: pl.Series, missing: tuple[str, ...]) -> Any:
    """Return which cells are missing, as a boolean series."""
    if plain_numbers(cells, missing) is not None:
        return cells.is_null()
    if cells.dtype.is_float():
        return cells.is_null() | cells.is_nan()
    return texts(cells, missing).is_null() if cells.dtype == pl.String else cells.is_null()
