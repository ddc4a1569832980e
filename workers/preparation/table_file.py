"""A file of a table, read piece by piece as polars frames, with file and line of a fault in what is said of it."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from common.data.prepared_file import N_PIECES
from common.errors import BrokenFileError, DataError
from common.files import open_regular
from common.wording import count
from workers.preparation import byte_pieces
from workers.preparation.dialect import Dialect, find_dialect
from workers.preparation.number_columns import NONE, NumberColumns, number_columns
from workers.preparation.options import Options, TableError
from workers.preparation.text_frame import line_of_row, read

HEAD_BYTES = 1 << 20
TEXT, PARQUET = "text", "parquet"
CELLS_AT_A_TIME = 1 << 21
"""Of a Parquet file that are decoded at a time."""
LISTED = 8


@dataclass(frozen=True, slots=True)
class TableFile:
    """A file of a table, number ``index`` of those that are prepared together.

    ``path``: what is read: the file ``source``, or its copy as plain text. ``size``, ``mtime_ns``: of ``source``.
    ``names``: of its columns; ``wanted``: those that are read, in this order. ``extent``: what is cut into pieces,
    bytes of a text or rows; ``dialect``: how a text is written.
    """

    index: int
    source: str
    path: str
    format: str
    names: tuple[str, ...]
    wanted: tuple[str, ...]
    size: int
    mtime_ns: int
    extent: int
    dialect: Dialect | None

    @property
    def first_row(self) -> int:
        """The byte, or the row, where rows begin."""
        return self.dialect.first_row if self.dialect else 0

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "TableFile":
        """Return what ``as_dict`` made plain."""
        dialect = plain["dialect"] and Dialect.from_dict(plain["dialect"])
        lists = {name: tuple(plain[name]) for name in ("names", "wanted")}
        return cls(**{**plain, **lists, "dialect": dialect})

    def start(self, piece: int, *, inside: bool) -> int:
        """Return where the first record of a piece begins. ``inside``: see ``record_start``. Raises DataError."""
        at = self.extent * piece // N_PIECES
        if at <= self.first_row:
            return self.first_row
        if self.dialect is None:
            return at
        with open_regular(Path(self.path)) as file, self._faults():
            return byte_pieces.record_start(file, at, self.extent, inside=inside, quoted=self.dialect.quoted)

    def frames(self, start: int, stop: int, numbers: NumberColumns = NONE) -> Iterator[tuple[int, pl.DataFrame]]:
        """Yield the rows from ``start`` to ``stop``, some at a time, and where they begin. Raises DataError.

        ``numbers``: see ``text_frame.read``.
        """
        if self.dialect is None:
            step = max(1, CELLS_AT_A_TIME // max(1, len(self.wanted)))
            for first in range(start, stop, step):
                with parquet_faults(Path(self.source)):
                    rows = pl.scan_parquet(self.path).select(self.wanted).slice(first, min(step, stop - first))
                    frame = rows.collect()
                yield first, frame
            return
        with open_regular(Path(self.path)) as file:
            blocks = byte_pieces.blocks(file, start, stop, quoted=self.dialect.quoted)
            while True:
                with self._faults():
                    block = next(blocks, None)
                if block is None:
                    return
                try:
                    frame = read(block[1], self.dialect, numbers)
                except TableError as error:
                    error.place = [self.index, block[0]]
                    raise
                yield block[0], frame if self.wanted == self.names else frame.select(self.wanted)

    def numbers(self, options: Options) -> NumberColumns:
        """Return the columns that can be read as numbers, as far as the first rows tell."""
        with contextlib.suppress(DataError):  # whoever reads all says what is wrong, and where
            if self.dialect is None:
                with parquet_faults(Path(self.source)):
                    return number_columns(pl.scan_parquet(self.path).head(0).collect(), options)
            with open_regular(Path(self.path)) as file:
                file.seek(self.first_row)
                head = file.read(HEAD_BYTES)
            if self.first_row + len(head) < self.extent:
                head = head[: byte_pieces.last_end(head, quoted=self.dialect.quoted)]
            return number_columns(read(head, self.dialect), options)
        return NONE

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except BrokenFileError as error:
            raise DataError(f"{self.source}: {error}") from error

    def located(self, error: TableError, place: int) -> DataError:
        """Return an error with file and line; ``place``: where the frame begins that it is about."""
        if self.dialect is None:
            where = "" if error.row is None else f"row {place + error.row}, "
            return DataError(f"{self.source}: {where}{error}")
        line = error.line
        if error.row is not None:
            with open_regular(Path(self.path)) as file:
                block = next(byte_pieces.blocks(file, place, self.extent, quoted=self.dialect.quoted))[1]
            line = line_of_row(block, self.dialect, error.row)
        where = "" if line is None else f"line {self._lines_before(place) + line + 1:,}, "
        return DataError(f"{self.source}: {where}{error}")

    def _lines_before(self, place: int) -> int:
        """Return how many lines end before a byte, which is counted only where something is wrong."""
        lines = 0
        with open_regular(Path(self.path)) as file:
            while place > 0 and (data := file.read(min(HEAD_BYTES, place))):
                lines += data.count(b"\n")
                place -= len(data)
        return lines


def located(error: TableError, tables: Sequence[TableFile]) -> DataError:
    """Return an error with file and line, by its place: number of the file, and where the frame begins."""
    if error.place is None:
        return DataError(f"{tables[0].source}: {error}")
    index, place = error.place
    return next(table for table in tables if table.index == index).located(error, place)


def open_table(source: Path, path: Path, index: int, options: Options) -> TableFile:
    """Look at the head of a file; ``path``: of it, or of its copy as plain text. Raises DataError and OSError."""
    facts = source.stat()
    common: dict[str, Any] = {
        "index": index, "source": str(source), "path": str(path), "size": facts.st_size, "mtime_ns": facts.st_mtime_ns,
    }  # fmt: skip
    with open_regular(path) as file:
        extent = os.fstat(file.fileno()).st_size
        head = file.read(HEAD_BYTES)
    if head[:4] == b"PAR1":
        with parquet_faults(source):
            table = pl.scan_parquet(path)
            names = tuple(table.collect_schema().names())
            rows = int(table.select(pl.len()).collect().item())
        return TableFile(format=PARQUET, names=names, wanted=names, extent=rows, dialect=None, **common)
    try:
        dialect = find_dialect(head, options, whole=len(head) == extent, name=source.name)
    except TableError as error:
        where = "" if error.line is None else f"line {error.line + 1:,}, "
        raise DataError(f"{source}: {where}{error}") from error
    names = dialect.names
    return TableFile(format=TEXT, names=names, wanted=names, extent=extent, dialect=dialect, **common)


def alike(tables: Sequence[TableFile]) -> tuple[list[TableFile], list[str]]:
    """Return the files with the first one's columns wanted of each, and notes. Raises DataError if one lacks some."""
    first, found, notes = tables[0], [tables[0]], []
    for table in tables[1:]:
        lacks = [name for name in first.names if name not in table.names]
        if lacks:
            raise DataError(
                f"{table.source}: has no column {_listed(lacks)}, as {Path(first.source).name} has; files that are "
                "prepared together have the same columns"
            )
        more = [name for name in table.names if name not in first.names]
        if more:
            notes.append(
                f"{count(len(more), 'column')} of {Path(table.source).name} that {Path(first.source).name} lacks "
                f"{'is' if len(more) == 1 else 'are'} left out: {_listed(more)}."
            )
        found.append(dataclasses.replace(table, wanted=first.names))
    return found, notes


def notes_of(tables: Sequence[TableFile]) -> list[str]:
    """Return what was found out of how the files are written; of all but the first what is not the same of that."""
    said: dict[str, str] = {}
    for table in tables:
        for note in table.dialect.notes if table.dialect else ():
            said.setdefault(note.replace(Path(table.source).name, ""), note)
    return [*said.values()]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:LISTED])) + ", ..." * (len(names) > LISTED)


@contextlib.contextmanager
def parquet_faults(path: Path) -> Iterator[None]:
    """Turn what polars says of a Parquet file into a DataError."""
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = str(error).splitlines()[0][:300] if str(error) else "damaged"
        raise DataError(f"{path}: not a readable Parquet file ({reason}); is it whole?") from error
