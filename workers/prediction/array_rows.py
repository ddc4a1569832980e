"""Rows of NumPy's files: .npz with X, and y where the truth is known; or .npy with features alone."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common import memory
from common.arrays_file import ArraysFile, open_arrays
from common.errors import BrokenFileError, DataError
from common.flat import Array
from common.nn.model_file import BLOCK, ModelFile
from workers.prediction.rows import Asked, Block, named
from workers.prediction.truth import as_truth

BLOCK_BYTES = 8 << 20


@dataclass(slots=True)
class ArrayRows:
    """An .npz or .npy file. ``wants_y``: the truth is asked for."""

    path: Path
    model: ModelFile
    wants_y: bool = False
    notes: list[str] = field(default_factory=list)
    n: int = 0
    names: list[str] = field(default_factory=list)
    """Of the arrays: X, then y and weight where they are asked for."""

    @classmethod
    def open(cls, path: Path, model: ModelFile, asked: Asked) -> "ArrayRows":
        """Look at the file. Raises DataError."""
        rows = cls(path, model, asked.wants_y)
        if asked.targets:
            raise DataError(f"target: {path} has no named columns; leave --target out: y is the target")
        if path.suffix.lower() == ".npy":
            if asked.wants_y:
                raise DataError(f"{path}: holds features alone; to evaluate, give an .npz with X and y")
            rows._check_shape(rows._mapped().shape, rows._mapped().dtype.kind)
            return rows
        try:
            with open_arrays(path) as arrays:
                rows._look(arrays, asked.weight)
        except BrokenFileError as error:
            raise DataError(f"{path}: not a readable .npz file of plain arrays ({error})") from error
        return rows

    def _look(self, arrays: ArraysFile, weight: str) -> None:
        have = arrays.names
        if not weight and self.wants_y and "sample_weight" in have:
            weight = "sample_weight"
        self.names = ["X", *["y"] * self.wants_y, *[weight] * bool(weight)]
        if absent := [name for name in self.names if name not in have]:
            raise DataError(f"{self.path}: holds no {', '.join(absent)}; it has {', '.join(sorted(have)[:20])}")
        self._check_shape(arrays.shape("X"), arrays.kind("X"))
        for name in self.names[1:]:
            if arrays.shape(name)[:1] != (self.n,):
                raise DataError(f"{self.path}: {name} has the shape {arrays.shape(name)}, but X has {self.n} rows")
        if not arrays.streams("X"):
            memory.check(f"data {self.path}", arrays.n_bytes("X"))

    def close(self) -> None:
        """See Rows."""

    def _check_shape(self, shape: tuple[int, ...], kind: str) -> None:
        model, columns = self.model, self._number_columns()
        if kind not in "fiub":
            raise DataError(f"{self.path}: X holds no numbers; it takes the features that the model was trained on")
        if len(shape) != 2 or shape[1] not in (model.n_features, columns or model.n_features):
            names = f" ({named(list(model.facts.features))})" if model.facts.features else ""
            raise DataError(f"{self.path}: X has the shape {shape}; the model takes (rows, {model.n_features}){names}")
        if not shape[0]:
            raise DataError(f"{self.path}: no rows")
        self.n = shape[0]

    def _number_columns(self) -> int:
        """Return how many columns the model was trained on, if all are numbers: then X may hold these, too."""
        columns = self.model.facts.preprocessing
        return len(columns.columns) if columns is not None and columns.only_numbers else 0

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
            x = preprocessing.encode_array(x, "float32")
        y = as_truth(others.pop(0), self.model, lambda i: f"{self.path}: row {at + i}") if self.wants_y else None
        return Block(x, y, self._weights(others[0], at) if others else None, missing)

    def _weights(self, weight: Array, at: int) -> Array:
        if weight.ndim != 1 or weight.dtype.kind not in "fiub":
            raise DataError(f"{self.path}: {self.names[-1]} holds no weight for each row")
        wrong = np.flatnonzero(~(np.isfinite(weight) & (weight >= 0)))
        if len(wrong):
            got = weight[wrong[0]]
            raise DataError(
                f"{self.path}: {self.names[-1]}, row {at + wrong[0]}: got {got}; a weight is a number from 0"
            )
        return weight.astype(np.float64)


def _step(row_bytes: int) -> int:
    """Return how many rows are read at a time."""
    return BLOCK * max(1, BLOCK_BYTES // max(1, row_bytes) // BLOCK)
