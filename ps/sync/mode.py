"""What a sync mode is to the rest of the program: how it is made, what its sum costs, and what it can do."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from common.config import RunConfig
from common.flat import Array
from common.nn import optimizers
from common.nn.mlp import Mlp
from common.nn.models import Model
from ps.comm.topology import Topology
from ps.metrics.sync_timer import SyncTimer
from ps.sync.synchronizer import MakeOptimizer, Synchronizer


class Build(Protocol):
    """Makes a mode's synchroniser, once per run. Collective; raises JobError on all ranks."""

    def __call__(
        self,
        topology: Topology,
        model: Model | Mlp,
        config: RunConfig,
        timer: SyncTimer,
        counts: Array,
        make_optimizer: MakeOptimizer = optimizers.build,
    ) -> Synchronizer:
        """``counts``: (ranks, steps), the rows of each rank in each step of an epoch."""


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

    ``replicas``: each rank has parameters of its own; else the ranks of a node share one copy.
    ``elastic``: the other ranks can continue when one has died.
    ``in_place``: ranks sum and update slices in shared memory, so its sum is no call of MPI within a node.
    """

    name: str
    help: str
    build: Build
    cost: CostFormula
    replicas: bool = True
    elastic: bool = True
    in_place: bool = False


def rounds(n: int) -> int:
    """Return lg n, rounded up: the rounds in which a tree or a butterfly reaches n ranks."""
    return (n - 1).bit_length()
