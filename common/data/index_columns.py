"""Finds columns of a table that number its rows, from which a model would learn the order of the file."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from common.data.stacked import Matrix
from common.flat import Array

NAMELESS = re.compile(r"|Unnamed: \d+(?:_level_\d+)?(?:\.\d+)*")
"""The names that R and pandas give to a column of row names."""
INDEX_NAME = re.compile(
    r"(?:row|record|sample)?[ _.-]?(?:id|idx|index|number|nr|no)|row|#|.*[ _.-]id|.*[a-z](?-i:I[dD])", re.IGNORECASE
)
FEWEST_ROWS = 10
"""Fewer may count up by chance."""
AT_ONCE = 1 << 16
LOOKED_AT = 16
"""Of a column, before the whole of it is sorted: of features, so few hardly ever look like an index."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a file: their names as messages show them, and as the file has them, if it has any (``named``)."""

    shown: list[str]
    names: list[str]
    named: bool


@dataclass(slots=True)
class Found:
    """Places of the columns to leave out, and sentences on them and on others that look like an index."""

    left_out: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def index_columns(columns: Columns, table: Array, chosen: Collection[int], choice: str) -> Found:
    """Find the index columns of a table: (rows, columns), of which those ``chosen`` for something else are none.

    ``choice``: ``auto`` leaves out columns without a name that hold a whole number of its own for each row, of a file
    without names the first one if it counts them; ``drop`` leaves out what else looks like an index; ``keep`` nothing.
    """
    found, may_count = Found(), _may_count(table)
    for i, name in enumerate(columns.names if choice != "keep" else []):
        of_few_rows = len(table) < FEWEST_ROWS and columns.named and not NAMELESS.fullmatch(name)
        if i in chosen or of_few_rows:  # in which nothing looks like an index
            continue
        values, shown = table[:, i], columns.shown[i]
        nameless = columns.named and bool(NAMELESS.fullmatch(name))
        counts = may_count[i] and bool(counting_columns(values[:, None]))
        counted = counts and (not columns.named or _from_the_first(values))  # else it may be years
        looks = nameless or bool(INDEX_NAME.fullmatch(name))
        numbered = counted or (looks and numbers_rows(values))
        certain = numbered if nameless else counted and not columns.named and i == 0 and _from_the_first(values)
        like_one = nameless or (len(values) >= FEWEST_ROWS and numbered)
        if certain or (like_one and choice == "drop"):
            found.left_out.append(i)
            why = (
                f"it has no name and numbers the rows ({_begin(values)})" if certain else "as --index-column drop asks"
            )
            found.notes.append(f"Column {shown!r} is left out: {why}; --index-column keep trains on it.")
        elif like_one:
            why = f"numbers the rows ({_begin(values)})" if numbered else "has no name"
            found.notes.append(f"Warning: column {shown!r} {why} and is trained on; --index-column drop leaves it out.")
    return found


def counting_columns(x: Matrix) -> list[int]:
    """Return the columns that hold as many whole numbers without a gap as there are rows, in whatever order."""
    looks = np.flatnonzero(_may_count(x))
    return [int(i) for i in looks if _count(x[:, i : i + 1], len(x))[0]]


def _may_count(x: Matrix) -> Array:
    """Say which columns may count the rows, by the first of these; many columns at a time, but not all of a million."""
    parts = [_count(x[:LOOKED_AT, i : i + AT_ONCE], len(x)) for i in range(0, x.shape[1], AT_ONCE)]
    return np.concatenate(parts)


def _count(some: Array, n: int) -> Array:
    """Say which columns of some rows hold whole numbers, each once, that lie as close as ``n`` without a gap."""
    with np.errstate(over="ignore"):  # longdouble holds more
        each = np.sort(some.astype(np.float64), axis=0)
    close = (each[-1] <= each[0] + n - 1) & (each == np.floor(each)).all(axis=0)
    return np.asarray(close & (each[1:] > each[:-1]).all(axis=0))


def _from_the_first(values: Array) -> bool:
    """Say whether a column that counts the rows does so in their order, from 0 or 1."""
    return values[0] in (0, 1) and bool((values[1:] > values[:-1]).all())


def numbers_rows(values: Array) -> bool:
    """Say whether a column has a whole number of its own for each of several rows."""
    whole = len(values) > 1 and np.array_equal(values, np.floor(values))
    return bool(whole) and len(np.unique(values)) == len(values)


def _begin(values: Array) -> str:
    return f"{', '.join(f'{value:g}' for value in values[:3])}, ..."
