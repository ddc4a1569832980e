"""Who waits for whom: which pushes make an update, and which ranks may go on after it. Pure: no messages."""

import math
from typing import Protocol

Group = list[int]
"""Ranks whose pushes are applied as one update, in their order."""


class Order(Protocol):
    """Told of each push and of each rank that leaves; decides what is applied, and who is released."""

    def arrived(self, rank: int) -> list[Group]:
        """Take note of a rank's push; return the updates that can be made now."""

    def leave(self, rank: int) -> list[Group]:
        """Wait for a rank no longer: it has no ticket, or is dead. Return the updates that can be made now."""

    def join(self, rank: int) -> None:
        """Wait for a rank again that had left."""

    def released(self) -> Group:
        """Return the ranks that may go on, once each, when their pushes have been applied."""

    def further(self) -> list[Group]:
        """Return the updates that were held back until those before them were made, and ranks sent on after them."""

    @property
    def least(self) -> float:
        """The least clock of the ranks that take part."""


class Clocks:
    """By rank, how many of its pushes were counted; infinite for a rank that is not waited for.

    Without updates that are held back.
    """

    def __init__(self, ranks: int) -> None:
        self._clocks = [0.0] * ranks

    def join(self, rank: int) -> None:
        """See Order."""
        self._clocks[rank] = self.least if math.isfinite(self.least) else 0.0

    def further(self) -> list[Group]:
        """See Order."""
        return []

    @property
    def least(self) -> float:
        """See Order."""
        return min(self._clocks)


class KOfN(Clocks):
    """One update for every ``wait_for`` pushes, late ones among them; each rank waits for the update with its own.

    Fewer make one where fewer ranks are left.
    """

    def __init__(self, ranks: int, wait_for: int) -> None:
        super().__init__(ranks)
        self._wait_for = wait_for
        self._active = set(range(ranks))
        self._pending: Group = []
        self._free: Group = []

    def arrived(self, rank: int) -> list[Group]:
        """See Order."""
        self._clocks[rank] += 1
        self._pending.append(rank)
        return self._close()

    def leave(self, rank: int) -> list[Group]:
        """See Order."""
        self._clocks[rank] = math.inf
        self._active.discard(rank)
        if rank in self._pending:  # it is dead
            self._pending.remove(rank)
        return self._close()

    def join(self, rank: int) -> None:
        """See Order."""
        super().join(rank)
        self._active.add(rank)

    def released(self) -> Group:
        """See Order."""
        free, self._free = self._free, []
        return free

    def _close(self) -> list[Group]:
        if not self._pending or len(self._pending) < min(self._wait_for, len(self._active)):
            return []
        group, self._pending = sorted(self._pending), []
        self._free += group
        return [group]


class BoundedClocks(Clocks):
    """Each push is an update; a rank is parked while it is more than ``bound`` pushes ahead of the slowest.

    Stale synchronous parallel (Ho et al. 2013, http://papers.nips.cc/paper/4894); ``bound`` may be infinite.
    """

    def __init__(self, ranks: int, bound: float) -> None:
        super().__init__(ranks)
        self._bound = bound
        self._parked: set[int] = set()

    def arrived(self, rank: int) -> list[Group]:
        """See Order."""
        self._clocks[rank] += 1
        self._parked.add(rank)
        return [[rank]]

    def leave(self, rank: int) -> list[Group]:
        """See Order."""
        self._clocks[rank] = math.inf
        self._parked.discard(rank)
        return []

    def released(self) -> Group:
        """See Order."""
        free = sorted(rank for rank in self._parked if self._clocks[rank] - self.least <= self._bound)
        self._parked.difference_update(free)
        return free


class InClockOrder(Clocks):
    """Each push is an update, made in the order of clocks, and of ranks within one; those that come early are held.

    A rank goes on when its push is applied, before the next one is: so what it is given does not depend on how fast
    any rank is, and a run has the bits of its repeat. Clocks differ by one at most.
    """

    def __init__(self, ranks: int) -> None:
        super().__init__(ranks)  # clocks count the pushes that were applied
        self._held: set[int] = set()
        self._free: Group = []

    def arrived(self, rank: int) -> list[Group]:
        """See Order."""
        self._held.add(rank)
        return self.further()

    def leave(self, rank: int) -> list[Group]:
        """See Order. Those that it held up are in ``further``."""
        self._clocks[rank] = math.inf
        self._held.discard(rank)
        return []

    def released(self) -> Group:
        """See Order."""
        free, self._free = self._free, []
        return free

    def further(self) -> list[Group]:
        """See Order."""
        rank = self._clocks.index(self.least)
        if rank not in self._held:
            return []
        self._held.discard(rank)
        self._clocks[rank] += 1
        self._free.append(rank)
        return [[rank]]
