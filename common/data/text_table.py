"""Reads a text of numbers with commas between them, a piece of whole lines at a time, into one array made for it."""

import contextlib
import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import numpy as np

from common import memory
from common.config import RunConfig
from common.data.dataset import bytes_beside
from common.errors import BrokenFileError, DataError
from common.files import open_regular
from common.flat import Array

PIECE_CHARS = 4 << 20
"""Read at a time."""
LONGEST_LINE, MOST_COLUMNS = 16 << 20, 10**6
"""Characters and cells: what one line may take of memory before it is known to be a row of numbers."""
UTF16 = (b"\xff\xfe", b"\xfe\xff")
AT_ROW = re.compile(r"\brow (\d+)")
"""How NumPy names a row of what it was given."""


class RowLines:
    """Lines of a text for ``csv.reader``, which goes on to the next one inside of quotes: no row has too many cells."""

    def __init__(self, text: TextIO) -> None:
        self._lines = (line for piece in pieces(text) for line in io.StringIO(piece))
        self._cells = 0

    def __iter__(self) -> "RowLines":
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._cells += line.count(",") + 1
        if self._cells > MOST_COLUMNS:
            raise BrokenFileError(f"a row of more than {MOST_COLUMNS:,} columns; give a table of fewer")
        return line

    def rows(self) -> Iterator[tuple[list[str], int]]:
        """Yield the cells of each row, and how many lines have been read by then. Raises csv.Error."""
        reader = csv.reader(self)
        for cells in reader:
            self._cells = 0
            yield cells, reader.line_num


@contextlib.contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Open a text file. Raises DataError for what is none, also while it is read."""
    try:
        with open_regular(path) as file:
            if file.read(2) in UTF16:
                raise BrokenFileError("it is UTF-16; save it as UTF-8")
            file.seek(0)
            yield io.TextIOWrapper(file, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError, csv.Error, BrokenFileError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{path}: not a readable .csv file ({reason})") from error


def pieces(text: TextIO) -> Iterator[str]:
    """Yield the text in pieces of whole lines. Raises BrokenFileError for a line that is too long, and for NUL."""
    left = ""
    while piece := text.read(PIECE_CHARS):
        if "\0" in piece:
            raise BrokenFileError("it holds NUL, as no table in UTF-8 does")
        end = piece.rfind("\n") + 1
        if end:
            yield left + piece[:end]
            left = piece[end:]
        else:
            left += piece
        if len(left) > LONGEST_LINE:
            raise BrokenFileError(f"a line of more than {LONGEST_LINE:,} characters; a table has a line for each row")
    if left:
        yield left


def read_table(path: Path, skip: int, config: RunConfig) -> Array:
    """Return the numbers of all lines but the first ``skip``: (rows, columns) float64.

    Raises DataError, also where rows are not equally long, and MemoryLimitError.
    """
    with open_text(path) as text:
        lines, chars = -skip, 0
        for piece in pieces(text):
            lines += piece.count("\n") + (not piece.endswith("\n"))
            chars += len(piece)
    table, n = np.empty((0, 0)), 0
    with open_text(path) as text:
        for piece in pieces(text):
            begins = piece.count("\n") <= skip
            rest = "" if begins else piece.split("\n", skip)[skip]
            skip -= min(skip, piece.count("\n"))
            if not rest.strip():
                continue
            rows = _numbers(path, rest, n, config)
            if not n:
                table = _room(path, min(lines, chars // (2 * rows.shape[1]) + 1), rows.shape[1], config)
            elif rows.shape[1] != table.shape[1]:
                raise _no_table(
                    path, f"the number of columns changed from {table.shape[1]} to {rows.shape[1]} at row {n}", config
                )
            table[n : n + len(rows)] = rows
            n += len(rows)
    return table[:n]


def _room(path: Path, most_rows: int, columns: int, config: RunConfig) -> Array:
    """Return memory for a table; it is only taken where rows are written to."""
    beside = bytes_beside(config, most_rows, columns, 8 * most_rows)
    memory.check(f"data {path}", 8 * most_rows * columns, beside, "an .npz file of float32, which takes half")
    with memory.out_of_memory(f"data {path}"):
        return np.empty((most_rows, columns))


def _numbers(path: Path, text: str, before: int, config: RunConfig) -> Array:
    """Return the rows of a piece of text. ``before``: rows of the pieces before it."""
    try:
        return np.loadtxt(io.StringIO(text), delimiter=",", ndmin=2, quotechar='"', comments=None)
    except (ValueError, MemoryError) as error:
        told = AT_ROW.sub(lambda match: f"row {int(match[1]) + before}", str(error))
        raise _no_table(path, told if len(told) <= 300 else f"{told[:200]}...{told[-80:]}", config) from error


def _no_table(path: Path, why: str, config: RunConfig) -> DataError:
    names = "; if its first line is column names, leave --header no out" if config.header == "no" else ""
    return DataError(f"{path}: not a table of numbers ({why}){names}")
