"""What a mode trains: parameters, their optimizer, the best copy; and how all of it is saved, restored and repaired."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mpi4py import MPI

from common.checksum import check
from common.flat import Array, Flat, blocks
from common.nn.optimizers import Optimizer
from ps.comm.collectives import MAX_BYTES, bcast
from ps.sync.replica_check import compare
from ps.sync.wires.error_buffer import ErrorBuffer

Allocate = Callable[[int, np.dtype[Any]], Array]
WHILE_BLOCK = 1 << 18
"""Elements that are copied between two looks whether they may have changed."""
BEST = "kept"
"""The name of the best parameters among the vectors of a checkpoint."""
ERROR = "wire_error"
"""That of the sum of what the ranks have not sent of their gradients."""


@dataclass(slots=True)
class SavedState:
    """Parameters and what goes with them, whole: (n,) vectors laid out like the parameters, and whole numbers.

    ``vectors``: the optimizer's by name, and the best parameters under ``BEST``, and what ranks have not sent under
    ``ERROR``, if there are any.
    """

    params: Array
    vectors: dict[str, Array]
    counts: dict[str, int]


class TrainingState:
    """Parameters and optimizer where every rank has all of both.

    ``optional``: vectors that a checkpoint, perhaps of another mode, may lack.
    """

    optional: frozenset[str] = frozenset()

    def __init__(self, comm: MPI.Intracomm, flat: Flat, optimizer: Optimizer, ranges: Sequence[slice]) -> None:
        """``ranges``: where the optimizer's blocks, which are those that this rank updates, lie in the vector."""
        self.comm, self.flat, self.optimizer, self.ranges = comm, flat, optimizer, list(ranges)
        self.copies = list(range(comm.size))
        """By rank: which rank's copy of the parameters it has; its own, or that of its node."""
        self.error: ErrorBuffer | None = None
        """What this rank has not sent of its gradients; on all ranks, with a wire that feeds it back."""
        self._best: list[Array] = []
        self._has_best = False
        """The same on all ranks, of which some may update nothing and have no blocks."""

    def rebind(self, comm: MPI.Intracomm) -> None:
        """Belong to other ranks from here on."""
        self.comm, self.copies = comm, list(range(comm.size))

    def broadcast(self) -> None:
        """Give every rank rank 0's parameters. Collective."""
        self.comm.Bcast(self.flat.param_vector)

    def snapshot_best(self) -> None:
        """Remember the parameters as they are now; the memory is taken when it is first needed."""
        own = self._own_parameters()
        if not self._has_best:
            self._has_best = True
            self._best = [np.empty_like(block) for block in own]
        for best, block in zip(self._best, own, strict=True):
            np.copyto(best, block)

    def restore_best(self) -> None:
        """Put back what ``snapshot_best`` remembered. Collective."""
        for best, block in zip(self._best, self._own_parameters(), strict=True):
            np.copyto(block, best)

    def _own_parameters(self) -> list[Array]:
        return [self.flat.param_vector[where] for where in self.ranges]

    def checksum(self) -> tuple[int, bool]:
        """Return a 48-bit checksum of this rank's copy of the parameters, and whether those it updates are finite."""
        total, finite = check(self.flat.param_vector, 0)
        return total >> 16, finite

    def compare(self) -> tuple[dict[int, list[str]], bool]:
        """Return the ranks whose parameters differ from most, with their names, and whether most agree. Collective."""
        return compare(self.comm, self.flat, self.copies)

    def repair(self, odd_ranks: list[int]) -> None:
        """Give some ranks the parameters and the optimizer's state of the others. Collective."""
        root = next(rank for rank in range(self.comm.size) if rank not in odd_ranks)
        send_vectors(self.comm, self.live_vectors(), root)

    def optimizer_bytes(self) -> int:
        """Return the bytes of the optimizer's state on this rank."""
        return sum(block.nbytes for own_blocks in self.optimizer.state().values() for block in own_blocks)

    def live_vectors(self) -> list[Array]:
        """Return the memory of the parameters and of the optimizer's state on this rank."""
        state = self.optimizer.state().values()
        return [self.flat.param_vector, *(block for own_blocks in state for block in own_blocks)]

    def vectors(self) -> list[tuple[str, list[Array]]]:
        """Return this rank's blocks of what goes with the parameters, by name, the same on all ranks."""
        return [*sorted(self.optimizer.state().items()), *([(BEST, self._best)] if self._has_best else [])]

    def capture(self, allocate: Allocate = np.empty) -> SavedState | None:
        """Return a copy of the state of training at rank 0, None elsewhere. Collective.

        ``allocate``: gives the memory of a vector, by its length and dtype.
        """
        saved = None if self.comm.rank else self.capture_while(lambda: True, allocate)
        if self.error is not None:
            total = None if saved is None else saved.vectors.setdefault(ERROR, allocate(self.flat.n, self.flat.dtype))
            self.error.total(self.comm, total)
        return saved

    def capture_while(self, unchanged: Callable[[], bool], allocate: Allocate) -> SavedState | None:
        """Return a copy at rank 0 that is made while nothing may change, None if that does not last.

        Without what ranks have not sent, which each keeps to itself. Not collective, and for another thread than the
        one that trains. The counts are those of now.
        """
        n, dtype = self.flat.n, self.flat.dtype
        copies = {name: allocate(n, dtype) for name, _ in self.vectors()}
        params = allocate(n, dtype)
        pairs = [(params, [self.flat.param_vector]), *((copies[name], own) for name, own in self.vectors())]
        for copy, own_blocks in pairs:
            start = 0
            for block in own_blocks:
                for part in blocks(block, WHILE_BLOCK):
                    if not unchanged():
                        return None
                    np.copyto(copy[start : start + part.size], part)
                    start += part.size
        return SavedState(params, copies, self.optimizer.counts()) if unchanged() else None

    def load(self, saved: SavedState | None) -> None:
        """Continue from a saved state, which rank 0 has. Collective."""
        if saved is not None:
            np.copyto(self.flat.param_vector, saved.params)
        self.broadcast()
        if bcast(self.comm, saved is not None and BEST in saved.vectors):
            self.snapshot_best()
        for name, own_blocks in self.vectors():
            whole = np.empty(self.flat.n, self.flat.dtype) if saved is None else saved.vectors[name]
            send_vectors(self.comm, [whole], 0)
            for block, where in zip(own_blocks, self.ranges, strict=True):
                np.copyto(block, whole[where].reshape(block.shape))
        if self.error is not None:
            self.error.deal(self.comm, None if saved is None else saved.vectors.get(ERROR))
        self.optimizer.restore(bcast(self.comm, None if saved is None else saved.counts))


def send_vectors(comm: MPI.Comm, vectors: Sequence[Array], root: int) -> None:
    """Give every rank the root's vectors, in place, in chunks that MPI can count. Collective."""
    for vector in vectors:
        for chunk in blocks(vector, MAX_BYTES // vector.itemsize):
            comm.Bcast(chunk, root)
