"""What a sync mode is to the rest of the program: how it is made, what its sum costs, and what it can do."""

from collections.abc import Callable
from dataclasses import dataclass

from ps.sync.synchronizer import Synchronizer, SyncSetup


@dataclass(frozen=True, slots=True)
class CostFormula:
    """Seconds of a sum of m bytes on P ranks, L of them on each of K nodes: latency a, seconds per byte b.

    ``terms(ranks, nodes)``: how often the sum takes a, and how often m b; adding is part of b, being as frequent.
    ``text``: the same for people.
    """

    terms: Callable[[int, int], tuple[float, float]]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """A way to make one training out of many.

    ``build``: makes its synchroniser, once per run; collective, raises JobError on all ranks.
    ``replicas``: each rank has parameters of its own; else the ranks of a node share one copy.
    ``elastic``: the other ranks can continue when one has died; only of modes that build a ``ReplicatedSync``.
    ``in_place``: ranks sum and update slices in shared memory, so its sum is no call of MPI within a node.
    """

    name: str
    help: str
    build: Callable[[SyncSetup], Synchronizer]
    cost: CostFormula
    replicas: bool = True
    elastic: bool = True
    in_place: bool = False


def rounds(n: int) -> int:
    """Return lg n, rounded up: the rounds in which a tree or a butterfly reaches n ranks."""
    return (n - 1).bit_length()
