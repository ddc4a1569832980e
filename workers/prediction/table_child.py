"""What the child of a rank runs that predicts the rows of a table: it encodes them, as they were prepared for training.

And it writes predictions as Parquet. Polars is imported here; no MPI.
"""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from common.data.preprocessing import MISSING, UNKNOWN, Category, Number, Preprocessing
from common.errors import DataError
from common.flat import Array
from workers.preparation.checked_cells import FINITE, checked_cells, require
from workers.preparation.child import Answers
from workers.preparation.child import main as answer_all
from workers.preparation.encode import as_numbers, codes, number_target
from workers.preparation.options import Options, TableError, names_in

BYTES_AT_A_TIME = 16 << 20
"""Of encoded features."""
ROWS_AT_A_TIME = 1 << 20
"""Of a Parquet file that is written."""


class RowAnswers(Answers):
    """The questions of those who predict."""

    def open(self, paths: list[str], options: dict[str, Any], folder: str) -> dict[str, Any]:
        """Look at a file that need not have a target: see ``Answers.open``."""
        table, _ = self._open(Path(paths[0]), 0, options, folder)
        notes = list(table.dialect.notes) if table.dialect else []
        numbers = asdict(table.numbers(Options.from_dict(options)))
        return {"tables": [table.as_dict()], "options": options, "notes": notes, "sha256": ["-"], "numbers": numbers}

    def want(
        self, columns: dict[str, Any], dtype: str, step: int, targets: list[str], labels: list[str], weight: str
    ) -> None:
        """Remember what is asked of rows. ``step``: rows at a time, in whole steps of which a block is cut.

        ``labels``: of classes; none if the targets are numbers.
        """
        self._columns = Preprocessing.from_dict(columns)
        self._dtype, self._targets, self._weight = dtype, targets, weight
        self._labels = Category(targets[0], tuple(labels)) if labels else None
        row_bytes = max(1, len(self._columns.features()) * np.dtype(dtype).itemsize)
        self._step = step * max(1, BYTES_AT_A_TIME // row_bytes // step)
        self._missing = tuple(names_in(self._options.missing))
        self._numbers = self._numbers.only([one.name for one in self._columns.columns if isinstance(one, Number)])

    def begin(self, start: int, stop: int) -> None:
        """Begin with the rows of a piece."""
        self._blocks = self._read(start, stop)

    def block(self) -> dict[str, Any] | None:
        """Return some rows of the piece; None if there are no more."""
        return next(self._blocks, None)

    def _read(self, start: int, stop: int) -> Iterator[dict[str, Any]]:
        for place, frame in self._frames(0, start, stop):
            for first in range(0, len(frame), self._step):
                try:
                    yield self._encoded(frame.slice(first, self._step))
                except TableError as error:
                    error.place = [0, place]
                    error.row = None if error.row is None else error.row + first
                    raise

    def _encoded(self, frame: pl.DataFrame) -> dict[str, Any]:
        found = checked_cells(frame, self._columns.columns, self._missing, self._dtype)
        missing, unknown = 0, {}
        for column in self._columns.columns:
            of_column = found[column.name]
            if isinstance(column, Category):
                missing += int((of_column == MISSING).sum())
                if others := int((of_column == UNKNOWN).sum()):
                    unknown[column.name] = others
            else:
                missing += int(np.isnan(of_column).sum())
        x = self._columns.encode(found, self._dtype)
        answer: dict[str, Any] = {"rows": len(frame), "x": x.tobytes(), "missing": missing, "unknown": unknown}
        if self._labels is not None:
            answer["y"] = codes(frame[self._labels.name], self._labels, self._missing).tobytes()
        elif self._targets:
            answer["y"] = np.stack([self._target(frame[name]) for name in self._targets], axis=1).tobytes()
        if self._weight:
            answer["weight"] = self._weights(frame[self._weight]).tobytes()
        return answer

    def _finite(self, series: pl.Series) -> Array:
        found = as_numbers(series, self._missing)
        require(series, ~np.isfinite(found), FINITE, self._missing)
        return found

    def _target(self, series: pl.Series) -> Array:
        if len(self._targets) == 1:
            return self._finite(series)
        found = number_target(series, self._missing)
        require(series, ~np.isfinite(found), f"{FINITE}, or yes and no", self._missing)
        return found

    def _weights(self, series: pl.Series) -> Array:
        found = as_numbers(series, self._missing)
        wrong = np.flatnonzero(~(np.isfinite(found) & (found >= 0)))
        if len(wrong):
            got = str(series[int(wrong[0])])[:80]
            raise TableError(f"column {series.name!r}: got {got!r}; a weight is a number from 0", row=int(wrong[0]))
        return found

    def to_parquet(self, arrays: list[list[Any]], names: list[str], labels: list[Any], rows: int, folder: str) -> str:
        """Write a Parquet file of arrays, each a file, the columns of a row and a dtype; return its path.

        ``names``: of all columns. ``labels``: of the codes in the first one, if it holds such.
        """
        parts = []
        for number, first in enumerate(range(0, max(1, rows), ROWS_AT_A_TIME)):
            n = min(ROWS_AT_A_TIME, rows - first)
            columns = [column for path, width, dtype in arrays for column in _read(path, width, dtype, first, n)]
            frame = pl.DataFrame(dict(zip(names, columns, strict=True)))
            if labels:
                frame = frame.with_columns(pl.col(names[0]).replace_strict(dict(enumerate(labels))))
            parts.append(Path(folder) / f"part-{number}.parquet")
            frame.write_parquet(parts[-1])
            self._pulse(0.0)
        if len(parts) == 1:
            return str(parts[0])
        whole = Path(folder) / "whole.parquet"
        pl.scan_parquet(parts).sink_parquet(whole)
        return str(whole)

    def answer(self, name: str, about: dict[str, Any]) -> list[Any]:
        """Return an answer, or what is wrong."""
        try:
            return super().answer(name, about)
        except pl.exceptions.PolarsError as error:
            return ["fault", [f"polars: {str(error).splitlines()[0][:300]}", DataError.exit_code]]


def _read(path: str, width: int, dtype: str, first: int, n: int) -> Iterator[Array]:
    data = np.fromfile(path, dtype, n * width, offset=first * width * np.dtype(dtype).itemsize)
    return iter(np.ascontiguousarray(data.reshape(n, width).T))


def main() -> None:
    """Answer until the rank says no more, or has ended."""
    answer_all(RowAnswers)
