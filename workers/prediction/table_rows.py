"""Rows of a table, CSV or Parquet, packed or not: pieces are dealt to the ranks, and each rank's child encodes them."""

import csv
import dataclasses
import io
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from common.data.preprocessing import Column, Number, Preprocessing
from common.data.target import CLASSES
from common.errors import DataError
from common.flat import Array
from common.nn.model_file import BLOCK, ModelFile
from common.run_files import TRANSFORMER_NAME
from ps.comm.agreement import at_root, together
from ps.comm.topology import Topology
from workers.prediction.rows import Asked, Block, match_columns, wanted_columns, without_names
from workers.prediction.truth import key
from workers.preparation.on_ranks import at_first, on_each
from workers.preparation.parallel import Preparation, Request, threads_of
from workers.preparation.pieces import Piece


class TableRows(Preparation):
    """A file of a table, open on all ranks. ``notes``: what was decided about it."""

    child_module = "workers.prediction.table_child"

    def __init__(
        self,
        topology: Topology,
        path: Path,
        model: ModelFile,
        asked: Asked,
        pulse: Callable[[], object],
        refuse: Callable[[], object],
    ) -> None:
        """Look at the file, and find the columns that the model wants. Collective; raises JobError.

        ``pulse``, ``refuse``: see Preparation.
        """
        comm = topology.comm
        known = io.StringIO()
        csv.writer(known).writerow(wanted_columns(model))
        options = {
            "encoding": asked.encoding, "header": asked.header, "missing": model.facts.missing, "one_column": True,
            "features": known.getvalue().rstrip("\r\n"),
        }  # fmt: skip
        super().__init__(comm, Request(((str(path.absolute()), "data"),), options), threads_of(topology), pulse, refuse)
        self.path, self.model, self.asked = path, model, asked
        if model.facts.transformer is not None:
            self.child_module = "workers.prediction.transformed_child"
        self.notes: list[str] = []
        self._folder = at_root(comm, lambda: tempfile.mkdtemp(dir=None if topology.count == 1 else Path.cwd()))
        self._parts: list[Piece] = []
        try:
            at_first(comm, lambda: self._ask("tidy", folder=self._folder))  # also if this rank is killed
            self._open(self._folder)
            self._parts = self._cut()
            wanted = together(comm, self._matched)
            on_each(comm, lambda: self._ask("want", **wanted) if self._works else None)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the child, and remove what was unpacked."""
        super().close()
        if self.comm.rank == 0:
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _dtype(self) -> str:
        """Of the features that the child makes."""
        facts = self.model.facts
        return "float64" if facts.preprocessing is None and facts.transformer is None else "float32"

    def _matched(self) -> dict[str, Any]:
        """Return what is asked of the child: see ``RowAnswers.want``. Raises DataError, naming columns."""
        model, there = self.model, list(self._tables[0]["names"])
        self.notes += self._notes
        targets = self.asked.targets or list(model.facts.targets)
        transformer = model.facts.transformer
        columns, by_order = self._columns(there, targets) if transformer is None else (Preprocessing(()), False)
        if self.asked.wants_y and by_order and not targets:
            targets = there[len(columns.columns) :]
        wanted = [column.name for column in columns.columns]
        taken = {}
        if transformer is not None:
            wanted = wanted_columns(model)
            path = model.path.with_name(TRANSFORMER_NAME)
            taken = {"transformer": {
                **transformer.as_dict(), "path": str(path), "trusted": self.asked.trusted, "width": model.n_features,
            }}  # fmt: skip
        known = [*targets, *([self.asked.weight] if self.asked.weight else [])]
        _, notes = match_columns(wanted, known, there, str(self.path), with_known=self.asked.wants_y)
        self.notes += notes
        labels = list(map(key, model.labels.tolist())) if self.asked.wants_y and model.facts.task == CLASSES else []
        if self.asked.wants_y and len(targets) != model.n_targets:
            raise DataError(
                f"target: {self.path}: got {len(targets)} columns, but the model predicts {model.n_targets}; name "
                "them with --target"
            )
        return {
            **taken, "columns": columns.as_dict(), "dtype": self._dtype,
            "step": BLOCK, "targets": targets if self.asked.wants_y else [], "labels": labels,
            "weight": self.asked.weight,
        }  # fmt: skip

    def _columns(self, there: list[str], targets: list[str]) -> tuple[Preprocessing, bool]:
        """Return how columns become features, and whether these are known by their order alone."""
        model = self.model
        columns: tuple[Column, ...] = tuple(map(Number, model.facts.features))
        if model.facts.preprocessing is not None:
            columns = model.facts.preprocessing.columns
        if not self.asked.wants_y and without_names(wanted_columns(model), there):
            self.notes.append(f"{self.path}: columns are taken in their order, since they have no names.")
            pairs = zip(columns, there, strict=True)
            columns = tuple(dataclasses.replace(column, name=name) for column, name in pairs)
        if columns:
            return Preprocessing(columns), False
        others = [name for name in there if name not in targets]
        expected, n_targets = model.n_features, model.n_targets if self.asked.wants_y and not targets else 0
        if len(others) != expected + n_targets:
            raise DataError(
                f"{self.path}: {len(others)} columns, but the model was trained on {expected} features without "
                f"names{' and their target behind them' * bool(n_targets)}; give as many, in the same order"
            )
        self.notes.append(f"{self.path}: columns are taken in their order, since the model's features have no names.")
        return Preprocessing(tuple(map(Number, others[:expected]))), True

    def blocks(self, rank: int, size: int) -> Iterator[Block]:  # noqa: ARG002
        """See Rows."""
        for owner, part in zip(self._owners, self._parts, strict=True):
            if owner != rank:
                continue
            self._ask("begin", start=part.start, stop=part.stop)
            while (found := self._ask("block")) is not None:
                yield self._block(found)

    def _block(self, found: dict[str, Any]) -> Block:
        n, model = found["rows"], self.model
        y: Array | None = None
        if "y" in found:
            y = np.frombuffer(found["y"], np.int64 if model.facts.task == CLASSES else np.float64)
            y = y if model.facts.task == CLASSES else y.reshape(n, model.n_targets)
        weight = np.frombuffer(found["weight"]) if "weight" in found else None
        x = np.frombuffer(found["x"], self._dtype).reshape(n, model.n_features)
        return Block(x, y, weight, found["missing"], found["unknown"])
