"""Mode ``allreduce``: one in-place ``MPI_Allreduce`` of the packet, or what is faster across nodes."""

from functools import partial

from ps.sync.chosen_sum import ChosenSum
from ps.sync.mode import HALVING, CostFormula, Mode, halving, rounds
from ps.sync.replicated import ReplicatedSync


def _terms(ranks: int, nodes: int) -> tuple[float, float]:  # noqa: ARG001
    """Rabenseifner's algorithm, for long vectors (Thakur et al. 2005, section 4)."""
    return 2 * rounds(ranks), 2 * (ranks - 1) / ranks


MODE = Mode(
    name="allreduce",
    help="one MPI_Allreduce, all ranks alike",
    build=partial(ReplicatedSync, ChosenSum),
    cost=CostFormula(_terms, "2 lg P a + 2 (P-1)/P m b", halving, HALVING),
    algorithms=ChosenSum.algorithms,
)
