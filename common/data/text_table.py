"""Reads a text of numbers with commas between them, after a look through all of it: how long are lines, how many."""

import contextlib
import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO, cast

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
MOST_EMPTY = 10**5
"""Lines without a cell, one after the other."""
TOO_LONG = f"a line of more than {LONGEST_LINE:,} characters; a table has a line for each row"
NUL = "it holds NUL, as no table in UTF-8 does"
UTF16 = (b"\xff\xfe", b"\xfe\xff")
LONGEST_REASON = 300
"""Characters of what NumPy says: it shows the whole cell that is no number."""


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
        empty = 0
        for cells in reader:
            self._cells, empty = 0, 0 if cells else empty + 1
            if empty > MOST_EMPTY:
                raise BrokenFileError(f"more than {MOST_EMPTY:,} empty lines one after the other")
            yield cells, reader.line_num


@contextlib.contextmanager
def open_text(path: Path) -> Iterator[io.TextIOWrapper]:
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
            raise BrokenFileError(NUL)
        end = piece.rfind("\n") + 1
        if end:
            yield left + piece[:end]
            left = ""
        left += piece[end:]
        if len(left) > LONGEST_LINE:
            raise BrokenFileError(TOO_LONG)
    if left:
        yield left


def read_table(path: Path, skip: int, columns: int, config: RunConfig) -> Array:
    """Return the numbers of all lines but the first ``skip``: (rows, columns) float64.

    Raises DataError, also where rows are not equally long, and MemoryLimitError.
    """
    _check_memory(path, skip, columns, config)
    try:
        return np.loadtxt(
            path, delimiter=",", skiprows=skip, ndmin=2, quotechar='"', comments=None, encoding="utf-8-sig"
        )
    except (OSError, ValueError, MemoryError) as error:
        names = "; if its first line is column names, leave --header no out" if config.header == "no" else ""
        why = str(error) if len(str(error)) <= LONGEST_REASON else f"{str(error)[:LONGEST_REASON]}..."
        raise DataError(f"{path}: not a table of numbers ({why}){names}") from error


def _check_memory(path: Path, skip: int, columns: int, config: RunConfig) -> None:
    """Look through all of the file, and raise what is wrong with it, before any of it becomes numbers."""
    with open_text(path) as text:
        lines, n_bytes = _counted(cast("BinaryIO", text.buffer))
    rows = min(lines - skip, n_bytes // (2 * columns) + 1)  # a number takes two bytes at least, with its comma
    beside = bytes_beside(config, rows, columns, 8 * rows)
    memory.check(f"data {path}", 8 * rows * columns, beside, "an .npz file of float32, which takes half")


def _counted(file: BinaryIO) -> tuple[int, int]:
    """Return the lines and bytes of a file. Raises BrokenFileError as ``pieces`` does."""
    lines = n_bytes = left = 0
    while piece := file.read(PIECE_CHARS):
        if b"\0" in piece:
            raise BrokenFileError(NUL)
        lines += piece.count(b"\n") or piece.count(b"\r")  # which ended lines on old Macs
        n_bytes += len(piece)
        end = max(piece.rfind(b"\n"), piece.rfind(b"\r")) + 1
        left = len(piece) - end + (0 if end else left)
        if left > LONGEST_LINE:
            raise BrokenFileError(TOO_LONG)
    return lines + 1, n_bytes
