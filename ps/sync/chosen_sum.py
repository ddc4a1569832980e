"""Reducers that take the way which was the fastest at the start, or that the user wants, to sum across nodes."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from mpi4py import MPI

from common.config import RunConfig
from common.errors import JobError
from common.flat import Array
from ps.comm.topology import Topology
from ps.sync.reducer import Reducer
from ps.sync.sum_ways import AUTO, WAYS, Chosen, Way, choose, possible
from ps.sync.wire import ALGORITHMS, Wire, make_wire

if TYPE_CHECKING:
    from ps.sync.node_sum import NodeMemory


class WireSum(Reducer):
    """Sums over all ranks alike by a wire, in several calls for a packet beyond what one can count."""

    def __init__(self, wire: Wire, packet: Array) -> None:
        super().__init__(wire.comm, packet)
        self._wire = wire

    def between_bytes(self, topology: Topology) -> int:
        """See Reducer."""
        return self._wire.between_bytes(self.sent_bytes, topology.leaders)

    def sum(self) -> None:
        """Sum on all ranks at once."""
        for chunk in self.chunks:
            self._wire.sum(chunk)

    def close(self) -> None:
        """See Reducer."""
        self._wire.close()


class ChosenSum(Reducer):
    """MPI_Allreduce by one of ``algorithms``, or sums of nodes that travel by it."""

    algorithms: ClassVar[tuple[str, ...]] = ALGORITHMS

    def __init__(self, topology: Topology, packet: Array, memory: "NodeMemory | None", chosen: Chosen) -> None:
        self._inner, self._chosen = self._make(topology, packet, memory, chosen.way), chosen
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
    def make(
        cls,
        topology: Topology,
        packet: Array,
        config: RunConfig,
        memory: Any,
        kept: str = "",
        tick: Callable[[], object] = lambda: None,
        shapes: Mapping[str, tuple[int, ...]] | None = None,  # noqa: ARG003
    ) -> Reducer:
        """See Reducer."""

        def trial(way: Way, most_bytes: int) -> Reducer:
            most = most_bytes // packet.itemsize
            return cls._make(topology, packet[:most], None if memory is None else memory.head(most), way)

        wanted = config.sum_algorithm
        chosen = choose(
            topology,
            wanted,
            possible(topology, in_memory=memory is not None, apart=True, wanted=wanted, algorithms=cls.algorithms),
            trial,
            kind=f"packet of {packet.nbytes} bytes, {cls.__name__}",
            n_bytes=packet.nbytes,
            kept=kept,
            measure=not config.elastic,
            tick=tick,
        )
        return cls(topology, packet, memory, chosen)

    @staticmethod
    def wire(comm: MPI.Comm, algorithm: str) -> Wire:
        """Return what sums over a communicator. Collective."""
        return make_wire(comm, algorithm)

    @classmethod
    def _make(cls, topology: Topology, packet: Array, memory: "NodeMemory | None", way: Way) -> Reducer:
        if way.streams != "ranks":
            assert memory is not None
            from ps.sync.node_sum import NodeSum

            return NodeSum(topology, memory, way, cls.wire)
        return WireSum(cls.wire(topology.comm, way.algorithm), packet)

    def facts(self) -> dict[str, Any] | None:
        """See Reducer."""
        return self._chosen.facts()
