"""Sums short vectors in two rounds of messages, where a ring takes 2 (P-1): for what is mostly waiting for messages."""

import numpy as np
from mpi4py import MPI

from common.flat import Array
from ps.sync.wires.passing import edges

CHUNKS, SUMS = 4, 5  # tags


class DirectSum:
    """Rank j gets chunk j of all ranks, adds them in rank order, and sends the sum to all: as many bytes as in a ring.

    ``sent_to``: payload bytes of a sum by the rank that this one sends them to.
    """

    def __init__(self, comm: MPI.Intracomm, vector: Array) -> None:
        self.comm, self._chunks = comm, [vector[a:b] for a, b in edges(len(vector), comm.size)]
        self._own = self._chunks[comm.rank]
        self._inbox = np.empty((comm.size, len(self._own)), vector.dtype)
        self._others = [(comm.rank + distance) % comm.size for distance in range(1, comm.size)]
        self.sent_to = {other: self._chunks[other].nbytes + self._own.nbytes for other in self._others}

    def sum(self) -> None:
        """Sum the vector over the ranks, in place, to the same bits on all."""
        comm, own, chunks, inbox = self.comm, self._own, self._chunks, self._inbox
        under_way = [comm.Irecv(inbox[other], other, CHUNKS) for other in self._others]
        under_way += [comm.Isend(chunks[other], other, CHUNKS) for other in self._others]
        np.copyto(inbox[comm.rank], own)
        MPI.Request.Waitall(under_way)
        np.copyto(own, inbox[0])
        for part in inbox[1:]:
            np.add(own, part, out=own)
        under_way = [comm.Irecv(chunks[other], other, SUMS) for other in self._others]
        under_way += [comm.Isend(own, other, SUMS) for other in self._others]
        MPI.Request.Waitall(under_way)
