"""Turns rows of a table into arrays, as a plan says."""

from collections.abc import Iterable

import numpy as np
import polars as pl

from common.data.preprocessing import Category, Column, Date, Number
from common.flat import Array
from workers.preparation.analyse import has_target
from workers.preparation.cells import category, frame_seconds, numbers, plain_numbers, seconds, texts
from workers.preparation.options import TableError, names_in
from workers.preparation.plan import LABELS, Plan

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
        arrays["weight"] = _require_present(as_numbers(frame[name], missing), name, "weight")
    for name in names_in(plan.options.group):
        arrays["group"] = category(texts(frame[name], missing)).fill_null("").hash(seed=0).to_numpy().view(np.int64)
    for name in names_in(plan.options.time):
        series = frame[name]
        when = as_seconds(series, plan.time_form, missing) if plan.time_form else as_numbers(series, missing)
        arrays["time"] = _require_present(when, name, "time")
    return arrays


def cells(frame: pl.DataFrame, columns: Iterable[Column], missing: tuple[str, ...] = ()) -> dict[str, Array]:
    """Return the cells of those columns that are there, as their ``encode`` takes them."""
    return {
        column.name: _cells(frame[column.name], column, missing) for column in columns if column.name in frame.columns
    }


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
    return np.asarray(found.fill_null(np.nan).to_numpy(), np.float64)


def as_seconds(series: pl.Series, form: str, missing: tuple[str, ...]) -> Array:
    """Return seconds since 1970, float64, NaN for a missing cell and for what is no date written so."""
    if series.dtype.is_temporal():
        return frame_seconds(series)
    return seconds(texts(series, missing), form or "ymd")


def codes(series: pl.Series, column: Category, missing: tuple[str, ...]) -> Array:
    """Return codes as ``Category.codes`` does, each different text looked up once."""
    text = texts(series, missing)
    unique = text.unique()
    found = column.codes(category(unique).to_list())
    return np.asarray(
        text.replace_strict(unique, pl.Series(found, dtype=pl.Int64), return_dtype=pl.Int64).to_numpy(), np.int64
    )


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


def _require_present(values: Array, name: str, option: str) -> Array:
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise TableError(
            f"column {name!r}: a cell is missing or cannot be read; --{option} takes a value in each row",
            row=int(wrong[0]),
        )
    return values
