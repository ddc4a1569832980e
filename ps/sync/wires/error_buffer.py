"""What a rank has not sent of its gradients so far, for wires that add it to the next gradient (error feedback).

Such a wire computes c = g + ``now``, sends a part of c, and leaves the rest in ``next``; ``accept`` makes that the
error, once the sum is applied. A step that is left out or taken again so leaves the error as it was.
"""

from typing import Any

import numpy as np
from mpi4py import MPI

from common.flat import Array, blocks
from ps.comm.collectives import MAX_BYTES, bcast


class ErrorBuffer:
    """A rank's error e, as ``now``, and the one that the step under way leaves, as ``next``: (n,) zeros at first.

    The sum of e over the ranks and of all that was sent is the sum of all gradients. Of ranks that share a
    wire, only one has an error; for the others ``now`` and ``next`` have no numbers.
    """

    def __init__(self, n: int, dtype: np.dtype[Any], *, holds: bool = True) -> None:
        self.n = n
        self.now, self.next = (np.zeros(n if holds else 0, dtype) for _ in range(2))

    def accept(self) -> None:
        """Take what the last step has left as the error."""
        self.now, self.next = self.next, self.now

    def total(self, comm: MPI.Comm, whole: Array | None) -> None:
        """Write the sum over all ranks to ``whole``, (n,), which rank 0 gives. Collective."""
        own = self.now if len(self.now) else np.zeros(self.n, self.now.dtype)
        most = MAX_BYTES // own.itemsize
        sums = [None] * len(blocks(own, most)) if whole is None else blocks(whole, most)
        for chunk, total in zip(blocks(own, most), sums, strict=True):
            comm.Reduce(chunk, total)

    def deal(self, comm: MPI.Comm, whole: Array | None) -> None:
        """Take an equal part of a sum that rank 0 has, or zeros if it has None. Collective."""
        self.now[:] = 0
        if not bcast(comm, whole is not None):
            return
        holders = np.array([bool(len(self.now))], np.int64)
        comm.Allreduce(MPI.IN_PLACE, holders)
        whole = np.empty(self.n, self.now.dtype) if whole is None else whole
        for chunk in blocks(whole, MAX_BYTES // whole.itemsize):
            comm.Bcast(chunk)
        if len(self.now):
            np.divide(whole, int(holders[0]), out=self.now)
