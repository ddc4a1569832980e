"""What rank 0's child runs with ``--prepare``: it fits a transformer to training rows, and transforms all. No MPI."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import polars as pl

from common import memory
from common.errors import ConfigError, DataError
from common.files import create_new, open_regular, write_bytes
from common.run_files import TRANSFORMER_NAME
from workers.preparation import byte_pieces, transformer_file
from workers.preparation.analyse import has_target
from workers.preparation.cells import without_missing
from workers.preparation.child import Answers
from workers.preparation.child import main as answer_all
from workers.preparation.options import names_in
from workers.preparation.typed_frame import typed_frame

FEATURES_NAME = "x.npy"
FEW = 20
"""Rows on which is tried whether a transformer is fitted."""


class TransformAnswers(Answers):
    """The questions of a job that trains on what a transformer makes of a table."""

    def begin(
        self,
        paths: list[str],
        options: dict[str, Any],
        folder: str,
        columns: list[list[str]],
        max_memory: str,
        ranks: int,
    ) -> None:
        """Look at the files again, as they were prepared. ``columns``: each with its type, see ``typed_frame``."""
        memory.THIS_PROCESS.set(max_memory, ranks)
        opened = self.open(paths, options, folder)
        for table in opened["tables"]:
            if table["dialect"]:
                with open_regular(Path(table["path"])) as file:
                    about = table["dialect"]["first_row"], table["dialect"]["separator"]
                    table["dialect"]["quoted"] |= byte_pieces.scan(file, 0, table["extent"], *about)[1]
        self.know(opened["tables"], opened["options"], opened["numbers"])
        self._columns = [(name, kind) for name, kind in columns]
        self._folder = Path(folder)

    def _typed_frames(self) -> Iterator[tuple[int, Any]]:
        """Yield the rows that have a target, and the number of the first."""
        missing, row = tuple(names_in(self._options.missing)), 0
        for table in self._tables:
            for _, read in table.frames(table.first_row, table.extent):
                frame = without_missing(read, missing)
                kept = frame.filter(pl.Series(has_target(frame, self._options)))
                if len(kept):
                    yield row, typed_frame(kept, self._columns, missing)
                row += len(kept)
                self._pulse(0.0)

    def fit(self, name: str, target: str, train: str) -> dict[str, Any]:
        """Take a transformer from its module, and fit it unless it is; return what is known of its file.

        ``target``, ``train``: .npy files of all rows' target, and of the numbers of the training rows.
        """
        with transformer_file.packages():
            import pandas as pd

            transformer = transformer_file.find(name)
            few = next((frame for _, frame in self._typed_frames()), None)
            if few is None:
                raise DataError(f"{self._tables[0].source}: has changed while it was prepared; start again")
            was_fitted = transformer_file.is_fitted(name, transformer, few[:FEW])
            if not was_fitted:
                rows, y = np.load(train, allow_pickle=False), np.load(target, allow_pickle=False)
                self._require_memory(name, len(rows), len(y))
                parts = []
                for first, frame in self._typed_frames():
                    own = rows[np.searchsorted(rows, first) : np.searchsorted(rows, first + len(frame))]
                    parts.append(frame.iloc[own - first])
                whole = pd.concat(parts, ignore_index=True)
                parts.clear()
                self._pulse(0.0)
                transformer = transformer_file.fitted(name, transformer, whole, y[rows])
            content, types = transformer_file.save(name, transformer)
            write_bytes(self._folder / TRANSFORMER_NAME, content)
            sha256 = hashlib.sha256(content).hexdigest()
            # what was saved is what transforms, so that predictions are of the same
            self._take(name, content, sha256, types, f"{transformer_file.OPTION} {name}")
        return {"sha256": sha256, "types": types, "trust": transformer_file.in_short(types), "fitted": was_fitted}

    def _require_memory(self, name: str, n: int, all_rows: int) -> None:
        """Raise MemoryLimitError unless rows to fit to are likely to fit into memory: cells of 8 bytes, and texts."""
        texts = sum(table.size for table in self._tables) * n // max(1, all_rows)
        memory.check(
            f"prepare {name}: the training rows", 8 * n * len(self._columns) + texts, 0,
            "a transformer that is fitted already, to a sample of the rows",
        )  # fmt: skip

    def read(self, name: str, path: str, sha256: str, trusted: list[str]) -> None:
        """Take a transformer from the file that an earlier job has left."""
        with transformer_file.packages():
            self._take(name, transformer_file.read(Path(path)), sha256, trusted, path)

    def _take(self, name: str, content: bytes, sha256: str, trusted: list[str], where: str) -> None:
        self._name = name
        self._transformer = transformer_file.load(name, content, sha256, trusted, where)

    def transform(self, rows: int) -> dict[str, Any]:
        """Write the features of all rows; return their names and the SHA-256 of the rows."""
        digest, at, width = hashlib.sha256(), 0, 0
        with create_new(self._folder / FEATURES_NAME) as file:
            for _, frame in self._typed_frames():
                x = transformer_file.features(self._name, self._transformer, frame)
                if not at:
                    width = x.shape[1]
                    self._header(file, rows, width)
                if x.shape[1] != width:
                    raise ConfigError(
                        f"{transformer_file.OPTION} {self._name}: transform() returned {x.shape[1]} features for some "
                        f"rows and {width} for others; each row takes as many"
                    )
                file.write(x.data)
                digest.update(x.data)
                at += len(x)
                self._pulse(0.0)
        if at != rows:
            raise DataError(f"{self._tables[0].source}: has changed while it was prepared; start again")
        return {"features": transformer_file.names(self._transformer, width), "sha256": digest.hexdigest()}

    def _header(self, file: IO[bytes], rows: int, width: int) -> None:
        about = {"descr": "<f4", "fortran_order": False, "shape": (rows, width)}
        np.lib.format.write_array_header_1_0(file, about)


def main() -> None:
    """Answer until the rank says no more, or has ended."""
    answer_all(TransformAnswers)
