"""Mode ``allreduce``: one in-place ``MPI_Allreduce`` of the packet, or what is faster across nodes."""

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from mpi4py import MPI

from common.config import RunConfig
from common.errors import JobError
from common.flat import Array
from ps.comm.topology import Topology
from ps.sync.mode import HALVING, CostFormula, Mode, halving, rounds
from ps.sync.reducer import Reducer
from ps.sync.replicated import ReplicatedSync
from ps.sync.sum_ways import AUTO, MOST_BYTES, WAYS, Chosen, Way, choose, possible
from ps.sync.wire import LIBRARY, RING, make_wire

if TYPE_CHECKING:
    from ps.sync.node_sum import NodeMemory


class Allreduce(Reducer):
    """One in-place MPI_Allreduce, or several for a packet beyond what one call can count."""

    def __init__(self, comm: MPI.Comm, packet: Array, algorithm: str = LIBRARY) -> None:
        self._wire = make_wire(comm, algorithm)
        super().__init__(self._wire.comm, packet)
        self._algorithm = algorithm

    def between_bytes(self, topology: Topology) -> int:
        """See Reducer. In a ring a rank sends to the next one alone."""
        if self._algorithm != RING or topology.largest == 1:
            return super().between_bytes(topology)
        rank, size, leaders = topology.comm.rank, topology.comm.size, topology.leaders
        leaves = leaders[(rank + 1) % size] != leaders[rank]
        return round(2 * (size - 1) / size * self.sent_bytes) if leaves else 0

    def sum(self) -> None:
        """Sum on all ranks at once."""
        for chunk in self.chunks:
            self._wire.sum(chunk)

    def close(self) -> None:
        """See Reducer."""
        self._wire.close()


class ChosenSum(Reducer):
    """MPI_Allreduce by the algorithm, or sums of nodes, that were the fastest at the start; or what the user wants."""

    def __init__(self, topology: Topology, packet: Array, memory: "NodeMemory | None", chosen: Chosen) -> None:
        self._inner, self._chosen = _make(topology, packet, memory, chosen.way), chosen
        super().__init__(self._inner.comm, packet)
        self.sum, self.close = self._inner.sum, self._inner.close  # type: ignore[method-assign]
        self.sent_bytes, self.between_bytes = self._inner.sent_bytes, self._inner.between_bytes  # type: ignore[method-assign]

    @classmethod
    def allocate(cls, topology: Topology, config: RunConfig, n: int, dtype: np.dtype[Any]) -> "NodeMemory | None":
        """See Reducer: ranks of a node can add in memory that they share, if they may want to. Collective."""
        wanted, network = config.sum_algorithm, topology.count > 1 and not topology.pretended
        in_memory = network if wanted == AUTO else WAYS[wanted].streams != "ranks"
        if not in_memory or topology.largest == 1 or config.elastic:  # who waits in memory would not see a death
            return None
        from ps.sync.node_sum import NodeMemory  # where there are several nodes

        try:
            return NodeMemory(topology, n, dtype)
        except JobError:  # no room for it, on all ranks
            if wanted == AUTO:
                return None
            raise

    @classmethod
    def make(cls, topology: Topology, packet: Array, config: RunConfig, memory: Any, kept: str) -> Reducer:
        """See Reducer."""
        most = MOST_BYTES // packet.itemsize
        head = None if memory is None else memory.head(most)
        chosen = choose(
            topology,
            config.sum_algorithm,
            possible(topology, in_memory=memory is not None, apart=True, wanted=config.sum_algorithm),
            lambda way: _make(topology, packet[:most], head, way),
            kind=f"packet of {packet.nbytes} bytes",
            kept=kept,
            measure=not config.elastic,
        )
        return cls(topology, packet, memory, chosen)

    def facts(self) -> dict[str, Any] | None:
        """See Reducer."""
        return self._chosen.facts()


def _make(topology: Topology, packet: Array, memory: "NodeMemory | None", way: Way) -> Reducer:
    if way.streams != "ranks":
        assert memory is not None
        from ps.sync.node_sum import NodeSum

        return NodeSum(topology, memory, way)
    return Allreduce(topology.comm, packet, way.algorithm)


def _terms(ranks: int, nodes: int) -> tuple[float, float]:  # noqa: ARG001
    """Rabenseifner's algorithm, for long vectors (Thakur et al. 2005, section 4)."""
    return 2 * rounds(ranks), 2 * (ranks - 1) / ranks


MODE = Mode(
    name="allreduce",
    help="one MPI_Allreduce, all ranks alike",
    build=partial(ReplicatedSync, ChosenSum),
    cost=CostFormula(_terms, "2 lg P a + 2 (P-1)/P m b", halving, HALVING),
)
