"""Rows of a file of LIBSVM's format: 64 pieces of lines; one that is packed is read by rank 0 alone."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.data import libsvm_file
from common.data.packed_file import ENDING
from common.errors import BrokenFileError, DataError
from common.flat import Array
from common.nn.model_file import ModelFile
from workers.prediction import text_pieces
from workers.prediction.inputs import Input
from workers.prediction.rows import Asked, Block, rows_at_a_time
from workers.prediction.truth import as_truth


@dataclass(slots=True)
class LibsvmRows:
    """``first``: the index of the model's first feature in the file."""

    path: Path
    model: ModelFile
    wants_y: bool
    first: int
    notes: list[str] = field(default_factory=list)

    @classmethod
    def open(cls, given: Input, model: ModelFile, asked: Asked) -> "LibsvmRows":
        """Find out how features are numbered. Raises DataError."""
        if asked.weight:
            raise DataError(f"weight: {given.path} holds no weights; leave --weight out")
        first = libsvm_file.first_index(model.facts.features, given.path)
        return cls(given.path, model, asked.wants_y, first)

    def close(self) -> None:
        """See Rows."""

    def blocks(self, rank: int, size: int) -> Iterator[Block]:
        """See Rows."""
        try:
            for rows in self._packed(rank) if self._is_packed else self._plain(rank, size):
                yield from self._blocks(rows)
        except BrokenFileError as error:
            raise libsvm_file.broken(self.path, error) from error

    @property
    def _is_packed(self) -> bool:
        return self.path.name.lower().endswith(ENDING)

    def _packed(self, rank: int) -> Iterator[libsvm_file.Block]:
        return libsvm_file.blocks_of(self.path) if rank == 0 else iter(())

    def _plain(self, rank: int, size: int) -> Iterator[libsvm_file.Block]:
        for place, data in text_pieces.of_rank(self.path, rank, size):
            piece = data if data.endswith(b"\n") else data + b"\n"
            try:
                rows = libsvm_file.block_of(piece, 1)
            except BrokenFileError:
                libsvm_file.block_of(piece, 1 + text_pieces.lines_before(self.path, place))  # which names the line
                raise
            yield rows

    def _blocks(self, rows: libsvm_file.Block) -> Iterator[Block]:
        """Yield rows with their zeros, in blocks that take bounded memory."""
        n, width = len(rows.labels), self.model.n_features
        step = rows_at_a_time(width)
        places = rows.indices - self.first
        if places.min(initial=0) < 0:
            raise BrokenFileError("it has the index 0, but in training features were numbered from 1")
        for start in range(0, n, step):
            stop = min(start + step, n)
            begin, end = np.searchsorted(rows.rows, (start, stop))
            here = places[begin:end]
            within = here < width
            x = np.zeros((stop - start, width))
            x[rows.rows[begin:end][within] - start, here[within]] = rows.values[begin:end][within]
            yield Block(x, self._truth(rows.labels[start:stop]), beyond=int((~within).sum()))

    def _truth(self, labels: Array) -> Array | None:
        return as_truth(labels, self.model, lambda _: str(self.path)) if self.wants_y else None
