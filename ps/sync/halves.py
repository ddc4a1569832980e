"""The two halves of a sum: a reduce-scatter, after which each rank has its slice of the sum, and an all-gather."""

from collections.abc import Sequence
from itertools import pairwise, zip_longest

from mpi4py import MPI

from common.flat import Array, blocks
from ps.comm.collectives import MAX_BYTES
from ps.sync.slices import LINE
from ps.sync.wires.passing import pass_around, reduce_around


def slices_of(n: int, size: int) -> list[slice]:
    """Cut ``n`` numbers into a slice a rank, of nearly the same length and of whole cache lines; some may be empty."""
    lines = -(-n // LINE)
    edges = [min(n, lines * rank // size * LINE) for rank in range(size + 1)]
    return [slice(a, b) for a, b in pairwise(edges)]


class Halves:
    """Both halves for one vector, around a ring of the ranks: the same bits with every MPI library."""

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
        """Sum; this rank's slice then has its sum, see ``reduce_around``. Collective."""
        assert self._inbox is not None
        for chunks in self._parts:
            reduce_around(self._comm, chunks, self._inbox)

    def gather(self) -> None:
        """Give every rank all slices, each from the rank that it belongs to. Collective."""
        for chunks in self._parts:
            pass_around(self._comm, chunks)
