"""What a sync mode is to the rest of the program: how it is made, what its sum costs, and what it can do."""

from collections.abc import Callable
from dataclasses import dataclass

from common.config import RunConfig
from ps.sync.synchronizer import Synchronizer, SyncSetup


@dataclass(frozen=True, slots=True)
class CostFormula:
    """Seconds of a sum of m bytes on P ranks, L of them on each of K nodes: latency a, seconds per byte b.

    ``terms(ranks, nodes)``: how often the sum takes a, and how often m b; adding is part of b, being as frequent.
    ``text``: the same for people. ``network(nodes, elsewhere)``: of a sum whose costs between nodes are apart, how many
    messages follow each other there, and how many packets go through the interface of the node that has most to send
    or receive, if so many ranks are not on rank 0's node; ``terms(L, 1)`` is then what the ranks of a node do. Not
    given: as ``terms`` of so many ranks as nodes.
    ``network_text``: the same for people, with A and B for messages and bytes between nodes.
    """

    terms: Callable[[int, int], tuple[float, float]]
    text: str
    network: Callable[[int, int], tuple[float, float]] | None = None
    network_text: str = "the same of K, A and B"

    def between(self, nodes: int, elsewhere: int) -> tuple[float, float]:
        """Return messages and packets between nodes; none on one node."""
        if nodes == 1:
            return 0.0, 0.0
        return self.network(nodes, elsewhere) if self.network else self.terms(nodes, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """A way to make one training out of many.

    ``build``: makes its synchroniser, once per run; collective, raises JobError on all ranks.
    ``replicas``: each rank has parameters of its own; else the ranks of a node share one copy.
    ``elastic``: the other ranks can continue when one has died; only of modes that build a ``ReplicatedSync`` or
    a ``ServedSync``.
    ``algorithms``: those of ``wire.ALGORITHMS`` that may carry its sums between nodes; none if it has no choice.
    ``exact``: the update is that of one rank with all rows, but for rounding; ``auto`` takes no other mode.
    ``apart``: ranks may begin with parameters of their own (``init = "per-rank"``), and keep them.
    ``divides_state``: each rank has the optimizer's state of its slice of the parameters only.
    ``more_vectors(config)``: of the length of the parameters, that a rank has besides them, their gradient and the
    optimizer's state.
    ``serves``: rank 0 owns the parameters, and deals rows to ranks as they come for more.
    ``wires``: those of ``--wire`` in which its sums or pushes may travel; none if it has no choice.
    ``in_place``: ranks sum and update slices in shared memory, so its sum is no call of MPI within a node.
    """

    name: str
    help: str
    build: Callable[[SyncSetup], Synchronizer]
    cost: CostFormula
    replicas: bool = True
    elastic: bool = True
    exact: bool = True
    serves: bool = False
    apart: bool = True
    divides_state: bool = False
    in_place: bool = False
    algorithms: tuple[str, ...] = ()
    more_vectors: Callable[[RunConfig], int] = lambda config: 0  # noqa: ARG005
    wires: tuple[str, ...] = ()


HALVING = "2 lg K A + 2 (K-1)/K m B"


def halving(nodes: int, elsewhere: int) -> tuple[float, float]:  # noqa: ARG001
    """Return messages and packets where nodes sum as one each: a reduce-scatter and an allgather, whatever L is."""
    return 2 * rounds(nodes), 2 * (nodes - 1) / nodes


def rounds(n: int) -> int:
    """Return lg n, rounded up: the rounds in which a tree or a butterfly reaches n ranks."""
    return (n - 1).bit_length()
