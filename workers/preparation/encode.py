"""Turns rows of a table into arrays, as a plan says."""

import hashlib
from collections.abc import Iterable

import numpy as np
import polars as pl

from common.data.preprocessing import Category, Column, Date, Number
from common.data.weights import MOST
from common.flat import Array
from workers.preparation.analyse import has_target
from workers.preparation.cells import category, different, frame_seconds, numbers, plain_numbers, seconds, texts
from workers.preparation.options import TableError, names_in
from workers.preparation.plan import LABELS, Plan

LONGEST_SHOWN = 40
TRUE, FALSE = ["true", "yes", "y", "t", "on"], ["false", "no", "n", "f", "off"]
"""How 1 and 0 are written in columns of several targets."""


def encode(frame: pl.DataFrame, plan: Plan) -> dict[str, Array]:
    """Return ``x``, ``y`` and, where asked for, ``weight``, ``group``, ``time`` of the rows that have a target.

    x: (n, n_features) of ``plan.x_dtype``, NaN for a missing number; y: (n,) int64 codes, or (n, n_targets) float64.
    """
    kept = has_target(frame, plan.options)
    if not kept.all():
        frame = frame.filter(pl.Series(kept))
    missing = tuple(names_in(plan.options.missing))
    x = np.empty((len(frame), 0), plan.x_dtype)
    if plan.preprocessing.columns:
        x = plan.preprocessing.encode(cells(frame, plan.preprocessing.columns, missing), plan.x_dtype)
    arrays = {"x": x, "y": _target(frame, plan, missing)}
    for name in names_in(plan.options.weight):
        arrays["weight"] = weight = as_numbers(frame[name], missing)
        _require((weight >= 0) & (weight <= MOST), frame[name], "weight", f" from 0 to {MOST:g}")
    for name in names_in(plan.options.group):
        arrays["group"] = _groups(frame[name], missing)
    for name in names_in(plan.options.time):
        series = frame[name]
        when = as_seconds(series, plan.time_form, missing) if plan.time_form else as_numbers(series, missing)
        _require(np.isfinite(when), series, "time")
        arrays["time"] = when
    return arrays


def cells(frame: pl.DataFrame, columns: Iterable[Column], missing: tuple[str, ...] = ()) -> dict[str, Array]:
    """Return the cells of those columns that are there, as their ``encode`` takes them."""
    there = {*frame.columns}
    return {column.name: _cells(frame[column.name], column, missing) for column in columns if column.name in there}


def _cells(series: pl.Series, column: Column, missing: tuple[str, ...]) -> Array:
    if isinstance(column, Number):
        return as_numbers(series, missing)
    if isinstance(column, Date):
        return as_seconds(series, column.form, missing)
    return codes(series, column, missing)


def as_numbers(series: pl.Series, missing: tuple[str, ...]) -> Array:
    """Return float64, NaN for a missing cell and for what is no number."""
    if (plain := plain_numbers(series, missing)) is not None:
        return np.asarray(plain.to_numpy(), np.float64)
    found = series.cast(pl.Float64) if series.dtype.is_numeric() else numbers(texts(series, missing))
    return np.asarray(found.to_numpy(), np.float64)  # which has NaN for null


def as_seconds(series: pl.Series, form: str, missing: tuple[str, ...]) -> Array:
    """Return seconds since 1970, float64, NaN for a missing cell and for what is no date written so."""
    if series.dtype.is_temporal():
        return frame_seconds(series)
    unique, places = different(texts(series, missing))
    return seconds(unique, form or "ymd")[places]


def codes(series: pl.Series, column: Category, missing: tuple[str, ...]) -> Array:
    """Return codes as ``Category.codes`` does, each different text looked up once."""
    unique, places = different(texts(series, missing))
    return column.codes(category(unique).to_list())[places]


def _groups(series: pl.Series, missing: tuple[str, ...]) -> Array:
    """Return a number for each text as a category has it, the same in all pieces, files and versions."""
    unique, places = different(texts(series, missing))
    names = category(unique)
    _require(names.is_not_null().to_numpy()[places], series, "group")
    digests = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names]
    return np.frombuffer(b"".join(digests), "<i8").astype(np.int64)[places]


def _target(frame: pl.DataFrame, plan: Plan, missing: tuple[str, ...]) -> Array:
    names = plan.target.names
    if plan.target.kind == LABELS:
        found = codes(frame[names[0]], Category(names[0], plan.target.labels), missing)
        if (found < 0).any():
            row = int(np.flatnonzero(found < 0)[0])
            raise TableError(
                f"target column {names[0]!r}: got {str(frame[names[0]][row])[:80]!r}, an unknown label", row=row
            )
        return found
    return np.stack([number_target(frame[name], missing) for name in names], axis=1)


def number_target(series: pl.Series, missing: tuple[str, ...]) -> Array:
    """Return one of several targets, float64: yes and no are 1 and 0; NaN for a missing cell, and what is neither."""
    found = as_numbers(series, missing)
    if np.isnan(found).any() and not series.dtype.is_numeric():
        text = texts(series, missing).str.to_lowercase()
        for value, words in ((1.0, TRUE), (0.0, FALSE)):
            found = np.where(text.is_in(words).fill_null(value=False).to_numpy(), value, found)
    return found


def _require(there: Array, column: pl.Series, option: str, such: str = "") -> None:
    """Raise TableError for the first row without a value that the option takes. ``such``: which these are."""
    wrong = np.flatnonzero(~there)
    if len(wrong):
        row = int(wrong[0])
        found = "a cell is missing" if column[row] is None else f"got {str(column[row])[:LONGEST_SHOWN]!r}"
        raise TableError(f"column {column.name!r}: {found}; --{option} takes a value{such} in each row", row=row)
