"""A file of a table, read piece by piece as polars frames, with the place of a fault in its messages."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common.errors import BrokenFileError, DataError
from common.files import open_regular
from common.flat import Array
from workers.preparation import byte_pieces, plain_columns
from workers.preparation.byte_pieces import N_PIECES

HEAD_BYTES = 1 << 20
TEXT, PARQUET = "text", "parquet"
CELLS_AT_A_TIME = 1 << 21
"""Of a Parquet file that are decoded at a time."""
Analysis = plain_columns.Analysis


@dataclass(frozen=True, slots=True)
class TableFile:
    """A file of a table. ``size``: its bytes; ``extent``: what is cut into pieces, bytes of a text or rows.

    ``dialect``: how a text is written. ``first_row``: the byte where its rows begin.
    """

    path: str
    format: str
    names: tuple[str, ...]
    size: int
    mtime_ns: int
    extent: int
    first_row: int
    dialect: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "TableFile":
        """Return what ``as_dict`` made plain."""
        return cls(**{**plain, "names": tuple(plain["names"])})

    def start(self, index: int, *, inside: bool) -> int:
        """Return where the first record of a piece begins. ``inside``: see ``record_start``. Raises DataError."""
        at = self.extent * index // N_PIECES
        if self.format == PARQUET:
            return at
        if at <= self.first_row:
            return self.first_row
        with open_regular(Path(self.path)) as file:
            try:
                return byte_pieces.record_start(file, at, self.extent, inside=inside)
            except BrokenFileError as error:
                raise DataError(f"{self.path}: {error}") from error

    def frames(self, start: int, stop: int) -> Iterator["Frame"]:
        """Yield the rows from ``start`` to ``stop``, some at a time. Raises DataError."""
        if self.format == PARQUET:
            step = max(1, CELLS_AT_A_TIME // max(1, len(self.names)))
            for first in range(start, stop, step):
                yield Frame(self, first, _read_parquet(self.path, first, min(step, stop - first)))
            return
        dialect = plain_columns.Dialect(**{**self.dialect, "names": tuple(self.dialect["names"])})
        with open_regular(Path(self.path)) as file:
            try:
                for place, block in byte_pieces.blocks(file, start, stop):
                    with _named(self, place):
                        data = plain_columns.read(block, dialect)
                    yield Frame(self, place, data)
            except BrokenFileError as error:
                raise DataError(f"{self.path}: {error}") from error


@dataclass(frozen=True, slots=True)
class Frame:
    """Some rows of a file; ``place``: the byte or row where they begin."""

    file: TableFile
    place: int
    data: Any

    def analyse(self) -> Analysis:
        """Return the statistics of its columns. Raises DataError."""
        with _named(self.file, self.place):
            return plain_columns.analyse(self.data)

    def encode(self, plan: "Plan") -> dict[str, Array]:
        """Return the arrays of its rows. Raises DataError."""
        with _named(self.file, self.place):
            return plain_columns.encode(self.data, plan.decided)


@dataclass(frozen=True, slots=True)
class Plan:
    """What the columns become."""

    decided: plain_columns.Plan

    @classmethod
    def decide(cls, analysis: Analysis, options: dict[str, Any]) -> "Plan":
        """Decide by the statistics of all rows. Raises DataError."""
        return cls(plain_columns.decide(analysis, options["target"]))

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return self.decided.as_dict()

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Plan":
        """Return what ``as_dict`` made plain."""
        return cls(plain_columns.Plan.from_dict(plain))


def merge_plain(merged: Analysis | None, plain: dict[str, Any]) -> Analysis:
    """Return statistics merged with those of the next piece, as plain values."""
    other = Analysis(**plain)
    return other if merged is None else merged.merge(other)


def open_table(path: Path, options: dict[str, Any]) -> TableFile:  # noqa: ARG001
    """Look at the head of a file. Raises DataError and OSError."""
    with open_regular(path) as file:
        facts = os.fstat(file.fileno())
        head = file.read(HEAD_BYTES)
    common: dict[str, Any] = {"path": str(path), "size": facts.st_size, "mtime_ns": facts.st_mtime_ns}
    if head[:4] == b"PAR1":
        names, rows = _parquet_facts(path)
        return TableFile(format=PARQUET, names=names, extent=rows, first_row=0, dialect={}, **common)
    dialect = plain_columns.find_dialect(head)
    return TableFile(
        format=TEXT, names=dialect.names, extent=facts.st_size, first_row=dialect.first_row, dialect=asdict(dialect),
        **common,
    )  # fmt: skip


@contextlib.contextmanager
def _named(file: TableFile, place: int) -> Iterator[None]:
    """Name the file in what is said of a frame, and the line or row, if the error has one from 0 within the frame."""
    try:
        yield
    except DataError as error:
        within = getattr(error, "line", None)
        where = ""
        if within is not None and file.format == PARQUET:
            where = f"row {place + within}: "
        elif within is not None:
            where = f"line {_lines_before(Path(file.path), place) + within + 1:,}: "
        raise DataError(f"{file.path}: {where}{error}") from error


def _lines_before(path: Path, place: int) -> int:
    """Return how many lines end before a byte of a file, which is counted only where something is wrong."""
    lines = 0
    with open_regular(path) as file:
        while place > 0 and (data := file.read(min(HEAD_BYTES, place))):
            lines += data.count(b"\n")
            place -= len(data)
    return lines


def _parquet_facts(path: Path) -> tuple[tuple[str, ...], int]:
    """Return the columns' names, and how many rows there are."""
    import polars as pl

    with _parquet_faults(path):
        table = pl.scan_parquet(path)
        return tuple(table.collect_schema().names()), int(table.select(pl.len()).collect().item())


def _read_parquet(path: str, first: int, n_rows: int) -> Any:
    import polars as pl

    with _parquet_faults(Path(path)):
        return pl.scan_parquet(path).slice(first, n_rows).collect()


@contextlib.contextmanager
def _parquet_faults(path: Path) -> Iterator[None]:
    import polars as pl

    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = str(error).splitlines()[0][:300] if str(error) else "damaged"
        raise DataError(f"{path}: not a readable Parquet file ({reason})") from error
