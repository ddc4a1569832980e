"""Rows of arrays: of NumPy's files, IDX files, folders of either, and prepared ones."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from common.errors import DataError
from common.flat import Array
from common.nn.model_file import BLOCK, ModelFile
from workers.prediction import array_files
from workers.prediction.array_files import Arrays
from workers.prediction.array_sources import RowSource
from workers.prediction.inputs import Input
from workers.prediction.rows import Asked, Block, largest, named, rows_at_a_time
from workers.prediction.truth import as_truth


@dataclass(slots=True)
class ArrayRows:
    """Arrays of one file or folder. ``where``: which it is, in messages. ``n``: rows."""

    where: str
    model: ModelFile
    arrays: Arrays
    n: int
    notes: list[str] = field(default_factory=list)

    @classmethod
    def open(cls, given: Input, model: ModelFile, asked: Asked) -> "ArrayRows":
        """Look at the files. Raises DataError."""
        arrays = array_files.find(given, model, asked)
        where = str(given.path)
        shape = arrays.x.shape
        if arrays.convert is None:
            _check_features(where, arrays.x, model)
        if not shape[0]:
            raise DataError(f"{where}: no rows")
        for other in (arrays.y, arrays.weight):
            if other is not None and other.shape[:1] != shape[:1]:
                raise DataError(
                    f"{where}: {other.name} has the shape {other.shape}, but {arrays.x.name} has {shape[0]} rows"
                )
        return cls(where, model, arrays, shape[0], arrays.notes)

    def close(self) -> None:
        """See Rows."""

    def blocks(self, rank: int, size: int) -> Iterator[Block]:
        """See Rows."""
        n_blocks = -(-self.n // BLOCK)  # whole ones: how numbers are rounded may depend on a row's place in a block
        first, last = (min(self.n, BLOCK * (n_blocks * place // size)) for place in (rank, rank + 1))
        if first == last:
            return
        arrays = self.arrays
        step = rows_at_a_time(max(arrays.x.shape[1], self.model.n_features))
        sources = [source for source in (arrays.x, arrays.y, arrays.weight) if source is not None]
        at = first
        for x, *others in zip(*(source.rows(first, last, step) for source in sources), strict=True):
            yield self._block(x, others, at)
            at += len(x)

    def _block(self, x: Array, others: list[Array], at: int) -> Block:
        x = x.astype(np.float64)
        most = largest(self.model)
        wrong = np.argwhere(np.abs(x) > most)
        if len(wrong):
            row, column = wrong[0].tolist()
            raise DataError(
                f"{self.where}: {self.arrays.x.name}, row {at + row}, column {column}: got {x[row, column]}; a number "
                f"is within {most:.1e}"
            )
        missing, unknown = int(np.isnan(x).sum()), dict[str, int]()
        columns = self.model.facts.preprocessing
        if self.arrays.convert is not None:
            x, unknown = self.arrays.convert(x)
        elif columns is not None and x.shape[1] == _number_columns(self.model):
            x = columns.encode_array(x, "float32")
        y = weight = None
        if self.arrays.y is not None:
            true = others.pop(0)
            true = np.array(self.arrays.labels)[true] if self.arrays.labels else true
            y = as_truth(true, self.model, lambda i: f"{self.where}: row {at + i}")
        if self.arrays.weight is not None:
            weight = self._weights(self.arrays.weight.name, others[0], at)
        return Block(x, y, weight, missing, unknown)

    def _weights(self, name: str, weight: Array, at: int) -> Array:
        if weight.ndim != 1 or weight.dtype.kind not in "fiub":
            raise DataError(f"{self.where}: {name} holds no weight for each row")
        wrong = np.flatnonzero(~(np.isfinite(weight) & (weight >= 0)))
        if len(wrong):
            got = weight[wrong[0]]
            raise DataError(f"{self.where}: {name}, row {at + wrong[0]}: got {got}; a weight is a number from 0")
        return weight.astype(np.float64)


def _check_features(where: str, x: RowSource, model: ModelFile) -> None:
    if x.kind not in "fiub":
        raise DataError(f"{where}: {x.name} holds no numbers; it takes the features that the model was trained on")
    columns, shape = _number_columns(model), x.shape
    if len(shape) != 2 or shape[1] not in (model.n_features, columns or model.n_features):
        takes = f"(rows, {model.n_features})"
        if columns not in (0, model.n_features):
            takes = f"(rows, {columns}), the columns of the table, or {takes}, its features"
        names = f" ({named(list(model.facts.features))})" if model.facts.features else ""
        raise DataError(f"{where}: {x.name} has the shape {shape}; the model takes {takes}{names}")


def _number_columns(model: ModelFile) -> int:
    """Return how many columns the model was trained on, if all are numbers: then arrays may hold these."""
    columns = model.facts.preprocessing
    return len(columns.columns) if columns is not None and columns.only_numbers else 0
