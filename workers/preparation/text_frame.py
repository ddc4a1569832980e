"""Reads whole records of a text as a polars frame of texts, and says which line is no row."""

import re
from typing import NamedTuple

import numpy as np
import polars as pl

from common.flat import Array
from workers.preparation.blanks import BLANK, collapsed
from workers.preparation.dialect import Dialect, not_utf8
from workers.preparation.number_columns import NONE, NumberColumns
from workers.preparation.options import TableError

GROUPED = r"^[+-]?(?:\d{1,3}(?:[.'\u00a0\u202f ]\d{3})+|\d+)?(?:,\d*)?(?:[eE][+-]?\d+)?$"
BLANKS = (b" ", b"\t", b"\r", b"\x0b", b"\x0c", b"\x1c", b"\x1d", b"\x1e", b"\x1f")
_LF, _QUOTE = 10, 34


class Records(NamedTuple):
    """Of each record, without comments and empty lines: the line it begins in, and how many cells it has."""

    lines: Array
    widths: Array
    kept: Array
    """Of the records with empty lines, which are none of those."""


def read(block: bytes, dialect: Dialect, numbers: NumberColumns = NONE) -> pl.DataFrame:
    """Return the rows of a block as texts without blanks around them. Raises TableError for an unequal row.

    ``numbers``: columns that are float64, null where a cell is missing, unless one of this block is something else.
    """
    names, block = dialect.names, _of_cells(block, dialect)
    if b"\0" in block:
        raise TableError(
            "got NUL, which is no text; copy the file again", line=block.count(b"\n", 0, block.index(b"\0"))
        )
    if dialect.blank_quotes:
        mark = re.escape(dialect.separator.encode())
        block = re.sub(rb'(?m)(^|%b) +"(?!"[^%b\r\n])' % (mark, mark), rb'\1"', block)
    try:
        frame = _read_numbers(block, dialect, numbers)
        if frame is None:
            frame = _parsed(block, dialect, NONE)
    except pl.exceptions.NoDataError:
        return pl.DataFrame(schema=numbers.schema(names))
    except pl.exceptions.PolarsError as error:
        raise _fault(block, dialect, error) from error
    if _may_hold_blanks(block, dialect):
        frame = frame.with_columns(pl.col(pl.String).str.strip_chars())
    separators = np.count_nonzero(np.frombuffer(block, np.uint8) == ord(dialect.separator))
    if separators != frame.height * (len(names) - 1) or _has_empty_row(frame):
        records = find_records(block, dialect)
        _require_width(records, block, dialect)
        if len(records.kept) == frame.height and not records.kept.all():
            frame = frame.filter(pl.Series(records.kept))
    frame = frame.with_columns(_with_point(name) for name in dialect.with_comma)
    return numbers.of_texts(frame)


def _parsed(block: bytes, dialect: Dialect, numbers: NumberColumns) -> pl.DataFrame:
    """Return what polars makes of the rows of a block. Raises PolarsError."""
    return pl.read_csv(
        block, has_header=False, schema=numbers.schema(dialect.names), separator=dialect.separator,
        quote_char='"' if dialect.quoted else None, comment_prefix=dialect.comment or None,
        empty_string_is_null=False, missing_columns="insert", low_memory=True, null_values=[*numbers.missing] or None,
    )  # fmt: skip


def _read_numbers(block: bytes, dialect: Dialect, numbers: NumberColumns) -> pl.DataFrame | None:
    """Return the rows of a block with some columns as numbers; None if a cell of them is none.

    Those with a decimal comma are still texts then: 1.234 would be another number.
    """
    plain = numbers.only({*dialect.names}.difference(dialect.with_comma))
    if not plain.names:
        return None
    try:
        frame = _parsed(block, dialect, plain)
    except pl.exceptions.ComputeError:
        return None
    return frame if plain.fit(frame) else None


def _has_empty_row(frame: pl.DataFrame) -> bool:
    """Say whether all cells of a row are empty."""
    empty = pl.all_horizontal(pl.col(pl.String) == "", pl.col(pl.Float64).is_null())
    return bool(frame.select(empty).to_series().any())


def _of_cells(block: bytes, dialect: Dialect) -> bytes:
    """Return a block in which one character separates cells."""
    return collapsed(block, quoted=dialect.quoted) if dialect.separator == BLANK else block


def _may_hold_blanks(block: bytes, dialect: Dialect) -> bool:
    """Say whether cells may begin or end with blanks, which most tables do not have."""
    return dialect.quoted or not block.isascii() or any(blank in block for blank in BLANKS)


def _with_point(name: str) -> pl.Expr:
    """Return a column with a decimal comma as one with a decimal point."""
    cell = pl.col(name)
    plain = cell.str.replace_all(r"[.'\u00a0\u202f ]", "").str.replace(",", ".", literal=True)
    return pl.when((cell != "") & cell.str.contains(GROUPED)).then(plain).otherwise(cell).alias(name)


def find_records(block: bytes, dialect: Dialect) -> Records:
    """Return where the records of a block are, by its bytes alone."""
    data = np.frombuffer(block, np.uint8)
    outside: Array | bool = True
    if dialect.quoted:
        outside = np.bitwise_xor.accumulate((data == _QUOTE).view(np.uint8)) == 0
    ends = np.flatnonzero((data == _LF) & outside)
    if len(data) and (not len(ends) or ends[-1] != len(data) - 1):
        ends = np.append(ends, len(data))
    starts = np.concatenate([[0], ends[:-1] + 1])[: len(ends)]
    separators = np.flatnonzero((data == ord(dialect.separator)) & outside)
    widths = 1 + np.searchsorted(separators, ends) - np.searchsorted(separators, starts)
    newlines = np.flatnonzero(data == _LF)
    lines = np.searchsorted(newlines, starts)
    ordinary = np.ones(len(starts), bool)
    if dialect.comment:
        ordinary[:] = data[np.minimum(starts, len(data) - 1)] != ord(dialect.comment)
    kept = np.ones(len(starts), bool)
    alone = np.flatnonzero(widths == 1)
    kept[alone] = [bool(block[starts[i] : ends[i]].strip()) for i in alone]
    return Records(lines[ordinary & kept], widths[ordinary & kept], kept[ordinary])


def _require_width(records: Records, block: bytes, dialect: Dialect) -> None:
    wrong = np.flatnonzero(records.widths != len(dialect.names))
    if not len(wrong):
        return
    row = int(wrong[0])
    line, width, n = int(records.lines[row]), int(records.widths[row]), len(dialect.names)
    shown = block.split(b"\n", line + 1)[line].decode(errors="replace").strip()[:60]
    raise TableError(
        f"got {width} cell{'s' * (width != 1)} ({shown!r}), where the table has {n} columns; each row takes "
        f"{n}, and a cell that holds the separator stands in double quotes",
        line=line,
    )


def _fault(block: bytes, dialect: Dialect, error: Exception) -> TableError:
    """Return what is wrong with a block that polars refuses."""
    try:
        block.decode()
    except UnicodeDecodeError as wrong:
        return not_utf8(block, wrong)
    try:
        _require_width(find_records(block, dialect), block, dialect)
    except TableError as found:
        return found
    if dialect.quoted and block.count(b'"') % 2:
        line = int(find_records(block, dialect).lines[-1])
        return TableError(
            "a double quote is not closed; a cell in quotes ends with one, and has others doubled", line=line
        )
    return TableError(f"a line that is no row ({str(error).splitlines()[0][:200]})")


def line_of_row(block: bytes, dialect: Dialect, row: int) -> int:
    """Return the line within a block, from 0, in which a row of its frame begins."""
    lines = find_records(_of_cells(block, dialect), dialect).lines
    return int(lines[row]) if row < len(lines) else 0
