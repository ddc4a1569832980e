"""The cells of new rows of a table, read as they were for training: what cannot be read so is refused."""

from collections.abc import Iterable

import numpy as np
import polars as pl

from common.data.preprocessing import Category, Column, Date, Number
from common.flat import Array
from workers.preparation.cells import texts
from workers.preparation.encode import cells
from workers.preparation.options import TableError

FINITE = "a finite number, as in training"
EXAMPLES = {
    "ymd": "2024-12-31", "dmy": "31.12.2024", "mdy": "12/31/2024", "day month year": "31 Dec 2024",
    "month day year": "Dec 31, 2024", "year month": "2024-12", "clock": "23:59",
}  # fmt: skip
"""Of each form of dates."""


def checked_cells(
    frame: pl.DataFrame, columns: Iterable[Column], missing: tuple[str, ...], dtype: str = "float64"
) -> dict[str, Array]:
    """Return the cells of those columns that are there. Raises TableError for one that is no number or no date.

    ``dtype``: of the features; a number that it does not hold is refused, too.
    """
    columns, largest = list(columns), float(np.finfo(dtype).max)
    found = cells(frame, columns, missing)
    for column in columns:
        if column.name in found and not isinstance(column, Category):
            require(frame[column.name], ~(np.abs(found[column.name]) <= largest), _allowed(column, dtype), missing)
    return found


def require(series: pl.Series, wrong: Array, allowed: str, missing: tuple[str, ...]) -> None:
    """Raise TableError if a cell that is ``wrong`` holds something, but not what is allowed."""
    if not wrong.any():
        return
    rows = np.flatnonzero(wrong & texts(series, missing).is_not_null().to_numpy())
    if len(rows):
        got = str(series[int(rows[0])])[:80]
        raise TableError(f"column {series.name!r}: got {got!r}; allowed is {allowed}, or nothing", row=int(rows[0]))


def _allowed(column: Number | Date, dtype: str) -> str:
    """Return what the cells of a column may hold."""
    if isinstance(column, Date):
        return f"one such as {EXAMPLES[column.form or 'ymd']}, as in training"
    return FINITE if dtype == "float64" else f"a number within {np.finfo(dtype).max:.1e}, what {dtype} holds"
