"""Files of predictions, by their suffix: each rank renders its rows, and rank 0 puts them together in their order."""

import gzip
import io
import itertools
import os
import sys
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from common.data.target import CLASSES, REGRESSION
from common.errors import ConfigError
from common.files import require_replaceable, write_atomic
from common.flat import Array
from common.nn import meaning
from common.nn.model_file import ModelFile
from common.standard_streams import as_result
from workers.launch.cli import STANDARD_OUTPUT

TEXT = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet", ".npz", ".npy")


@dataclass(frozen=True, slots=True)
class Output:
    """A file of predictions; ``kind``: its suffix without .gz. ``proba``: with probabilities."""

    path: Path
    kind: str
    gz: bool
    proba: bool
    model: ModelFile

    @classmethod
    def of(cls, output: str, model: ModelFile, *, proba: bool) -> "Output":
        """Look at what is asked for. Raises ConfigError."""
        task, loss = model.facts.task, model.model.loss
        if proba and not meaning.has_probabilities(task, loss):
            what = "the model predicts numbers" if task == REGRESSION else f"its loss, {type(loss).__name__}, has none"
            raise ConfigError(f"proba: {what}, so there are no probabilities; leave --proba out")
        if output == STANDARD_OUTPUT:
            return cls(Path(output), ".csv", False, proba, model)
        path = Path(output)
        name = path.name.lower()
        suffix = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")
        if not suffix:
            raise ConfigError(f"output: got {output!r}; allowed is a name that ends with {', '.join(SUFFIXES)}, or -")
        return cls(path, suffix.removesuffix(".gz"), suffix.endswith(".gz"), proba, model)

    def require_place(self, not_over: Iterable[Path]) -> None:
        """Raise ConfigError unless the file can be written, as rank 0 does. ``not_over``: files that are read."""
        path = self.path
        if str(path) == STANDARD_OUTPUT:
            return
        try:
            require_replaceable(path)
            if not path.parent.is_dir():
                raise ConfigError(f"output: no folder {path.parent}; make it first")
            if not os.access(path.parent, os.W_OK):
                raise ConfigError(f"output: you may not write into {path.parent}; give another place")
            over = path.exists() and any(other.exists() and path.samefile(other) for other in not_over)
        except OSError as error:
            raise ConfigError(f"output: {path} cannot be written ({error.strerror}); give another name") from error
        if over:
            raise ConfigError(f"output: {path} is a file that is read; give another name")

    @property
    def n_streams(self) -> int:
        """How many arrays there are apart from each other."""
        return 2 if self.kind in (".npz", ".parquet") and self.proba else 1

    def columns(self) -> list[str]:
        """Return the names of the columns of a table."""
        names = self.model.target_names
        if not self.proba:
            return names
        if self.model.facts.task == CLASSES:
            return [*names, *(f"p({label})" for label in self.model.labels.tolist())]
        return [*names, *(f"p({name})" for name in names)]

    def render(self, out: Array) -> list[bytes]:
        """Return some rows as bytes of each stream, from raw outputs of the model."""
        p = self.model.probabilities(out) if self.proba else None
        if self.kind in TEXT:
            text = self._lines(out, p).encode()
            return [gzip.compress(text, 6, mtime=0) if self.gz else text]  # such parts may follow each other
        if self.kind == ".parquet" and self.model.facts.task == CLASSES:
            predicted = self.model.places(out).astype(np.int64)
        else:
            predicted = self.model.predicted(out)
        if self.kind == ".npy" and p is not None:
            return [np.ascontiguousarray(p).tobytes()]
        return [np.ascontiguousarray(array).tobytes() for array in (predicted, p) if array is not None]

    def _lines(self, out: Array, p: Array | None) -> str:
        if self.model.facts.task == CLASSES:
            texts = [quoted(str(label), TEXT[self.kind]) for label in self.model.labels.tolist()]
            columns = [[texts[place] for place in self.model.places(out).tolist()]]
        else:
            values = self.model.predicted(out).reshape(len(out), -1)
            columns = [list(map(repr, column.tolist())) for column in values.T]
        if p is not None:
            columns += [list(map(repr, column.tolist())) for column in p.T]
        lines = columns[0] if len(columns) == 1 else map(TEXT[self.kind].join, zip(*columns, strict=True))
        return "".join(f"{line}\n" for line in lines)

    def write(self, streams: Iterator[Iterator[bytes]], n: int) -> None:
        """Write the file of n rows from the bytes of each stream. Raises OSError and RankwiseError."""
        if str(self.path) == STANDARD_OUTPUT:
            with as_result():
                self._write(sys.stdout.buffer, streams, n)
        else:
            write_atomic(self.path, lambda file: self._write(file, streams, n))

    def _write(self, file: BinaryIO, streams: Iterator[Iterator[bytes]], n: int) -> None:
        if self.kind in TEXT:
            separator = TEXT[self.kind]
            head = f"{separator.join(quoted(name, separator) for name in self.columns())}\n".encode()
            file.write(gzip.compress(head, mtime=0) if self.gz else head)
            for data in next(streams):
                file.write(data)
        elif self.kind == ".npy":
            _write_array(file, *self._layout(n)[-1][1:], next(streams))
        else:
            with zipfile.ZipFile(file, "w") as archive:
                for (name, dtype, shape), pieces in zip(self._layout(n), streams, strict=True):
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                        _write_array(member, dtype, shape, pieces)

    def _layout(self, n: int) -> list[tuple[str, np.dtype[Any], tuple[int, ...]]]:
        """Return name, dtype and shape of the arrays."""
        model = self.model
        one = model.predicted(np.zeros((1, 1 if model.facts.task == CLASSES else model.n_targets)))
        found = [("prediction", one.dtype, (n, *one.shape[1:]))]
        if self.proba:
            width = len(model.labels) or model.n_targets
            found.append(("probabilities", np.dtype(np.float64), (n, width)))
        return found


def quoted(text: str, separator: str) -> str:
    """Return a cell of a text file, in quotes where it needs them."""
    if text and not any(c in text for c in (separator, '"', "\n", "\r")) and text == text.strip():
        return text
    return '"' + text.replace('"', '""') + '"'


def _write_array(file: Any, dtype: np.dtype[Any], shape: tuple[int, ...], data: Iterator[bytes]) -> None:
    header = io.BytesIO()
    about = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, about)
    for piece in itertools.chain([header.getvalue()], data):
        file.write(piece)
