"""Which ranks share a node."""

from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from mpi4py import MPI

from common.host import affinity
from ps.comm.collectives import allgather


class Topology:
    """The ranks grouped by node.

    ``local``: those of this node; ``leaders[rank]``: the lowest rank on that rank's node; ``largest``: most ranks on
    one node; ``here``: ranks on this machine, whatever is pretended; ``oversubscribed``: whether it has fewer cores for
    them; ``pretended``: whether nodes are; ``chosen``: what was found to be the fastest among these ranks, by what.
    """

    def __init__(self, comm: MPI.Intracomm, ranks_per_node: int = 0) -> None:
        """``ranks_per_node`` splits one machine into pretended nodes, for tests; 0 asks MPI."""
        self.comm = comm
        self._on_free: list[Callable[[], object]] = []
        self.pretended = ranks_per_node > 0
        self.chosen: dict[str, Any] = {}
        local = cast("MPI.Intracomm", comm.Split_type(MPI.COMM_TYPE_SHARED, comm.rank))
        # nobody waits in the new communicator before all ranks have it: one of them may die meanwhile (--elastic)
        lowest = np.empty(comm.size, np.int64)
        comm.Allgather(np.array([_lowest(local, comm)], np.int64), lowest)
        machine = allgather(local, affinity())
        self.here = len(machine)
        self.oversubscribed = len(machine) > len({core for cores in machine for core in cores})
        self.leaders: list[int] = lowest.tolist()
        if ranks_per_node:
            self.leaders = divided(self.leaders, ranks_per_node)
            local.Free()
            local = cast("MPI.Intracomm", comm.Split(self.leaders[comm.rank], comm.rank))
        self.local = local
        ranks_of = Counter(self.leaders)
        self.count, self.largest = len(ranks_of), max(ranks_of.values())

    def on_free(self, act: Callable[[], object]) -> None:
        """Remember what a mode must give back together with all ranks, whether it was finished or not."""
        self._on_free.append(act)

    def free(self) -> None:
        """Give back what modes hold, last first. Collective."""
        while self._on_free:
            self._on_free.pop()()

    def close(self) -> None:
        """Give back everything. Collective."""
        self.free()
        self.local.Free()


def divided(leaders: list[int], ranks_per_node: int) -> list[int]:
    """Return the leaders of pretended nodes, of at most so many ranks of a real one."""
    seen: dict[int, list[int]] = {}
    found = []
    for rank, leader in enumerate(leaders):
        ranks = seen.setdefault(leader, [])
        ranks.append(rank)
        found.append(ranks[(len(ranks) - 1) // ranks_per_node * ranks_per_node])
    return found


def _lowest(group: MPI.Intracomm, comm: MPI.Intracomm) -> int:
    """Return the rank in ``comm`` of the first rank of ``group``."""
    return MPI.Group.Translate_ranks(group.Get_group(), [0], comm.Get_group())[0]
