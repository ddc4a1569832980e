"""The two halves of a sum: a reduce-scatter, after which each rank has its slice of the sum, and an all-gather."""

from collections.abc import Sequence
from itertools import pairwise, zip_longest

import numpy as np
from mpi4py import MPI

from common.flat import Array, blocks
from ps.comm.collectives import MAX_BYTES
from ps.sync.slices import LINE

TAG = 3


def slices_of(n: int, size: int) -> list[slice]:
    """Cut ``n`` numbers into a slice a rank, of nearly the same length and of whole cache lines; some may be empty."""
    lines = -(-n // LINE)
    edges = [min(n, lines * rank // size * LINE) for rank in range(size + 1)]
    return [slice(a, b) for a, b in pairwise(edges)]


class Halves:
    """Both halves for one vector, around a ring of the ranks: the same bits with every MPI library.

    Messages go to the next rank alone, so that each connection carries data in one direction, which TCP is much faster
    at than at two. Within a node, too, they take less time than MPI_Reduce_scatter and MPI_Allgatherv.
    """

    def __init__(
        self,
        comm: MPI.Comm,
        vector: Array,
        slices: Sequence[slice],
        inbox: Array | None = None,
        most_bytes: int = MAX_BYTES,
    ) -> None:
        """``slices``: by rank, what it gets the sum of. ``inbox``: memory for the longest of them, for ``scatter``.

        ``most_bytes``: of one message.
        """
        self._comm = comm
        most = most_bytes // vector.itemsize
        self._parts = list(zip_longest(*(blocks(vector[s], most) for s in slices), fillvalue=vector[:0]))
        self._inbox = inbox

    def scatter(self) -> None:
        """Sum; slice i then has x_(i+1) + x_(i+2) + ... + x_i on rank i, the others are on their way. Collective."""
        comm, inbox = self._comm, self._inbox
        rank, size = comm.rank, comm.size
        right, left = (rank + 1) % size, (rank - 1) % size
        assert inbox is not None
        for chunks in self._parts:
            for k in range(rank - 1, rank - size, -1):
                own = chunks[(k - 1) % size]
                come = inbox[: len(own)]
                comm.Sendrecv(chunks[k % size], right, TAG, come, left, TAG)
                np.add(come, own, out=own)

    def gather(self) -> None:
        """Give every rank all slices, each from the rank that it belongs to. Collective."""
        comm = self._comm
        rank, size = comm.rank, comm.size
        right, left = (rank + 1) % size, (rank - 1) % size
        for chunks in self._parts:
            for k in range(rank, rank - size + 1, -1):
                comm.Sendrecv(chunks[k % size], right, TAG, chunks[(k - 1) % size], left, TAG)
