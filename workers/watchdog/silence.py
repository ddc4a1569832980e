"""Hosts that no one hears from: a cable is pulled, a switch is down, a machine has lost its power."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from common.ranges import FEW, named_ranks, node_ranges
from common.rank_status import LOADING_PHASES, STOPPED, StatusRow

Act = Callable[[str, dict[str, Any]], None]
FEW_STEPS, LONGEST_STEPS = 2, 10
"""Training stands still if it takes so many times the longest step so far: to say so, and to end the job."""


def name_hosts(nodes: Collection[int], ranks: Sequence[Sequence[int]], hosts: Sequence[str]) -> str:
    """Return hosts with their ranks as text: ``host n3 (ranks 4-5)``. ``ranks``: by node. ``hosts``: by rank."""
    names = [hosts[ranks[node][0]] for node in sorted(nodes)]
    if len(names) > FEW:
        return f"hosts {node_ranges(names)} ({named_ranks(sorted(rank for node in nodes for rank in ranks[node]))})"
    named = [f"{name} ({named_ranks(ranks[node])})" for name, node in zip(names, sorted(nodes), strict=True)]
    return f"host{'s' * (len(named) > 1)} {', '.join(named)}"


class Silence:
    """Notices that training stands still while nodes are silent, names these, and ends the job after a while."""

    def __init__(
        self, stall_s: float, abort_s: float, node: int, ranks: Sequence[Sequence[int]], hosts: Sequence[str],
        tell: Act, end: Act, *, elastic: bool = False,
    ) -> None:  # fmt: skip
        """``node``: this one; ``ranks``: of each node; ``tell``, ``end``: see StallDetector."""
        self.stall_s, self.abort_s, self.node, self.ranks, self.hosts = stall_s, abort_s, node, ranks, hosts
        self.tell, self.end, self.elastic = tell, end, elastic
        self.reported: frozenset[int] = frozenset()
        self._elsewhere: frozenset[int] = frozenset()
        self._places: dict[int, tuple[Any, ...]] = {}
        self._moved_at = -1.0

    def look(
        self, now: float, rows: Sequence[StatusRow], heard: Mapping[int, float], *, patience: int = 1,
        elsewhere: Collection[int] = (),
    ) -> bool:  # fmt: skip
        """Look at the rows of those who are heard; return whether silent nodes explain that nobody makes progress.

        ``heard``: when silent nodes were last heard. ``patience``: how many times longer than else to wait.
        ``elsewhere``: nodes that others hear.
        """
        self._elsewhere = frozenset(elsewhere)
        heard = {node: at for node, at in heard.items() if node not in self._elsewhere} or heard
        mute = {rank for node in heard for rank in self.ranks[node]}
        live = {rank: row for rank, row in enumerate(rows) if rank not in mute and not row.finished}
        places = {rank: row.place for rank, row in live.items()}
        if places != self._places or self._moved_at < 0:
            self._places, self._moved_at = places, now
        if not heard:
            self._say_over()
            return False
        if any(not waits(row) for row in live.values()):
            return False  # who computes for too long is a stall like any other
        silent = (now - min(heard.values())) / patience
        still, longest = (now - self._moved_at) / patience, max((row.longest_ms for row in rows), default=0) / 1000
        if self.stall_s and silent >= self.stall_s and still >= max(self.stall_s / 2, FEW_STEPS * longest):
            if frozenset(heard) != self.reported:
                self.reported = frozenset(heard)
                self.tell(self.describe(heard, now), self.event(heard, now))
            if self.abort_s and silent >= self.abort_s and still >= max(self.abort_s / 2, LONGEST_STEPS * longest):
                self.end(f"{self.describe(heard, now)}; {self._why_ended()}", self.event(heard, now))
        return True

    def _why_ended(self) -> str:
        if not self.elastic:
            return "the job is ended (--abort-stall)"
        return (
            "the job is ended (--abort-stall): --elastic continues without ranks that die, but Open MPI's launcher "
            "ends a job that has lost a host; --resume continues it, and workers.supervise does by itself"
        )

    def _say_over(self) -> None:
        if self.reported:
            back = self._lost(self.reported) - ({self.node} if self._is_between(self.reported) else set())
            verb = "answers" if len(back) == 1 else "answer"
            what = f"{name_hosts(back, self.ranks, self.hosts)} {verb} again"
            self.tell(what, {"what": "host-back", "hosts": self._names(back), "message": what})
        self.reported = frozenset()

    def describe(self, heard: Mapping[int, float], now: float) -> str:
        """Return the message about silent nodes."""
        seconds = now - min(heard.values())
        if self._is_between(heard):
            here, there = (name_hosts(nodes, self.ranks, self.hosts) for nodes in ([self.node], heard))
            return (
                f"{here} and {there} have not heard each other for {seconds:.0f} s, though others hear both: the "
                "network between them is broken"
            )
        lost = self._lost(heard)
        named, verb = name_hosts(lost, self.ranks, self.hosts), "has" if len(lost) == 1 else "have"
        if self.is_cut_off(heard):
            return f"{named} {verb} not heard from any other host for {seconds:.0f} s: the network there may be down"
        return f"{named} {verb} not answered for {seconds:.0f} s: down, or cut off from the network"

    def _lost(self, silent: Collection[int]) -> set[int]:
        """Return the nodes to be named: the silent ones, or those here if it is these that are cut off, or both."""
        if self._is_between(silent):
            return {self.node, *silent}
        return set(range(len(self.ranks))) - set(silent) if self.is_cut_off(silent) else set(silent)

    def _is_between(self, silent: Collection[int]) -> bool:
        """Say whether others hear all of these, and so only the way between them and this node is broken."""
        return set(silent) <= self._elsewhere

    def is_cut_off(self, silent: Collection[int]) -> bool:
        """Say whether it is rather this node that the others do not hear: they are more, or have rank 0."""
        n_here = len(self.ranks) - len(silent)
        return n_here < len(silent) or (n_here == len(silent) and 0 in silent)

    def event(self, heard: Mapping[int, float], now: float) -> dict[str, Any]:
        """Return the event for the log."""
        lost = self._lost(heard)
        ranks = sorted(rank for node in lost for rank in self.ranks[node])
        return {"what": "host-lost", "hosts": self._names(lost), "ranks": ranks,
                "seconds": now - min(heard.values()), "message": self.describe(heard, now)}  # fmt: skip

    def _names(self, nodes: Collection[int]) -> list[str]:
        return [self.hosts[self.ranks[node][0]] for node in sorted(nodes)]


def waits(row: StatusRow) -> bool:
    """Say whether a rank may be waiting for others, as far as one can see."""
    return row.state != STOPPED and (row.is_waiting or row.phase in LOADING_PHASES or not row.step)
