"""Reads whole records of a text as a polars frame of texts, and says which line is no row."""

import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from common.flat import Array
from workers.preparation.blanks import BLANK, collapsed
from workers.preparation.dialect import Dialect, not_utf8
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


def read(block: bytes, dialect: Dialect) -> pl.DataFrame:
    """Return the rows of a block as texts without blanks around them. Raises TableError for an unequal row."""
    names, block = dialect.names, _of_cells(block, dialect)
    if b"\0" in block:
        raise TableError(
            "got NUL, which is no text; copy the file again", line=block.count(b"\n", 0, block.index(b"\0"))
        )
    if dialect.blank_quotes:
        mark = re.escape(dialect.separator.encode())
        block = re.sub(rb'(?m)(^|%b) +"(?!"[^%b\r\n])' % (mark, mark), rb'\1"', block)
    try:
        frame = _parsed(block, dialect, dict.fromkeys(names, pl.String))
    except pl.exceptions.NoDataError:
        return pl.DataFrame(schema=dict.fromkeys(names, pl.String))
    except pl.exceptions.PolarsError as error:
        raise _fault(block, dialect, error) from error
    if _may_hold_blanks(block, dialect):
        frame = frame.select(pl.all().str.strip_chars())
    separator = dialect.separator.encode()
    empty = frame.select(pl.all_horizontal(pl.all() == "")).to_series()
    if block.count(separator) != frame.height * (len(names) - 1) or empty.any():
        records = find_records(block, dialect)
        _require_width(records, block, dialect)
        if len(records.kept) == frame.height and not records.kept.all():
            frame = frame.filter(pl.Series(records.kept))
    if not dialect.decimal_comma:
        return frame
    return frame.with_columns(_with_point(names[i]) for i in dialect.decimal_comma if i < len(names))


def _parsed(block: bytes, dialect: Dialect, schema: Mapping[str, Any]) -> pl.DataFrame:
    """Return what polars makes of the rows of a block. Raises PolarsError."""
    return pl.read_csv(
        block, has_header=False, schema=dict(schema), separator=dialect.separator,
        quote_char='"' if dialect.quoted else None, comment_prefix=dialect.comment or None,
        empty_string_is_null=False, missing_columns="insert", low_memory=True,
    )  # fmt: skip


def _of_cells(block: bytes, dialect: Dialect) -> bytes:
    """Return a block in which one character separates cells."""
    return collapsed(block, quoted=dialect.quoted) if dialect.separator == BLANK else block


def _may_hold_blanks(block: bytes, dialect: Dialect) -> bool:
    """Say whether cells may begin or end with blanks, which most tables do not have."""
    return dialect.quoted or not block.isascii() or any(blank in block for blank in BLANKS)


def read_numbers(block: bytes, dialect: Dialect, numbers: Collection[str]) -> pl.DataFrame | None:
    """Return the rows of a block that ``read`` has read before, with some columns as float64 at once.

    None if one of their cells is no finite number as programs write it.
    """
    if not numbers or dialect.decimal_comma or dialect.blank_quotes:
        return None
    block = _of_cells(block, dialect)
    schema = {name: pl.Float64 if name in numbers else pl.String for name in dialect.names}
    try:
        frame = _parsed(block, dialect, schema)
    except pl.exceptions.PolarsError:
        return None
    if not all(frame[name].is_finite().fill_null(value=False).all() for name in numbers):
        return None
    return frame.with_columns(pl.col(pl.String).str.strip_chars()) if _may_hold_blanks(block, dialect) else frame


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
        f"got {width} cells ({shown!r}), where the table has {n} columns; each row takes {n}, and a cell that holds "
        "the separator stands in double quotes",
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
