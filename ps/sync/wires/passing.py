"""Gives every rank the messages of all, passed on around a ring, so that each connection carries one direction."""

from collections.abc import Sequence

from mpi4py import MPI

from common.flat import Array

TAG = 2


def pass_around(comm: MPI.Comm, messages: Sequence[Array]) -> None:
    """Fill in the other ranks' messages. ``messages``: of bytes, by rank; this rank's own is ready. Collective."""
    rank, size = comm.rank, comm.size
    right, left = (rank + 1) % size, (rank - 1) % size
    for k in range(rank, rank - size + 1, -1):
        comm.Sendrecv(messages[k % size], right, TAG, messages[(k - 1) % size], left, TAG)
