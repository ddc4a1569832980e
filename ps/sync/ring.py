"""Mode ``ring``: the packet is reduced and gathered around a ring by messages of our own, which ``--wire`` shortens."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import numpy as np
from mpi4py import MPI

from common.config import WIRES, RunConfig
from common.errors import JobError
from common.flat import N_SLOTS, Array
from ps.comm.topology import Topology
from ps.sync import wires
from ps.sync.mode import CostFormula, Mode
from ps.sync.node_sum import NodeMemory, node_layout
from ps.sync.reducer import Reducer
from ps.sync.replicated import ReplicatedSync
from ps.sync.shared_memory import PAUSE_S
from ps.sync.slices import SummedBlock
from ps.sync.wires.error_buffer import ErrorBuffer
from ps.sync.wires.packet_wire import PacketWire, WireSetup


class WiredSum(Reducer):
    """Sums over all ranks alike by the wire that ``--wire`` names."""

    def __init__(
        self, topology: Topology, packet: Array, config: RunConfig, shapes: Mapping[str, tuple[int, ...]]
    ) -> None:
        super().__init__(topology.comm, packet)
        self._wire = wires.find(config.wire)(WireSetup(topology.comm, packet, shapes, config))
        self.error, self.lossy = self._wire.error, self._wire.lossy
        self.sum, self.sum_exactly, self.accept = self._wire.sum, self._wire.exact.sum, self._wire.accept  # type: ignore[method-assign]
        self.close = self._wire.close  # type: ignore[method-assign]
        self.sent_bytes, self.exact_ratio = sent(self._wire)

    @classmethod
    def allocate(cls, topology: Topology, config: RunConfig, n: int, dtype: np.dtype[Any]) -> NodeMemory | None:
        """See Reducer: ranks of a node add in memory that they share, where there are several nodes. Collective."""
        if topology.count == 1 or topology.largest == 1 or config.elastic:  # who waits in memory sees no death
            return None
        try:
            return NodeMemory(topology, n, dtype)
        except JobError:  # no room for it, on all ranks
            return None

    @classmethod
    def make(
        cls,
        topology: Topology,
        packet: Array,
        config: RunConfig,
        memory: Any,
        kept: str = "",  # noqa: ARG003
        tick: Callable[[], object] = lambda: None,  # noqa: ARG003
        shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> Reducer:
        """See Reducer."""
        wires.find(config.wire).check(shapes or {}, config)
        return (
            cls(topology, packet, config, shapes or {})
            if memory is None
            else NodeWiredSum(topology, memory, config, shapes or {})
        )

    def between_bytes(self, topology: Topology) -> int:
        """See Reducer."""
        leaders, here = topology.leaders, topology.leaders[self.comm.rank]
        return sum(n_bytes for rank, n_bytes in self._wire.sent_to.items() if leaders[rank] != here)


class NodeWiredSum(Reducer):
    """Ranks of a node add in memory that they share, each its slice; the first one of each node has the wire."""

    def __init__(
        self, topology: Topology, memory: NodeMemory, config: RunConfig, shapes: Mapping[str, tuple[int, ...]]
    ) -> None:
        packets, me = memory.packets, topology.local.rank
        super().__init__(topology.comm, packets[me])
        ranges = node_layout(topology, len(packets[0])).blocks(me)
        buffer = np.empty(max((b - a for a, b, _ in ranges), default=0), packets[0].dtype)
        self._blocks = [SummedBlock(packets, 0, a, b, buffer) for a, b, _ in ranges]
        self._own, self._sums, self._barrier = packets[me], packets[0], memory.barrier
        kind = wires.find(config.wire)
        self.lossy = kind.lossy
        leaders = cast("MPI.Intracomm", memory.between[0]) if me == 0 else None
        self._wire = None if leaders is None else kind(WireSetup(leaders, packets[0], shapes, config))
        if self._wire is not None:
            self.error = self._wire.error
        elif kind.feeds_back:
            self.error = ErrorBuffer(len(packets[0]) - N_SLOTS, packets[0].dtype, holds=False)
        self.sent_bytes, self.exact_ratio = (0, 1.0) if self._wire is None else sent(self._wire)

    def between_bytes(self, topology: Topology) -> int:  # noqa: ARG002
        """See Reducer."""
        return self.sent_bytes

    def sum(self) -> None:
        """See Reducer."""
        self._sum(None if self._wire is None else self._wire.sum)

    def sum_exactly(self) -> None:
        """See Reducer."""
        self._sum(None if self._wire is None else self._wire.exact.sum)

    def accept(self) -> None:
        """See Reducer."""
        if self._wire is not None:
            self._wire.accept()

    def close(self) -> None:
        """See Reducer."""
        if self._wire is not None:
            self._wire.close()

    def _sum(self, carry: Callable[[], None] | None) -> None:
        wait = self._barrier.wait
        wait()  # all gradients are written
        for block in self._blocks:
            block.keep(block.total())
        wait()
        if carry is not None:
            carry()
        wait(PAUSE_S)
        if carry is None:
            np.copyto(self._own, self._sums)
        wait()  # nobody writes the next gradient before it was copied


def sent(wire: PacketWire) -> tuple[int, float]:
    """Return the bytes that a rank sends in a sum, and how many times as many in an exact one."""
    usual, exact = (sum(one.sent_to.values()) for one in (wire, wire.exact))
    return usual, exact / usual if usual else 1.0


def _terms(ranks: int, nodes: int) -> tuple[float, float]:  # noqa: ARG001
    """A message to the next rank for each chunk but one, twice."""
    return 2 * (ranks - 1), 2 * (ranks - 1) / ranks


MODE = Mode(
    name="ring",
    help="around a ring of the ranks, added in the same order everywhere; --wire makes it shorter",
    build=partial(ReplicatedSync, WiredSum),
    cost=CostFormula(_terms, "2 (P-1) a + 2 (P-1)/P m b"),
    wires=WIRES,
)
