"""Which ranks of a job are on this node, as the processes below their launcher show."""

from common.launcher_place import LauncherPlace
from common.process_table import Process, below, by_parent, descendants, variables


class NodeRanks:
    """The ranks of this node as one of them sees them.

    ``complete``: whether all of them can be seen, so that one which is not there is missing; in a container of its own,
    say, a rank sees itself only. ``known``: rank and number on the node of those that were seen. ``strange``: processes
    below the launcher, at the last look, that have not become ranks yet, or may not be looked into.
    """

    def __init__(self, launcher: int, place: LauncherPlace, *, complete: bool) -> None:
        """``place``: of the rank that looks."""
        self._launcher, self._place, self.complete = launcher, place, complete
        self.known: dict[int, int] = {place.rank: place.local_rank}
        self.strange = 0
        self._ranks: dict[int, tuple[int, int]] = {}
        """Of processes below the launcher: the rank, and its number on the node."""

    def present(self) -> dict[int, list[Process]]:
        """Return the processes of each rank of this node that is there."""
        found: dict[int, list[Process]] = {}
        self.strange, children = 0, by_parent(descendants(self._launcher))
        for top in [process for process in children.get(self._launcher, ()) if not process.ended]:
            if top.pid not in self._ranks:
                place = LauncherPlace(variables(top.pid))
                if place.kind != self._place.kind:
                    self.strange += 1
                    continue
                self._ranks[top.pid] = place.rank, place.local_rank
            rank, local_rank = self._ranks[top.pid]
            found[rank] = [top, *below(children, top.pid)]
            self.known[rank] = local_rank
        return found

    def expected(self) -> set[int]:
        """Return the ranks of this node, as far as they are known or follow from the numbers of others."""
        size = self._place.local_size
        if size == self._place.size:
            return set(range(size))
        pairs = sorted((local, rank) for rank, local in self.known.items() if local >= 0)
        if size < 0 or not pairs:
            return set(self.known)
        (first, rank), (last, other) = pairs[0], pairs[-1]
        step = (other - rank) // (last - first) if last > first else 1  # node by node, as launchers do unless told
        if any(rank + step * (local - first) != real for local, real in pairs):
            return set(self.known)
        return {rank + step * (local - first) for local in range(size)}
