"""Wire ``float32``: numbers as they are, reduced and gathered around a ring of the ranks."""

import itertools
from typing import ClassVar

import numpy as np

from common.flat import Array, blocks
from ps.comm.collectives import MAX_BYTES
from ps.sync.wires.packet_wire import PacketWire, WireSetup

TAG = 1


class RingWire(PacketWire):
    """Chunk c is added up from rank c on, from each rank to the next, and the sums go around once more.

    So the order of addition is the same with every MPI library: x_c + x_(c+1) + ... (Patarasuk & Yuan 2009, Bandwidth
    optimal all-reduce algorithms for clusters of workstations). Each connection carries data in one direction, which
    TCP is much faster at than at two.
    """

    lossy: ClassVar[bool] = False
    vectors: ClassVar[float] = 0.5

    def __init__(self, setup: WireSetup) -> None:
        super().__init__(setup)
        rank, size = self.comm.rank, self.comm.size
        self._right, self._left = (rank + 1) % size, (rank - 1) % size
        self._parts = [cut(part, size) for part in blocks(self.packet, MAX_BYTES // self.packet.itemsize)]
        self._inbox = np.empty(max(len(chunk) for chunk in self._parts[0]) if size > 1 else 0, self.packet.dtype)
        if size > 1:
            kept = [chunks[i % size].nbytes for chunks in self._parts for i in (rank + 1, rank + 2)]
            self.sent_to = {self._right: 2 * self.packet.nbytes - sum(kept)}

    def _sum(self) -> None:
        comm, left, right, rank, size = self.comm, self._left, self._right, self.comm.rank, self.comm.size
        for chunks in self._parts:
            for k in range(rank, rank - size + 1, -1):
                own = chunks[(k - 1) % size]
                inbox = self._inbox[: len(own)]
                comm.Sendrecv(chunks[k % size], right, TAG, inbox, left, TAG)
                np.add(own, inbox, out=own)
            for k in range(rank + 1, rank - size + 2, -1):
                comm.Sendrecv(chunks[k % size], right, TAG, chunks[(k - 1) % size], left, TAG)


def cut(vector: Array, n: int) -> list[Array]:
    """Cut a vector into n chunks of nearly the same length, some of them perhaps empty."""
    edges = [len(vector) * i // n for i in range(n + 1)]
    return [vector[a:b] for a, b in itertools.pairwise(edges)]


WIRE = RingWire
