"""Moments of the training rows' columns in one pass over pieces of all rows, which are merged in a fixed order.

The pieces depend on the shape of the data alone. So whichever rank takes which of them, the result has the same bits.
"""

from collections.abc import Iterable
from enum import IntEnum

import numpy as np

from common.data.stacked import Matrix
from common.flat import Array

PIECES = 64
MOST_NUMBERS = 1 << 21
"""Of a table of all pieces, which ranks exchange: very wide data are cut into fewer pieces."""
BLOCK_NUMBERS = 1 << 16
"""Worked on in float64 together: they stay in the core's cache."""
LOOKED_AT = 101
"""Training rows whose median is taken for a column's usual value: more than half of the rows have it if one does."""
BYTE = 255
NEARLY_WHOLE = 1e-3
"""How far 255 times a 255th may be from a whole number, as float32 rounds it."""


class Of(IntEnum):
    """What is known of a column: the rows of a table, (len(Of), columns), of float64.

    ``COUNT``: training rows with a number, or the sum of what they count. ``MEAN``, ``SQUARES``: their mean, and sum of
    squared deviations from it. ``LOW``, ``HIGH``: their extremes. ``USUAL``: how many are the usual value.
    ``BYTES``, ``PARTS``: whether all are whole numbers from 0 to 255, or 255ths from 0 to 1. ``MISSING``, ``INFINITE``:
    rows of all splits that hold NaN, or infinity. ``LOWEST``, ``HIGHEST``: extremes of all splits.
    """

    COUNT = 0
    MEAN = 1
    SQUARES = 2
    LOW = 3
    HIGH = 4
    USUAL = 5
    BYTES = 6
    MISSING = 7
    INFINITE = 8
    LOWEST = 9
    HIGHEST = 10
    PARTS = 11


def n_pieces(shape: tuple[int, ...]) -> int:
    """Return into how many pieces the rows of a matrix are cut."""
    return max(1, min(PIECES, MOST_NUMBERS // (len(Of) * shape[1])))


def piece(n_rows: int, i: int, n: int) -> slice:
    """Return the rows of piece ``i`` of ``n``."""
    return slice(n_rows * i // n, n_rows * (i + 1) // n)


def own_pieces(n: int, rank: int, size: int) -> range:
    """Return which of ``n`` pieces a rank takes: neighbours, as a file is read fastest."""
    return range(n * rank // size, n * (rank + 1) // size)


def usual_values(values: Matrix, train: Array, weight: Array | None = None) -> Array:
    """Return a value of each column that most training rows have if most have one, (columns,) float64.

    It is the (lower) median of a few rows that are spread over all; 0 where these hold no number. ``weight``: what each
    row of ``values`` counts, if not 1.
    """
    n = min(LOOKED_AT, len(train))
    places = (np.arange(n) + 0.5) / n
    if weight is None:
        chosen = train[(places * len(train)).astype(np.int64)]
    else:
        ends = np.cumsum(weight[train])
        chosen = train[np.minimum(np.searchsorted(ends, places * ends[-1]), len(train) - 1)]
    usual = np.zeros(values.shape[1])
    for first in range(0, len(usual), BLOCK_NUMBERS):
        columns = slice(first, first + BLOCK_NUMBERS)
        with np.errstate(over="ignore"):  # longdouble holds more
            some = np.sort(values[chosen][:, columns].astype(np.float64), axis=0)  # NaN at the end
        there = np.isfinite(some).sum(axis=0)
        middle = np.maximum(there - 1, 0) // 2
        median = np.take_along_axis(some, middle[None], axis=0)[0]
        usual[columns] = np.where((there > 0) & np.isfinite(median), median, 0)
    return usual


def of_piece(values: Matrix, counts: Array, usual: Array, rows: slice) -> Array:
    """Return the table of some neighbouring rows.

    ``values``: (n, columns). ``counts``: (n,), which rows train, as bool; or float64, what each training row counts, 0
    for the others. ``usual``: (columns,), see ``usual_values``.
    """
    step = max(1, BLOCK_NUMBERS // values.shape[1])
    parts = (slice(first, min(first + step, rows.stop)) for first in range(rows.start, rows.stop, step))
    return merged((_of_block(values[part], counts[part], usual) for part in parts), values.shape[1])


def merged(tables: Iterable[Array], columns: int) -> Array:
    """Return the table of all rows of several tables, in their order.

    Chan, Golub & LeVeque 1983, The American Statistician 37(3), eq. 2.1.
    """
    whole = _nothing(columns)
    with np.errstate(all="ignore"):  # overflow is looked for in the result
        for table in tables:
            _add(whole, table)
    return whole


def _nothing(columns: int) -> Array:
    table = np.zeros((len(Of), columns))
    table[[Of.LOW, Of.LOWEST]], table[[Of.HIGH, Of.HIGHEST]], table[[Of.BYTES, Of.PARTS]] = np.inf, -np.inf, 1
    return table


def _add(whole: Array, table: Array) -> None:
    n, more = whole[Of.COUNT], table[Of.COUNT]
    both = np.where(n + more > 0, n + more, 1)
    apart = table[Of.MEAN] - whole[Of.MEAN]
    apart[more == 0] = 0
    whole[Of.SQUARES] += table[Of.SQUARES] + np.square(apart) * (n * more / both)
    whole[Of.MEAN] += apart * (more / both)
    for field in (Of.COUNT, Of.USUAL, Of.MISSING, Of.INFINITE):
        whole[field] += table[field]
    for field in (Of.LOW, Of.LOWEST, Of.BYTES, Of.PARTS):
        np.minimum(whole[field], table[field], out=whole[field])
    for field in (Of.HIGH, Of.HIGHEST):
        np.maximum(whole[field], table[field], out=whole[field])


def _of_block(block: Array, counts: Array, usual: Array) -> Array:
    table, training = _nothing(block.shape[1]), counts != 0
    train = block if training.all() else block[training]
    for some in (train,) if train is block else (block[~training], train):
        if len(some):
            low, high = _extremes(some, table)
            np.minimum(table[Of.LOWEST], low, out=table[Of.LOWEST])
            np.maximum(table[Of.HIGHEST], high, out=table[Of.HIGHEST])
            if some is train:
                table[Of.LOW], table[Of.HIGH] = low, high
    if not len(train):
        return table
    table[Of.BYTES] = (table[Of.LOW] >= 0) & (table[Of.HIGH] <= BYTE)
    table[Of.PARTS] = (table[Of.LOW] >= 0) & (table[Of.HIGH] <= 1)
    if block.dtype.kind == "f" and table[Of.PARTS].all():
        parts = train * np.float64(BYTE)
        table[Of.PARTS] = (np.abs(parts - np.rint(parts)) < NEARLY_WHOLE).all(axis=0)
    if block.dtype.kind == "f" and table[Of.BYTES].all():
        table[Of.BYTES] = (train == np.floor(train)).all(axis=0)
    weight = None if counts.dtype == np.bool_ else counts[training]
    with np.errstate(all="ignore"):  # overflow is looked for in the result
        # counted from a value of the column: a constant one is then exactly 0, however many rows are added up
        away = np.subtract(train, usual, dtype=np.float64)
        absent = np.isnan(away) if table[Of.MISSING].any() else None
        _add_up(table, away, absent, weight)
        table[Of.MEAN] = np.where(table[Of.COUNT] > 0, usual + table[Of.MEAN], 0)
    return table


def _extremes(some: Array, table: Array) -> tuple[Array, Array]:
    """Return the least and largest number of each column; count what is none."""
    with np.errstate(over="ignore"):  # longdouble holds more
        low, high = some.min(axis=0).astype(np.float64), some.max(axis=0).astype(np.float64)
    if np.isfinite(low).all() and np.isfinite(high).all():  # NaN passes through both
        return low, high
    absent = np.isnan(some)
    table[Of.MISSING] += absent.sum(axis=0)
    table[Of.INFINITE] += np.isinf(some).sum(axis=0)
    lows, highs = np.where(absent, np.inf, some), np.where(absent, -np.inf, some)
    with np.errstate(over="ignore"):
        return lows.min(axis=0).astype(np.float64), highs.max(axis=0).astype(np.float64)


def _add_up(table: Array, away: Array, absent: Array | None, weight: Array | None) -> None:
    """Fill in ``COUNT``, ``USUAL``, ``MEAN``, ``SQUARES`` of training rows.

    ``away``: (n, columns), their values less the usual ones. ``absent``: where none is, if anywhere. ``weight``:
    (n,), what each row counts, if not 1. Overwrites ``away``.
    """

    def added(values: Array) -> Array:
        return np.asarray(values.sum(axis=0) if weight is None else weight @ values)

    whole = len(away) if weight is None else weight.sum()
    other = np.count_nonzero(away, axis=0) if weight is None else added(away != 0)
    table[Of.COUNT], table[Of.USUAL] = whole, whole - other  # NaN is not 0, and so is other
    if absent is not None:
        table[Of.COUNT] -= added(absent)
        away[absent] = 0
    mean = added(away) / np.where(table[Of.COUNT] > 0, table[Of.COUNT], 1)
    away -= mean
    if absent is not None:
        away[absent] = 0
    table[Of.MEAN] = mean
    if weight is None:
        table[Of.SQUARES] = np.einsum("ij,ij->j", away, away)
    else:
        table[Of.SQUARES] = added(np.square(away, out=away))
