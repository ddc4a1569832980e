"""Reads the text format of LIBSVM and SVMlight: ``label index:value index:value ...``, as a matrix with its zeros.

Indices ascend within a line and begin with 1, or with 0 if a line has 0. ``# ...`` at the end of a line is a comment.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from common import memory
from common.config import RunConfig
from common.data.dataset import Raw, bytes_beside
from common.data.packed_file import open_packed
from common.errors import BrokenFileError, DataError
from common.flat import Array

PIECE_BYTES = 4 << 20
LONGEST_LINE = 64 << 20
MOST_INDEX, MOST_NAMED = 10**9, 10**6
NUMBER = rb"[-+]?(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][-+]?\d++)?"
ROW = re.compile(rb"[ \t]*+" + NUMBER + rb"(?:[ \t]++\d{1,10}+:" + NUMBER + rb")*+[ \t\r]*+")
"""Nothing is tried twice (``++``): a line that is no row is found in time in proportion to its length."""
ROWS = re.compile(rb"(?:(?:" + ROW.pattern + rb"|[ \t\r]*+)\n)*+")
COMMENT = re.compile(rb"#[^\n]*")
BLANK = b" \t\r"
SHOWN = 60
NAME = "feature {}"
"""Of a feature, by its index."""


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of a piece of the file. ``labels``: (rows,); ``rows``, ``indices``, ``values``: of each number given."""

    labels: Array
    rows: Array
    indices: Array
    values: Array


def read_libsvm(path: Path, config: RunConfig) -> Raw:
    """Read a file twice: how large its matrix is, then its numbers. Raises DataError and MemoryLimitError."""
    try:
        n_rows, n_given, low, high = 0, 0, MOST_INDEX, -1
        for block in blocks_of(path):
            n_rows += len(block.labels)
            n_given += len(block.values)
            if len(block.indices):
                low, high = min(low, int(block.indices.min())), max(high, int(block.indices.max()))
        if not n_rows:
            raise BrokenFileError("it holds no rows")
        if high < 0:
            raise BrokenFileError("no row has a feature; a row is: label index:value index:value ...")
        first = 0 if low == 0 else 1
        x, y = _filled(path, n_rows, high - first + 1, first, config)
    except BrokenFileError as error:
        raise broken(path, error) from error
    note = (
        f"Features of {path.name} are numbered from {first}: the lowest index is {low}. {n_given / x.size:.1%} of its "
        f"{n_rows:,} x {x.shape[1]:,} numbers are given, and the others are 0."
    )
    names = [NAME.format(i) for i in range(first, high + 1)] if x.shape[1] <= MOST_NAMED else []
    return Raw(path.name, x, y, feature_names=names, notes=[note], sparse=True)


def first_index(names: Sequence[str], path: Path) -> int:
    """Return the index of the first of the features with these names; if they have others, that of a file.

    Raises DataError.
    """
    for first in (0, 1):
        if names and names[0] == NAME.format(first) and names[-1] == NAME.format(first + len(names) - 1):
            return first
    try:
        return 0 if any(not block.indices.min(initial=1) for block in blocks_of(path)) else 1
    except BrokenFileError as error:
        raise broken(path, error) from error


def broken(path: Path, error: BrokenFileError) -> DataError:
    """Return what is said of a file that is not as it should be."""
    return DataError(f"{path}: not a readable file of LIBSVM's format ({error})")


def _filled(path: Path, n_rows: int, n_features: int, first: int, config: RunConfig) -> tuple[Array, Array]:
    """Return the matrix, (n_rows, n_features) float64, and the labels."""
    memory.check(
        f"data {path}", 8 * n_rows * n_features, bytes_beside(config, n_rows, n_features, 8 * n_rows),
        "fewer features: zeros are stored, too",
    )  # fmt: skip
    with memory.out_of_memory(f"data {path}"):
        x, y, done = np.zeros((n_rows, n_features)), np.empty(n_rows), 0
    for block in blocks_of(path):
        if done + len(block.labels) > n_rows or block.indices.max(initial=0) >= n_features + first:
            raise BrokenFileError("it changed while it was read")
        y[done : done + len(block.labels)] = block.labels
        x[done + block.rows, block.indices - first] = block.values
        done += len(block.labels)
    if np.array_equal(y, np.round(y)) and np.abs(y).max() < 2**53:
        y = y.astype(np.int64)
    return x, y


def blocks_of(path: Path) -> Iterator[Block]:
    """Yield the rows of pieces of a file. Raises BrokenFileError for the first line that is none."""
    with open_packed(path) as file:
        line = 1
        for piece in pieces_of(file):
            yield block_of(piece, line)
            line += piece.count(b"\n")


def pieces_of(file: BinaryIO) -> Iterator[bytes]:
    """Yield the file in pieces of whole lines, each with its end."""
    left = b""
    while piece := file.read(PIECE_BYTES):
        end = piece.rfind(b"\n") + 1
        if end:
            yield left + piece[:end]
            left = piece[end:]
        else:
            left += piece
        if len(left) > LONGEST_LINE:
            raise BrokenFileError(f"it has a line of more than {LONGEST_LINE:,} bytes; a row has one of its own")
    if left:
        yield left + b"\n"


def block_of(piece: bytes, first_line: int) -> Block:
    """Return the rows of whole lines. Raises BrokenFileError for the first line that is none, naming its number."""
    if b"#" in piece:
        piece = COMMENT.sub(b"", piece)
    if not ROWS.fullmatch(piece):
        raise _fault(piece, first_line)
    lines = np.array([line.count(b":") for line in piece.split(b"\n")[:-1] if line.strip(BLANK)], np.int64)
    numbers = np.fromstring(piece.replace(b":", b" ").decode(), sep=" ") if len(lines) else np.empty(0)
    if not np.isfinite(numbers).all():
        raise BrokenFileError(f"lines {first_line} on: a number that is too large for float64")
    starts = np.concatenate([[0], np.cumsum(1 + 2 * lines)])[:-1]
    of_features = np.ones(len(numbers), bool)
    of_features[starts] = False
    pairs = numbers[of_features].reshape(-1, 2)
    rows = np.repeat(np.arange(len(lines)), lines)
    indices = pairs[:, 0].astype(np.int64)
    if indices.max(initial=0) > MOST_INDEX:
        raise BrokenFileError(f"a feature has the index {indices.max()}; at most {MOST_INDEX:,} are read")
    wrong = np.flatnonzero((np.diff(indices) <= 0) & (np.diff(rows) == 0))
    if len(wrong):
        raise BrokenFileError(
            f"{_at(piece, first_line, int(rows[wrong[0]]))}: index {indices[wrong[0] + 1]} follows "
            f"{indices[wrong[0]]}; they ascend within a line"
        )
    return Block(numbers[starts], rows, indices, pairs[:, 1])


def _at(piece: bytes, first_line: int, row: int) -> str:
    """Return the line of a row, as an editor counts."""
    full = [i for i, line in enumerate(piece.split(b"\n")) if line.strip(BLANK)]
    return f"line {first_line + full[row]}"


def _fault(piece: bytes, first_line: int) -> BrokenFileError:
    """Return what is wrong with the first line that is no row."""
    for number, line in enumerate(piece.split(b"\n"), first_line):
        if not line.strip(BLANK) or ROW.fullmatch(line):
            continue
        shown = _shown(line)
        words = line.split()
        if b"qid:" in line:
            return BrokenFileError(f"line {number}: it has qid, for ranking, which is not trained here: {shown}")
        if b"," in words[0]:
            return BrokenFileError(
                f"line {number}: it has several labels, {shown}; one a row is read: give a table of 0 and 1"
            )
        cell = next((w for w in words[1:] if not re.fullmatch(rb"\d{1,10}:" + NUMBER, w)), words[0])
        found = cell[:SHOWN].decode("ascii", "backslashreplace")
        return BrokenFileError(f"line {number}: got {found!r} in {shown}; a row is: label index:value index:value ...")
    return BrokenFileError(f"line {first_line}: it is no row")


def _shown(text: bytes) -> str:
    """Return the beginning of a text for a message."""
    shown = repr(text[:SHOWN].strip())[1:]
    return shown if len(shown) <= SHOWN + 2 else f"{shown[:SHOWN]}..."
