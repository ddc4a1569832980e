"""Which ranks share a node."""

from collections.abc import Callable
from typing import Any, cast

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
        facts = allgather(comm, [_lowest(local, comm), affinity()])
        machine = [cores for lowest, cores in facts if lowest == facts[comm.rank][0]]
        self.here = len(machine)
        self.oversubscribed = len(machine) > len({core for cores in machine for core in cores})
        self.leaders: list[int] = [lowest for lowest, _ in facts]
        if ranks_per_node:
            whole = [[r for r, leader in enumerate(self.leaders) if leader == lowest] for lowest, _ in facts]
            self.leaders = [ranks[ranks.index(r) // ranks_per_node * ranks_per_node] for r, ranks in enumerate(whole)]
            local.Free()
            local = cast("MPI.Intracomm", comm.Split(self.leaders[comm.rank], comm.rank))
        self.local = local
        self.count = len(set(self.leaders))
        self.largest = max(self.leaders.count(leader) for leader in self.leaders)

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


def _lowest(group: MPI.Intracomm, comm: MPI.Intracomm) -> int:
    """Return the rank in ``comm`` of the first rank of ``group``."""
    return MPI.Group.Translate_ranks(group.Get_group(), [0], comm.Get_group())[0]
