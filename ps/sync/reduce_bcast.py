"""Mode ``reduce-bcast``: ``MPI_Reduce`` to rank 0, then ``MPI_Bcast`` of the result."""

from functools import partial

from mpi4py import MPI

from ps.comm.topology import Topology
from ps.sync.mode import CostFormula, Mode, rounds
from ps.sync.reducer import Reducer
from ps.sync.replicated import ReplicatedSync

_WHOLE_PACKETS, _FEW_NODES = MPI.get_vendor()[0] == "Open MPI", 8


class ReduceBcast(Reducer):
    """MPI_Reduce to the coordinator, then MPI_Bcast of the result."""

    def between_bytes(self, topology: Topology) -> int:
        """See Reducer. Open MPI passes long vectors along a chain of ranks: down to rank 0, and back up."""
        if MPI.get_vendor()[0] != "Open MPI":
            return super().between_bytes(topology)
        rank, leaders = topology.comm.rank, topology.leaders
        beside = [other for other in (rank - 1, rank + 1) if 0 <= other < len(leaders)]
        return self.sent_bytes * sum(leaders[other] != leaders[rank] for other in beside)

    def sum(self) -> None:
        """Sum at rank 0, which sends the result to the others."""
        for chunk in self.chunks:
            if self.comm.rank == 0:
                self.comm.Reduce(MPI.IN_PLACE, chunk)
            else:
                self.comm.Reduce(chunk, None)
            self.comm.Bcast(chunk)


def _terms(ranks: int, nodes: int) -> tuple[float, float]:  # noqa: ARG001
    """2 lg P a + 2 (P-1)/P m b, then (lg P + P - 1) a + 2 (P-1)/P m b: both for long vectors (Thakur et al. 2005)."""
    return 3 * rounds(ranks) + ranks - 1, 4 * (ranks - 1) / ranks


def _network(nodes: int, elsewhere: int) -> tuple[float, float]:  # noqa: ARG001
    """Open MPI 5 hands whole packets to rank 0 and on, of few nodes one after the other, else in a tree (counted)."""
    if not _WHOLE_PACKETS:
        return _terms(nodes, 1)
    times = 2 * (nodes - 1 if nodes <= _FEW_NODES else rounds(nodes))
    return times, times


MODE = Mode(
    name="reduce-bcast",
    help="MPI_Reduce to rank 0, MPI_Bcast back",
    build=partial(ReplicatedSync, ReduceBcast),
    cost=CostFormula(
        _terms,
        "(3 lg P + P - 1) a + 4 (P-1)/P m b",
        _network,
        f"2 (K-1) (A + m B) up to {_FEW_NODES}, else 2 lg K (A + m B)" if _WHOLE_PACKETS else "the same of K, A and B",
    ),
)
