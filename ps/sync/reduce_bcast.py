"""Mode ``reduce-bcast``: ``MPI_Reduce`` to rank 0, then ``MPI_Bcast`` of the result; between nodes as is faster."""

from collections.abc import Sequence
from functools import partial

from mpi4py import MPI

from common.flat import Array
from ps.sync.chosen_sum import ChosenSum
from ps.sync.mode import CostFormula, Mode, rounds
from ps.sync.replicated import ReplicatedSync
from ps.sync.wire import LIBRARY, Wire, shared_out

_WHOLE_PACKETS, _FEW_NODES = MPI.get_vendor()[0] == "Open MPI", 8


class ReduceBcastWire(Wire):
    """MPI_Reduce to rank 0 of a communicator, then MPI_Bcast of the result."""

    def sum(self, vector: Array) -> None:
        """Sum at rank 0, which sends the result to the others."""
        if self.comm.rank == 0:
            self.comm.Reduce(MPI.IN_PLACE, vector)
        else:
            self.comm.Reduce(vector, None)
        self.comm.Bcast(vector)

    def between_bytes(self, n_bytes: int, leaders: Sequence[int]) -> int:
        """See Wire. Open MPI passes long vectors along a chain of ranks: down to rank 0, and back up."""
        rank = self.comm.rank
        if not _WHOLE_PACKETS:
            return shared_out(n_bytes, leaders, rank)
        beside = [other for other in (rank - 1, rank + 1) if 0 <= other < len(leaders)]
        return n_bytes * sum(leaders[other] != leaders[rank] for other in beside)


class ChosenReduceBcast(ChosenSum):
    """Over all ranks alike, or over those of a node in shared memory and by these calls between nodes."""

    algorithms = (LIBRARY,)

    @staticmethod
    def wire(comm: MPI.Comm, algorithm: str) -> Wire:
        """See ChosenSum."""
        return ReduceBcastWire(comm, algorithm)


def _terms(ranks: int, nodes: int) -> tuple[float, float]:  # noqa: ARG001
    """2 lg P a + 2 (P-1)/P m b, then (lg P + P - 1) a + 2 (P-1)/P m b: both for long vectors (Thakur et al. 2005)."""
    return 3 * rounds(ranks) + ranks - 1, 4 * (ranks - 1) / ranks


def _network(nodes: int, elsewhere: int) -> tuple[float, float]:
    """Open MPI 5 hands whole packets to rank 0 and on, of few nodes one after the other, else in a tree (counted).

    Each of the L ranks of a node carries a part of its own: one goes out while the next still comes in.
    """
    if not _WHOLE_PACKETS:
        return _terms(nodes, 1)
    times = nodes - 1 if nodes <= _FEW_NODES else rounds(nodes)
    return 2 * times, times * (1 + (nodes - 1) / elsewhere)


MODE = Mode(
    name="reduce-bcast",
    help="MPI_Reduce to rank 0, MPI_Bcast back",
    build=partial(ReplicatedSync, ChosenReduceBcast),
    cost=CostFormula(
        _terms,
        "(3 lg P + P - 1) a + 4 (P-1)/P m b",
        _network,
        f"(K-1) (2 A + (1+1/L) m B) up to {_FEW_NODES} nodes, else lg K for K-1"
        if _WHOLE_PACKETS
        else "the same of K, A and B",
    ),
    algorithms=ChosenReduceBcast.algorithms,
)
