"""What the watchdog of a node knows of other nodes, and how it tells them of its own: through the hub, or by a file."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.rank_status import ENDED, LOST, STOPPED, StatusRow
from workers.watchdog.clock_offset import Offset
from workers.watchdog.row_ages import ReceivedRows, SentRows
from workers.watchdog.row_exchange import SILENT_S, UNSEEN_S, RowExchange, read_lost
from workers.watchdog.whole import Whole, plain, runs

if TYPE_CHECKING:
    from workers.watchdog.star import Star

LEAVE_S = 2.0
"""How long a watchdog that ends waits until the hub has heard that."""
PAUSE_S = 0.02
ELSEWHERE_S = 5.0
"""How long it counts that another node hears one; it says so every second."""
FIRST_LOOK_S = 12.0
"""How long a hub waits for calls before it looks for those who do not call in the file; they give up sooner."""


class Peers:
    """The other nodes. All times are on the job's clock, but for those of deaths.

    ``nodes``: ranks by node. ``rows``: of all ranks, kept up to date here for those of other nodes. ``whole``: what the
    hub has said last. ``changed``: something has come since that was said that others should know at once. ``asked``:
    the hub has said that a rank has ended, and waits to hear who has seen that before.
    """

    def __init__(
        self, leaders: Sequence[int], own: Sequence[int], rows: list[StatusRow], star: dict[str, Any] | None, now: float
    ) -> None:
        """``leaders``: the lowest rank of each rank's node. ``star``: see ``workers/watchdog/spawn.py``."""
        numbers = {leader: number for number, leader in enumerate(sorted(set(leaders)))}
        self.nodes: list[list[int]] = [[] for _ in numbers]
        for rank, leader in enumerate(leaders):
            self.nodes[numbers[leader]].append(rank)
        self.node = numbers[leaders[own[0]]]
        self.rows, self.own = rows, self.nodes[self.node]
        self.whole = Whole()
        self.changed = self.asked = False
        self._news: list[tuple[int, dict[str, Any]]] = []
        self.files = RowExchange(rows)
        self._told_of_files = self._alone = False
        self._began = now
        self._received, self._sent = ReceivedRows(rows), SentRows()
        self._unsent: list[dict[str, Any]] = []
        self._offsets: dict[int, Offset] = {}
        self._clocks: list[str] = star["clocks"] if star is not None else []
        self._answered: set[int] = set()
        self._elsewhere: dict[int, float] = {}
        """Nodes that call another one than the hub, and when that was last said."""
        self._acknowledged = False
        self._told = Whole()
        self.star: Star | None = None
        if star is not None:
            from workers.watchdog.star import make_star

            self.star = make_star(star, self.node, now)

    @property
    def several(self) -> bool:
        """Whether there are other nodes."""
        return len(self.nodes) > 1

    @property
    def is_leaf(self) -> bool:
        """Whether a hub decides for this node."""
        return self.star is not None and not self.star.is_hub and self.star.connected

    @property
    def is_hub(self) -> bool:
        """Whether others tell this watchdog what they see."""
        return self.star is not None and self.star.is_hub

    @property
    def decides(self) -> bool:
        """Whether no other watchdog decides for this one: it is the hub, or cannot call it."""
        return self.is_hub or self.star is None or self._alone

    @property
    def port(self) -> int:
        """Where this watchdog can be called."""
        return self.star.ports[self.node] if self.star is not None else 0

    @property
    def unsent(self) -> list[dict[str, Any]]:
        """What is to be told to the hub, and could not be yet."""
        return self._unsent

    def take_news(self) -> list[tuple[int, dict[str, Any]]]:
        """Return what has come, once: the node it is of, and values by name."""
        news, self._news = self._news, []
        return news

    def never_heard(self) -> list[int]:
        """Return the nodes to which there never was a link."""
        assert self.star is not None
        away = {self.node, *self.star.heard, *self.star.left}
        return [node for node in range(len(self.nodes)) if node not in away]

    def _heard_by_files(self, now: float) -> set[int]:
        return self.files.heard - self.files.silent(now, SILENT_S)

    def by_files(self, now: float) -> list[int]:
        """Return the nodes that only the file tells of: those that never called; all, if the hub cannot be called."""
        if self.star is None or self.star.unreachable(now):
            return [node for node in range(len(self.nodes)) if node != self.node]
        if not self.star.is_hub or self.star.node or now - self._began < FIRST_LOOK_S:
            return []
        return self.never_heard()

    def known(self, now: float, folder: Path | None) -> set[int]:
        """Return the ranks of whose rows something is known."""
        known = set(self.own) | set(self._received.ranks)
        if folder is not None:
            known.update(rank for node in self.by_files(now) for rank in self.nodes[node])
        return known

    def silent(self, now: float) -> set[int]:
        """Return the ranks of other nodes whose rows are old, for their watchdog does not answer."""
        return self.files.silent(now, SILENT_S) | self._unheard(now)

    def _unheard(self, now: float) -> set[int]:
        from workers.watchdog.star import SILENT_S as UNHEARD_S

        nodes = self.star.unheard(now, UNHEARD_S) if self.star is not None else ()
        return {rank for node in nodes for rank in self.nodes[node]}

    def mute(self, now: float, seconds: float) -> dict[int, float]:
        """Return the nodes from which no one hears though they should have something to say, and since when."""
        if self.star is None:
            return {}
        found = self.star.silent(now, seconds)
        if self.star.heard or self.files.heard:
            found |= self.unreached(now)
        return {node: at for node, at in found.items() if not self._is_over(node)}

    def heard_elsewhere(self, now: float) -> set[int]:
        """Return the nodes that others hear, whether this one does or not: the network may be broken in part."""
        return {node for node, at in self._elsewhere.items() if now - at <= ELSEWHERE_S}

    def _is_over(self, node: int) -> bool:
        return all(self.rows[rank].finished for rank in self.nodes[node])

    def unreached(self, now: float) -> dict[int, float]:
        """Return the nodes that were never heard, and since when; where nobody was, that may be a firewall as well."""
        if self.star is None or not self.decides or now - self._began <= FIRST_LOOK_S:
            return {}
        seen = self._heard_by_files(now)
        away = [node for node in self.never_heard() if not seen.intersection(self.nodes[node])]
        return {node: self._began for node in away if not self._is_over(node)}

    def all_stopped(self, now: float, folder: Path | None) -> bool:
        """Say whether all processes of other nodes are stopped, except where no watchdog answers."""
        if self.is_leaf:
            return self.whole.stopped
        silent = self.files.silent(now, UNSEEN_S) | self._unheard(now)
        others = (row for number, row in enumerate(self.rows) if number not in self.own and number not in silent)
        known = len(self.known(now, folder) | silent) == len(self.rows)
        return known and all(row.state == STOPPED or row.finished for row in others)

    def receive(self, now: float) -> None:
        """Take what has come, and send what could not be sent before."""
        if self.star is None:
            return
        from workers.watchdog import wire

        for node, kind, content in self.star.receive(now):
            try:
                if kind == wire.ROWS:
                    self.changed |= self._received.take(wire.unpack_rows(content, self.nodes[node]), now)
                elif kind == wire.NEWS:
                    self._take(node, wire.unpack_news(content), now)
            except wire.WireError:
                self.star.hang_up(node)
        self.star.tick(now)
        self._alone = self.star.unreachable(now)
        self._send_unsent()

    def _send_unsent(self) -> None:
        from workers.watchdog import wire

        assert self.star is not None
        if self.decides:  # deaths are kept by who has reported them
            self._news += [(self.node, news) for news in self._unsent if "death" not in news]
            self._unsent.clear()
        while self._unsent and self.is_leaf and self.star.send(wire.NEWS, wire.pack_news(self._unsent[0])):
            del self._unsent[0]

    def _take(self, node: int, news: dict[str, Any], now: float) -> None:
        from workers.watchdog import wire

        assert self.star is not None
        self._offsets.setdefault(node, Offset()).note(news)
        # who has lost the hub and still looks for another learns from any node what the hub has said
        if "whole" in news and (node == self.star.hub or not (self.star.connected or self.star.is_hub)):
            before, self.whole = self.whole, Whole.from_news(news["whole"]) or self.whole
            self.asked = self.asked or (self.whole.ended and not before.ended)
            self.star.pass_on(wire.NEWS, wire.pack_news({"t": time.monotonic(), "whole": plain(self.whole)}))
            for first, last, finished in self.whole.over:
                for rank in set(range(max(0, first), min(last + 1, len(self.rows)))) - set(self.own):
                    state = ENDED if finished == LOST else self.rows[rank].state
                    self.rows[rank] = replace(self.rows[rank], finished=finished, state=state)
        if isinstance(called := news.get("called_by"), list):
            self._elsewhere |= {other: now for other in called if isinstance(other, int)}
        if news.get("bye"):
            self.star.leave(node)
            self._tell_whole(node)
        self._acknowledged = self._acknowledged or bool(news.get("ack"))
        if news.get("seen"):
            self._answered.add(node)
        if news.keys() - {"t", "whole", "bye", "ack", "seen", "least", "called_by"}:
            self._news.append((node, news))

    def answer(self) -> None:
        """Tell the hub that it has been told of all that was seen here before it said that a rank has ended."""
        self.asked = False
        self.report({"seen": True})

    @property
    def all_answered(self) -> bool:
        """Whether all nodes have told this hub what they had seen when it said that a rank has ended."""
        if self.star is None:
            return True
        others = set(range(len(self.nodes))) - {self.node} - self.star.left  # also those that have yet to call
        return others <= self._answered

    def when(self, node: int, at: float) -> float:
        """Return a time of a node's monotonic clock on this one's."""
        same = self._clocks[node] == self._clocks[self.node] != ""
        return at if same or node not in self._offsets else at + self._offsets[node].seconds

    def report(self, news: dict[str, Any]) -> None:
        """Tell the hub, as soon as there is one."""
        self._unsent.append(news)
        if self.star is not None:
            self._send_unsent()

    def exchange(self, now: float, beat: int, folder: Path | None, name: str, *, elastic: bool) -> list[int]:
        """Show the rows of this node to the others, and look at theirs; return nodes that cannot call the hub, once.

        ``name``: of the file. Raises OSError.
        """
        self.receive(now)
        self._received.age(now)
        if self.is_leaf:
            self._send_rows(now)
        told: list[int] = []
        by_files = [rank for node in self.by_files(now) for rank in self.nodes[node]]
        if by_files and folder is not None:
            own = [rank for rank in range(len(self.rows)) if rank in self.own or rank in self._received.ranks]
            for rank in self._received.ranks:  # those who read it there must see that it is new
                self.rows[rank] = replace(self.rows[rank], beat=beat)
            self.files.exchange(folder / name, now, own, by_files)
            if self.is_hub and not self._told_of_files:
                self._told_of_files, told = True, self.by_files(now)
        if elastic and folder is not None and (missing := self._unheard(now) - set(self.own)):
            for rank in read_lost(folder / name, missing):
                self.rows[rank] = replace(self.rows[rank], finished=LOST, state=ENDED)
        return told

    def _send_rows(self, now: float) -> None:
        """Send those rows of this node that do not follow from what was sent before, and a sign of life."""
        from workers.watchdog import wire

        assert self.star is not None
        new = self._sent.new(self.star.links[self.star.hub], [(rank, self.rows[rank]) for rank in self.own], now)
        if new:
            self.star.send(wire.ROWS, wire.pack_rows(new))
        offset = self._offsets.setdefault(self.star.hub, Offset())
        callers = {"called_by": callers} if (callers := self.star.callers()) else {}
        self.star.send(wire.NEWS, wire.pack_news(offset.stamp() | callers))

    def tell_whole(self, whole: Whole, *, beat: bool) -> None:
        """As the hub, tell all nodes how the job is: with each ``beat``, and when something new is to be said."""
        from workers.watchdog import wire

        if self.star is None or not self.star.is_hub or (whole == self._told and not beat):
            return
        self._told, self.changed = whole, False
        self.star.send_all(wire.NEWS, wire.pack_news({"t": time.monotonic(), "whole": plain(whole)}))

    def _tell_whole(self, node: int) -> None:
        """Tell a node that ends what it may have to know, and that its word has come."""
        from workers.watchdog import wire

        assert self.star is not None
        link = self.star.links.get(node)
        if link is not None:
            self._told.over = runs(self.rows)
            link.send(wire.NEWS, wire.pack_news({"whole": plain(self._told), "ack": True}))

    def leave(self, whole: Whole, now: float) -> None:
        """Tell the others that this watchdog ends, and see to it that they have heard it."""
        if self.star is None:
            return
        from workers.watchdog import wire

        until = time.monotonic() + LEAVE_S
        self.receive(now)
        if self.is_leaf:
            self._send_rows(now)
            self.star.send(wire.NEWS, wire.pack_news({"bye": True}))
            while self.is_leaf and not self._acknowledged and time.monotonic() < until:
                time.sleep(PAUSE_S)
                self.receive(now)
        elif self.star.is_hub:
            self.star.send_all(wire.NEWS, wire.pack_news({"whole": plain(whole), "bye": True}))
            while not self.star.flush() and time.monotonic() < until:
                time.sleep(PAUSE_S)

    def close(self) -> None:
        """End all links."""
        if self.star is not None:
            self.star.close()
