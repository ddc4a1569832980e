"""Prepares a small table within this process, a block after the other, as many ranks do for a large one."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from common.errors import DataError
from common.flat import Array
from workers.preparation.analyse import analyse
from workers.preparation.chosen import resolved
from workers.preparation.decide import decide
from workers.preparation.dialect import Dialect, find_dialect
from workers.preparation.encode import encode
from workers.preparation.options import Options, TableError
from workers.preparation.plan import Plan
from workers.preparation.statistics import Analysis
from workers.preparation.text_frame import line_of_row, read

BLOCK_BYTES = 8 << 20


class Prepared(NamedTuple):
    """A table as arrays: see ``encode``."""

    plan: Plan
    arrays: dict[str, Array]


def prepare_text(path: Path, options: Options, encoding: str = "utf-8", block_bytes: int = BLOCK_BYTES) -> Prepared:
    """Prepare a text file. Raises DataError, naming file, line and column."""
    data = path.read_bytes()
    if encoding.replace("_", "-").lower() not in ("utf-8", "utf8"):
        data = data.decode(encoding).encode()
    dialect = find_dialect(data, options, whole=True, name=path.name)
    blocks = _blocks(data, dialect, block_bytes)
    place = 0
    try:
        options = resolved(dialect.names, options)
        frames: list[pl.DataFrame] = []
        for place, block in blocks:  # noqa: B007 - of the block at fault
            frames.append(read(block, dialect))
        found = Analysis()
        for (place, _), frame in zip(blocks, frames, strict=True):
            found.merge(analyse(frame, options, place))
        plan = decide(found, options, dialect.notes)
        pieces = [encode(frame, plan) for frame in frames]
    except TableError as error:
        raise _located(error, path, data, dict(blocks), dialect, place) from error
    return Prepared(plan, {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]})


def _blocks(data: bytes, dialect: Dialect, block_bytes: int) -> list[tuple[int, bytes]]:
    """Return whole records with the byte where they begin."""
    found, start = [], dialect.first_row
    while start < len(data):
        stop = min(start + block_bytes, len(data))
        while stop < len(data):
            newline = data.find(b"\n", stop) + 1 or len(data)
            if not dialect.quoted or data.count(b'"', start, newline) % 2 == 0:
                stop = newline
                break
            stop = newline
        found.append((start, data[start:stop]))
        start = stop
    return found


def _located(
    error: TableError, path: Path, data: bytes, blocks: dict[int, bytes], dialect: Dialect, place: int
) -> DataError:
    """Return an error with file and line."""
    line = error.line
    begin = place if error.place is None else error.place
    if error.row is not None:
        line = line_of_row(blocks[begin], dialect, error.row)
    before = data.count(b"\n", 0, begin)
    where = "" if line is None else f"line {before + line + 1:,}, "
    return DataError(f"{path}: {where}{error}")
