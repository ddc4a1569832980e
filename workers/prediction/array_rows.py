"""Rows of NumPy's files: .npz with X, and y where the truth is known; or .npy with features alone."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from common import memory
from common.arrays_file import open_arrays
from common.data.preprocessing import Number
from common.errors import BrokenFileError, DataError
from common.flat import Array
from common.nn.model_file import BLOCK, ModelFile
from workers.prediction.rows import Block
from workers.prediction.truth import as_truth

BLOCK_BYTES = 8 << 20


@dataclass(slots=True)
class ArrayRows:
    """An .npz or .npy file. ``wants_y``: the truth is asked for. ``weight``: the array of weights, if there is one."""

    path: Path
    model: ModelFile
    wants_y: bool = False
    weight: str = ""
    notes: list[str] = field(default_factory=list)
    n: int = 0
    names: list[str] = field(default_factory=list)
    """Of the arrays: X, then y and weight where they are asked for."""

    @classmethod
    def open(cls, path: Path, model: ModelFile, *, wants_y: bool = False, weight: str = "") -> "ArrayRows":
        """Look at the file. Raises DataError."""
        rows = cls(path, model, wants_y, weight)
        if path.suffix.lower() == ".npy":
            rows._check_shape(rows._mapped().shape, rows._mapped().dtype.kind)
            if wants_y:
                raise DataError(f"{path}: holds features alone; to evaluate, give an .npz with X and y")
            return rows
        try:
            with open_arrays(path) as arrays:
                have = arrays.names
                if not weight and wants_y and "sample_weight" in have:
                    rows.weight = "sample_weight"
                rows.names = ["X", *["y"] * wants_y, *[rows.weight] * bool(rows.weight)]
                if absent := [name for name in rows.names if name not in have]:
                    raise DataError(f"{path}: holds no {', '.join(absent)}; it has {', '.join(sorted(have)[:20])}")
                rows._check_shape(arrays.shape("X"), arrays.kind("X"))
                for name in rows.names[1:]:
                    if arrays.shape(name)[:1] != (rows.n,):
                        raise DataError(f"{path}: {name} has the shape {arrays.shape(name)}, but X has {rows.n} rows")
                if not arrays.streams("X"):
                    memory.check(f"data {path}", arrays.n_bytes("X"))
        except BrokenFileError as error:
            raise DataError(f"{path}: not a readable .npz file of plain arrays ({error})") from error
        return rows

    def _check_shape(self, shape: tuple[int, ...], kind: str) -> None:
        model, columns = self.model, self._number_columns()
        if kind not in "fiub":
            raise DataError(f"{self.path}: X holds no numbers; it takes the features that the model was trained on")
        if len(shape) != 2 or shape[1] not in (model.n_features, columns or model.n_features):
            names = f" ({', '.join(model.facts.features[:8])}, ...)" if model.facts.features else ""
            raise DataError(f"{self.path}: X has the shape {shape}; the model takes (rows, {model.n_features}){names}")
        if not shape[0]:
            raise DataError(f"{self.path}: no rows")
        self.n = shape[0]

    def _number_columns(self) -> int:
        """Return how many columns the model was trained on, if all are numbers: then X may hold these, too."""
        columns = self.model.facts.preprocessing
        plain = columns is not None and all(isinstance(column, Number) for column in columns.columns)
        return len(columns.columns) if columns is not None and plain else 0

    def _mapped(self) -> Array:
        try:
            array = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)[:200]
            raise DataError(f"{self.path}: not a readable .npy file of one plain array ({reason})") from error
        if not isinstance(array, np.ndarray):
            raise DataError(f"{self.path}: not a .npy file of one plain array")
        return array

    def blocks(self, rank: int, size: int) -> Iterator[Block]:
        """See Rows."""
        n_blocks = -(-self.n // BLOCK)  # whole ones: how numbers are rounded may depend on a row's place in a block
        first, last = (min(self.n, BLOCK * (n_blocks * place // size)) for place in (rank, rank + 1))
        if not self.names:
            x = self._mapped()
            step = _step(x.shape[1] * x.itemsize)
            yield from (self._block([x[at : min(at + step, last)]], at) for at in range(first, last, step))
            return
        try:
            with open_arrays(self.path) as arrays:
                step = _step(arrays.n_bytes("X") // self.n)
                streams = [arrays.rows(name, first, last, step) for name in self.names]
                at = first
                for parts in zip(*streams, strict=True):
                    yield self._block(list(parts), at)
                    at += len(parts[0])
        except BrokenFileError as error:
            raise DataError(f"{self.path}: not a readable .npz file of plain arrays ({error})") from error

    def _block(self, parts: list[Array], at: int) -> Block:
        x, *others = parts
        x = x.astype(np.float64)
        wrong = np.argwhere(np.isinf(x))
        if len(wrong):
            row, column = wrong[0].tolist()
            raise DataError(
                f"{self.path}: X, row {at + row}, column {column}: got {x[row, column]}; only finite numbers"
            )
        missing = int(np.isnan(x).sum())
        preprocessing = self.model.facts.preprocessing
        if preprocessing is not None and x.shape[1] != self.model.n_features:
            cells: dict[str, Any] = {column.name: x[:, i] for i, column in enumerate(preprocessing.columns)}
            x = self.model.encode(cells)
        y = as_truth(others.pop(0), self.model, lambda i: f"{self.path}: row {at + i}") if self.wants_y else None
        return Block(x, y, others[0].astype(np.float64) if others else None, missing)


def _step(row_bytes: int) -> int:
    """Return how many rows are read at a time."""
    return BLOCK * max(1, BLOCK_BYTES // max(1, row_bytes) // BLOCK)
