"""Sums of packets that lie in memory which the ranks of a node share: added there, then carried between nodes."""

import copy
from typing import Any

import numpy as np
from mpi4py import MPI

from common.errors import JobError
from common.flat import Array, blocks
from ps.comm.collectives import MAX_BYTES
from ps.comm.topology import Topology
from ps.sync.reducer import Reducer
from ps.sync.shared_memory import PAUSE_S, FlagBarrier, Windows
from ps.sync.slices import LINE, Layout, SummedBlock, cut
from ps.sync.sum_ways import AUTO, Way
from ps.sync.wire import MakeWire, make_wire


class NodeWire:
    """Carries the sums of slices, which lie in their owners' vectors, between nodes. Making and closing are collective.

    With one stream a node's first rank sums all slices, with several each owner its own, at the same time.
    """

    def __init__(
        self,
        topology: Topology,
        layout: Layout,
        vectors: list[Array],
        between: dict[int, MPI.Comm],
        barrier: FlagBarrier,
        way: Way,
        make: MakeWire = make_wire,
        most_bytes: int = 0,
    ) -> None:
        """``vectors``: of all ranks of the node; ``between``: see ``connect``.

        ``make``: of a communicator and an algorithm, what sums. ``most_bytes``: for a trial, of the whole vector, the
        same share of each slice; 0: all of it.
        """
        item = vectors[0].itemsize
        share = min(1.0, most_bytes / (layout.slices[-1].stop * item)) if most_bytes else 1.0
        me, self.alone, self._barrier = topology.local.rank, way.streams == "one", barrier
        of_number = between if not self.alone else {number: between[number] for number in between if number == 0}
        self._wires = {number: make(comm, way.algorithm) for number, comm in of_number.items()}
        self._parts = [
            (self._wires[0 if self.alone else s.number], chunk)
            for s in layout.slices
            if self._wires and (s.owner == me or self.alone)
            for chunk in blocks(
                vectors[s.owner][s.start : s.start + round(share * (s.stop - s.start))], MAX_BYTES // item
            )
        ]
        each = range(topology.count)  # a rank of each node
        self.sent_bytes = sum(wire.between_bytes(chunk.nbytes, each) for wire, chunk in self._parts)

    def sum(self) -> None:
        """Sum what this rank carries, once it is complete; with one stream, once all ranks' slices are."""
        if self.alone:
            self._barrier.wait()
        for wire, chunk in self._parts:
            wire.sum(chunk)
        if self.alone:
            self._barrier.wait(PAUSE_S)

    def close(self) -> None:
        """Give back what it holds."""
        for wire in self._wires.values():
            wire.close()


class NodeMemory:
    """Packets of all ranks of a node in memory that they share, and what connects them with other nodes."""

    def __init__(self, topology: Topology, n: int, dtype: np.dtype[Any]) -> None:
        """``n``: numbers in a packet. Collective; raises JobError if there is no room for them."""
        windows = Windows(topology, n * dtype.itemsize, f"--sum-algorithm {AUTO}")
        try:
            self.barrier = FlagBarrier(windows)
            self.packets = windows.allocate(n, dtype)
        except JobError:
            windows.close()  # those that there was room for; other modes may have theirs
            raise
        slices = node_layout(topology, n).slices
        self.between = connect(topology, {s.number for s in slices if s.owner == topology.local.rank})

    def head(self, n: int) -> "NodeMemory":
        """Return the same of the first ``n`` numbers of each packet."""
        part = copy.copy(self)
        part.packets = [packet[:n] for packet in self.packets]
        return part


class NodeSum(Reducer):
    """Each rank adds its slice of all packets of the node in rank order; sums travel between nodes, and are copied."""

    def __init__(self, topology: Topology, memory: NodeMemory, way: Way, make: MakeWire = make_wire) -> None:
        """``make``: see NodeWire. Collective."""
        packets, local, n = memory.packets, topology.local, len(memory.packets[0])
        super().__init__(topology.comm, packets[local.rank])
        layout, me = node_layout(topology, n), local.rank
        ranges = layout.blocks(me)
        buffer = np.empty(max((b - a for a, b, _ in ranges), default=0), packets[0].dtype)
        self._blocks = [SummedBlock(packets, me, a, b, buffer) for a, b, _ in ranges]
        self._copies = [
            (packets[me][s.start : s.stop], packets[s.owner][s.start : s.stop]) for s in layout.slices if s.owner != me
        ]
        self._barrier = memory.barrier
        self._wire = NodeWire(topology, layout, packets, memory.between, memory.barrier, way, make)

    def between_bytes(self, topology: Topology) -> int:  # noqa: ARG002
        """See Reducer."""
        return self._wire.sent_bytes

    def sum(self) -> None:
        """See Reducer."""
        wait = self._barrier.wait
        wait()  # all gradients are written
        for block in self._blocks:
            block.keep(block.total())
        self._wire.sum()
        wait(PAUSE_S)
        for own, sums in self._copies:
            np.copyto(own, sums)
        wait()  # nobody writes the next gradient before it was copied

    def close(self) -> None:
        """See Reducer."""
        self._wire.close()


def node_layout(topology: Topology, n: int) -> Layout:
    """Return how the ranks of a node divide a vector."""
    return Layout(cut(0, n, LINE, topology.largest, topology.local.size))


def connect(topology: Topology, numbers: set[int]) -> dict[int, MPI.Comm]:
    """Return a communicator for each of these slice numbers, with the owners on all nodes, if there are several.

    Collective; ``topology.free`` gives them back.
    """
    if topology.count == 1:
        return {}
    comm = topology.comm
    comms = [comm.Split(0 if j in numbers else MPI.UNDEFINED, comm.rank) for j in range(topology.largest)]
    for j in numbers:
        topology.on_free(comms[j].Free)
    return {j: comms[j] for j in sorted(numbers)}
