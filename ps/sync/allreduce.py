"""Mode ``allreduce``: one in-place ``MPI_Allreduce`` of the packet."""

from functools import partial

from mpi4py import MPI

from ps.sync.mode import CostFormula, Mode, rounds
from ps.sync.reducer import Reducer
from ps.sync.replicated import ReplicatedSync


class Allreduce(Reducer):
    """One in-place MPI_Allreduce, or several for a packet beyond what one call can count."""

    def sum(self) -> None:
        """Sum on all ranks at once."""
        for chunk in self.chunks:
            self.comm.Allreduce(MPI.IN_PLACE, chunk)


def _terms(ranks: int, nodes: int) -> tuple[float, float]:  # noqa: ARG001
    """Rabenseifner's algorithm, for long vectors (Thakur et al. 2005, section 4)."""
    return 2 * rounds(ranks), 2 * (ranks - 1) / ranks


MODE = Mode(
    name="allreduce",
    help="one MPI_Allreduce, all ranks alike",
    build=partial(ReplicatedSync, Allreduce),
    cost=CostFormula(_terms, "2 lg P a + 2 (P-1)/P m b"),
)
