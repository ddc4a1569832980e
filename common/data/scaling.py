"""Brings columns to mean 0 and deviation 1, worked out in float64 and cast only then; says what a cast would lose."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import DataError
from common.flat import Array

Rows = NDArray[np.signedinteger[Any]]
"""Numbers of rows: see ``row_type``."""
NUMBERS_AT_A_TIME = 1 << 20
"""Of the rows that are worked on in float64 together: the copy that this takes stays at 8 MiB."""
FLOAT32_STEPS = 16
"""So many steps between neighbouring float32 numbers must fit into a column's deviation, or its values run together."""


def row_type(n: int) -> type[np.int32 | np.int64]:
    """Return of what type numbers below ``n`` are: of 4 bytes where they fit, as a file may have many narrow rows."""
    return np.int32 if n <= np.iinfo(np.int32).max else np.int64


def row_numbers(n: int) -> Rows:
    """Return the numbers below ``n``, ascending."""
    return np.arange(n, dtype=row_type(n))


def row_blocks(n_rows: int, n_columns: int) -> Iterator[slice]:
    """Yield slices of so many rows as are worked on in float64 together."""
    step = max(1, NUMBERS_AT_A_TIME // n_columns)
    return (slice(start, start + step) for start in range(0, n_rows, step))


def all_finite(values: Array) -> bool:
    """Say whether all numbers of a matrix are finite, without a mask of all of it."""
    return all(np.isfinite(values[block]).all() for block in row_blocks(len(values), max(1, values.shape[1])))


def is_constant(deviation: Array, mean: Array) -> Array:
    """Say which columns deviate so little from their mean that these are rounding errors, not to be blown up."""
    return np.asarray(deviation <= 1e-12 * np.abs(mean))


def moments(where: str, values: Array, rows: Rows, weight: Array | None = None) -> tuple[Array, Array]:
    """Return mean and deviation of some rows' columns in float64.

    ``where``: data and array, for messages. ``weight``: what each row of ``values`` counts, if not 1. Raises DataError
    if they do not fit into float64.
    """
    n = len(rows) if weight is None else weight[rows].sum()

    def parts() -> Iterator[tuple[Array, Rows]]:
        # counted from the first row: a constant column is then exactly 0, however many rows are added up
        for part in row_blocks(len(rows), values.shape[1]):
            yield values[rows[part]].astype(np.float64) - first, rows[part]

    def added(block: Array, numbers: Rows) -> Array:
        return np.asarray(block.sum(axis=0) if weight is None else weight[numbers] @ block)

    with np.errstate(over="ignore", invalid="ignore"):  # checked below
        first = values[rows[0]].astype(np.float64)
        offset = sum(added(block, numbers) for block, numbers in parts()) / n
        deviation = np.sqrt(sum(added(np.square(block - offset), numbers) for block, numbers in parts()) / n)
        mean = first + offset
    check_deviation(where, deviation)
    return mean, deviation


def check_deviation(where: str, deviation: Array) -> None:
    """Raise DataError for a column whose deviation is beyond float64."""
    wrong = np.flatnonzero(~np.isfinite(deviation))
    if len(wrong):
        raise DataError(f"{where}, column {wrong[0]}: its deviation is too large for float64; scale the column down")


def scaling(where: str, values: Array, rows: Rows, weight: Array | None = None) -> tuple[Array, Array]:
    """Return the moments with 1 as the deviation of constant columns. Raises DataError as ``moments`` does."""
    mean, deviation = moments(where, values, rows, weight)
    deviation[is_constant(deviation, mean)] = 1
    return mean, deviation


def standardize(where: str, values: Array, mean: Array, deviation: Array, out: Array) -> None:
    """Write (values - mean) / deviation into ``out``. Raises DataError if a number is too large for its dtype."""
    with np.errstate(over="ignore", invalid="ignore"):  # checked below
        for block in row_blocks(*values.shape):
            out[block] = (values[block].astype(np.float64) - mean) / deviation
    if not all_finite(out):
        remedy = "use --dtype float64 or scale them" if out.dtype == np.float32 else "scale them"
        raise DataError(f"{where} holds numbers too large for {out.dtype}; {remedy}")


def note_on_digits(where: str, values: Array, rows: Rows, dtype: np.dtype[Any], option: str) -> list[str]:
    """Warn of the first column whose values run together when it is cast to ``dtype`` as it is, if there is one.

    ``option``: which kept it from being standardised, if that was one.
    """
    if loses_digits(values.dtype, dtype):
        return digits_note(where, moments(where, values, rows), option)
    return []


def loses_digits(stored: np.dtype[Any], dtype: np.dtype[Any]) -> bool:
    """Say whether numbers may run together when they are cast to ``dtype``."""
    return dtype == np.float32 and not np.can_cast(stored, dtype)


def digits_note(where: str, moments: tuple[Array, Array], option: str) -> list[str]:
    """Do what ``note_on_digits`` does, by the mean and deviation of each column."""
    mean, deviation = moments
    step = np.spacing(np.abs(mean).astype(np.float32))
    lost = np.flatnonzero(~is_constant(deviation, mean) & (deviation < FLOAT32_STEPS * step))
    if not len(lost):
        return []
    i, remedy = lost[0], f"leave {option} out, or use --dtype float64" if option else "use --dtype float64"
    return [
        f"Warning: {where}, column {i}: it varies by {deviation[i]:.3g} around {mean[i]:.6g}, where float32 has steps "
        f"of {step[i]:.3g}; {remedy}."
    ]
