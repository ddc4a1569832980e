"""Rows of a .csv of numbers, where polars is not installed: 64 pieces of lines, which NumPy reads."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.data.csv_file import MISSING, Head, head_of
from common.errors import BrokenFileError, DataError
from common.files import open_regular
from common.flat import Array
from common.nn.model_file import ModelFile
from workers.prediction import text_pieces
from workers.prediction.inputs import Input
from workers.prediction.rows import Asked, Block, largest, match_columns, wanted_columns, without_names
from workers.prediction.truth import as_truth
from workers.preparation import byte_pieces

BOM = b"\xef\xbb\xbf"
NEEDS = "needs polars: pip install 'rankwise[data]'"


@dataclass(slots=True)
class PlainRows:
    """A .csv of numbers. ``places``: of the columns in the order of the model; ``others``: of targets and weight."""

    path: Path
    model: ModelFile
    asked: Asked
    head: Head
    places: list[int]
    others: list[int]
    notes: list[str] = field(default_factory=list)

    @classmethod
    def open(cls, given: Input, model: ModelFile, asked: Asked) -> "PlainRows":
        """Look at the head of the file. Raises DataError."""
        path = given.path
        if asked.encoding not in ("", "utf-8"):
            raise DataError(f"encoding: {asked.encoding} {NEEDS}")
        columns = model.facts.preprocessing
        if columns is not None and not columns.only_numbers:
            raise DataError(f"{path}: the model was trained on texts or dates, and reading these {NEEDS}")
        head = head_of(path, asked.header)
        there = [name or f"column {i}" for i, name in enumerate(head.names, 1)]
        if not there or not head.width:
            raise DataError(f"{path}: no rows")
        wanted, notes = wanted_columns(model), list[str]()
        if not asked.wants_y and without_names(wanted, there):
            notes, wanted = [f"{path}: columns are taken in their order, since they have no names."], there
        targets = asked.targets or list(model.facts.targets)
        if not wanted:
            wanted = [name for name in there if name not in targets]
            targets = targets or (wanted[model.n_features :] if asked.wants_y else [])
            wanted = wanted[: model.n_features] if asked.wants_y else wanted
            if len(wanted) != model.n_features:
                raise DataError(
                    f"{path}: {len(wanted)} columns, but the model was trained on {model.n_features} features"
                )
        known = [*targets, *[asked.weight] * bool(asked.weight)]
        places, more = match_columns(wanted, known, there, str(path), with_known=asked.wants_y)
        rows = cls(path, model, asked, head, places[: len(wanted)], places[len(wanted) :])
        rows.notes += [*([head.note] if head.note else []), *notes, *more]
        return rows

    def close(self) -> None:
        """See Rows."""

    def blocks(self, rank: int, size: int) -> Iterator[Block]:
        """See Rows."""
        try:
            with open_regular(self.path) as file:
                first = self._first_row(file.read(byte_pieces.LONGEST_RECORD))
            for place, data in text_pieces.of_rank(self.path, rank, size, first):
                yield from self._block(place, data)
        except BrokenFileError as error:
            raise DataError(f"{self.path}: {error}") from error

    def _first_row(self, head: bytes) -> int:
        at = 0
        for _ in range(self.head.skip):
            at = head.find(b"\n", at) + 1
        return at or (len(BOM) if head.startswith(BOM) else 0)

    def _block(self, place: int, data: bytes) -> Iterator[Block]:
        lines = data.decode("utf-8", "replace").splitlines()
        if not any(line.strip() for line in lines):
            return
        try:
            table = np.loadtxt(lines, delimiter=",", ndmin=2, quotechar='"', comments=None)
        except ValueError:
            table = self._cell_by_cell(place, lines)
        if table.shape[1] != self.head.width:
            table = self._cell_by_cell(place, lines)
        x = table[:, self.places]
        if (np.abs(x) > largest(self.model)).any():
            self._cell_by_cell(place, lines, finite=True)
        y = weight = None
        if self.asked.wants_y:
            n = len(self.others) - bool(self.asked.weight)
            y = as_truth(table[:, self.others[:n]], self.model, lambda _: f"{self.path}")
            weight = table[:, self.others[-1]] if self.asked.weight else None
        missing = int(np.isnan(x).sum())
        columns = self.model.facts.preprocessing
        if columns is not None:
            x = columns.encode_array(x, "float32")
        yield Block(x, y, weight, missing)

    def _cell_by_cell(self, place: int, lines: list[str], *, finite: bool = False) -> Array:
        """Return the numbers of lines that NumPy refuses. Raises DataError, naming line and column."""
        rows = []
        for i, cells in enumerate(csv.reader(lines)):
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != self.head.width:
                where = self._line(place, i)
                raise DataError(f"{where}: got {len(cells)} cells, but the first row has {self.head.width}")
            rows.append([self._number(cell, place, i, k, finite=finite) for k, cell in enumerate(cells)])
        return np.array(rows, np.float64)

    def _number(self, cell: str, place: int, i: int, k: int, *, finite: bool) -> float:
        wanted = k in self.places or k in self.others
        if not wanted or cell.strip().lower() in MISSING:
            return np.nan
        try:
            value = float(cell)
        except ValueError:
            value = np.inf
            finite = True
        most = largest(self.model)
        if finite and not abs(value) <= most:
            name = self.head.names[k] or f"column {k + 1}"
            raise DataError(
                f"{self._line(place, i)}: column {name!r}: got {cell[:80]!r}; allowed is a number within {most:.1e}, "
                "or nothing"
            )
        return value

    def _line(self, place: int, i: int) -> str:
        return f"{self.path}: line {text_pieces.lines_before(self.path, place) + i + 1:,}"
