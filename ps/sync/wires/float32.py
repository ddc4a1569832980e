"""Wire ``float32``: numbers as they are, reduced and gathered around a ring of the ranks."""

from typing import ClassVar

import numpy as np

from common.flat import blocks
from ps.comm.collectives import MAX_BYTES
from ps.sync.wires.packet_wire import PacketWire, WireSetup
from ps.sync.wires.passing import edges, pass_around, reduce_around


class RingWire(PacketWire):
    """Chunk c is added up from rank c on, from each rank to the next, and the sums go around once more.

    So the order of addition is the same with every MPI library: x_c + x_(c+1) + ... (Patarasuk & Yuan 2009, Bandwidth
    optimal all-reduce algorithms for clusters of workstations).
    """

    lossy: ClassVar[bool] = False
    vectors: ClassVar[float] = 0.5

    def __init__(self, setup: WireSetup) -> None:
        super().__init__(setup)
        rank, size = self.comm.rank, self.comm.size
        most = MAX_BYTES // self.packet.itemsize
        parts = [[part[a:b] for a, b in edges(len(part), size)] for part in blocks(self.packet, most)]
        self._parts = [[*chunks[1:], chunks[0]] for chunks in parts]  # by the rank that has their sum first
        self._inbox = np.empty(max(len(chunk) for chunk in self._parts[0]) if size > 1 else 0, self.packet.dtype)
        if size > 1:
            kept = [chunks[i % size].nbytes for chunks in self._parts for i in (rank, rank + 1)]
            self.sent_to = {(rank + 1) % size: 2 * self.packet.nbytes - sum(kept)}

    def _sum(self) -> None:
        for chunks in self._parts:
            reduce_around(self.comm, chunks, self._inbox)
            pass_around(self.comm, chunks)


WIRE = RingWire
