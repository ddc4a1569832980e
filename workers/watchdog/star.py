"""A star of TCP connections: the watchdog of the lowest node that lives is the hub, and those of all others call it.

So a message goes to each node and back in a second, however many there are. Each watchdog listens, for any may become
the hub: who no longer hears the hub calls the nodes above it too, and takes the lowest that answers, or itself.
"""

import select
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from workers.watchdog.link import Link
from workers.watchdog.listener import listen, make_room
from workers.watchdog.wire import WireError

SILENT_S = 5.0
"""After so long without a message a link is given up; each side sends one a second."""
FIRST_S = 10.0
"""How long a hub that never answered is called before one says that it cannot be reached."""
PATIENCE_S = 3.0
"""How long another hub is looked for, or a new watchdog of the same node waited for."""
CALL_S, RECALL_S = 0.5, 5.0
"""Between two attempts to call, and once it seems to be in vain."""
GREETING_S = 5.0
MOST_CALLED = 8
"""Nodes that are called at a time."""
MOST_STRANGERS = 64
"""Connections of nobody known that are held, besides those that the job's nodes may make."""
SWEEP_S = 0.5
"""Between two looks at all links."""
DEAF_S = 2.0
"""Who did not listen for so long, stopped or busy with a slow disk, cannot call others silent."""
FULL_S = 1.0
"""How long no call is taken after one that could not be, for want of descriptors or memory."""
SPARE_FILES = 512
"""Descriptors that a watchdog may need besides those of links."""
Message = tuple[int, int, bytes]
"""Which node it comes from, its kind and its content."""


class Star:
    """The links of the watchdog of one node; nodes are numbered from 0. All times are on the caller's clock.

    ``links``: by node. ``heard``: when something last came from a node. ``left``: nodes whose watchdog has said that it
    ends. ``hub``: the node that this one listens to, perhaps itself. ``ports``: where nodes can be called.
    """

    def __init__(
        self, node: int, places: Sequence[Sequence[str]], ports: Sequence[int], token: bytes,
        listener: socket.socket | None, now: float,
    ) -> None:  # fmt: skip
        """``places``, ``ports``: where each node listens; port 0: it does not."""
        self.node, self.hub, self._places, self.ports, self._token = node, 0, places, ports, token
        self.links: dict[int, Link] = {}
        self.heard: dict[int, float] = {}
        self.left: set[int] = set()
        self.epoll = select.epoll()
        self._given_up: set[int] = set()
        self._closed: set[int] = set()
        """Nodes that have closed their link: their host is there, only its watchdog is not."""
        self._unknown: dict[int, tuple[Link, float]] = {}
        self._by_handle: dict[int, Link] = {}
        self._looking_since, self._called_at = now, now - RECALL_S
        self._listened_at = self._swept_at = now
        self._full_until: float | None = None
        self._listener = listener
        if listener is not None:
            listener.setblocking(False)
            self.epoll.register(listener, select.EPOLLIN)

    @property
    def is_hub(self) -> bool:
        """Whether the others listen to this node."""
        return self.hub == self.node

    @property
    def connected(self) -> bool:
        """Whether this node is linked to its hub."""
        return self.hub in self.links

    def unreachable(self, now: float) -> bool:
        """Say whether no hub was ever reached, though there was time enough."""
        return not (self.is_hub or self.connected or self.heard) and now - self._looking_since > FIRST_S

    def unheard(self, now: float, seconds: float) -> dict[int, float]:
        """Return the nodes that were heard once and have said nothing for so long, for whatever reason: since when."""
        return {node: at for node, at in self.heard.items() if now - at > seconds and node not in self.left}

    def silent(self, now: float, seconds: float) -> dict[int, float]:
        """Return those of them that have not closed their link."""
        return {node: at for node, at in self.unheard(now, seconds).items() if node not in self._closed}

    def send(self, kind: int, content: bytes) -> bool:
        """Send a message to the hub; return whether there is a link to it."""
        link = self.links.get(self.hub)
        if link is not None:
            link.send(kind, content)
        return link is not None

    def send_all(self, kind: int, content: bytes) -> None:
        """Send a message to all nodes that have called."""
        for link in self.links.values():
            link.send(kind, content)

    def callers(self) -> list[int]:
        """Return the nodes that have called this one."""
        return sorted(node for node, link in self.links.items() if not link.called)

    def pass_on(self, kind: int, content: bytes) -> None:
        """Send what the hub says to nodes that have called this one instead, since they cannot reach the hub."""
        for link in self.links.values():
            if not link.called:
                link.send(kind, content)

    def receive(self, now: float) -> list[Message]:
        """Return what has come from known nodes, and take calls."""
        deaf_s, self._listened_at = now - self._listened_at, now
        if deaf_s > DEAF_S:
            self.heard = {node: at + deaf_s - DEAF_S for node, at in self.heard.items()}
        messages: list[Message] = []
        for handle, _ in self.epoll.poll(0):
            if handle in self._by_handle:
                messages += self._read(self._by_handle[handle], now)
            elif self._listener is not None:
                self._accept(now)
        return messages

    def _accept(self, now: float) -> None:
        assert self._listener is not None
        try:
            for _ in range(MOST_STRANGERS + len(self.ports)):
                sock, _ = self._listener.accept()
                oldest = next((link for link, _ in self._unknown.values() if not link.called), None)
                if oldest is not None and len(self._unknown) >= MOST_STRANGERS + len(self.ports):
                    self._drop(oldest)  # who belongs to the job is known soon after it has called
                self._add(Link(sock, self._token, self.node), now)
        except (BlockingIOError, InterruptedError, ConnectionError):
            pass
        except OSError:  # it would be reported again and again
            self._full_until = now + FULL_S
            self.epoll.modify(self._listener, 0)

    def _add(self, link: Link, now: float) -> None:
        self._unknown[link.socket.fileno()] = link, now
        self._by_handle[link.socket.fileno()] = link
        self.epoll.register(link.socket, select.EPOLLIN)

    def _read(self, link: Link, now: float) -> list[Message]:
        messages: list[Message] = []
        was_known = link.known
        try:
            for kind, content in link.receive():
                messages.append((link.peer, kind, content))
        except WireError:  # of a stranger, or of another version: it is not listened to
            self._drop(link)
            return messages
        if link.known and not was_known:
            self._meet(link, now)
        if messages:
            self.heard[link.peer] = now
        if link.ended:
            self._drop(link)
        return messages if 0 <= link.peer < len(self.ports) else []

    def _meet(self, link: Link, now: float) -> None:
        """Take a link whose other end has proved who it is."""
        self._unknown.pop(link.socket.fileno(), None)
        if link.peer == self.node or link.peer >= len(self.ports):
            self._drop(link)
            return
        if link.peer in self.links:
            self._drop(self.links[link.peer])
        self.links[link.peer] = link
        self.heard[link.peer] = now
        self._closed.discard(link.peer)
        self._given_up.discard(link.peer)
        if link.called and link.peer <= self.hub:
            if self.is_hub:  # no longer: they are to look for the right one
                for other in [other for other in self.links.values() if not other.called]:
                    self._drop(other)
            self.hub = link.peer

    def _drop(self, link: Link, *, silent: bool = False) -> None:
        """End a link; ``silent``: for nothing has come from it."""
        if link.socket.fileno() < 0:
            return
        self._unknown.pop(link.socket.fileno(), None)
        del self._by_handle[link.socket.fileno()]
        if self.links.get(link.peer) is link:
            del self.links[link.peer]
            if not silent:
                self._closed.add(link.peer)
        with suppress(OSError):
            self.epoll.unregister(link.socket)
        link.close()

    def hang_up(self, node: int) -> None:
        """End the link to a node that does not say what it should."""
        if node in self.links:
            self._drop(self.links[node])

    def leave(self, node: int) -> None:
        """Note that the watchdog of a node has said that it ends."""
        self.left.add(node)

    def tick(self, now: float) -> None:
        """Send what is left, end links of which nothing is heard, and call the hub if that is necessary."""
        if abs(now - self._swept_at) >= SWEEP_S:  # not for every message: of 1,000 nodes there are 1,000 a second
            self._swept_at = now
            self._sweep(now)
        if self.connected:
            self._looking_since = now
            for link in [*self.links.values()]:
                if link.called and link.peer != self.hub:
                    self._drop(link)
            return
        if not self.is_hub:
            self._look_for_hub(now)
        elif self._given_up and now - self._called_at > RECALL_S:  # who is heard again is listened to again
            self._call(sorted(self._given_up - self.left)[:MOST_CALLED], now)

    def _sweep(self, now: float) -> None:
        self.flush()
        for link in [*self.links.values()]:
            if link.ended or now - self.heard[link.peer] > SILENT_S:
                self._drop(link, silent=not link.ended)
        for link, since in [*self._unknown.values()]:
            if link.ended or now - since > GREETING_S:
                self._drop(link)
        if self._listener is not None and self._full_until is not None and now > self._full_until:
            self._full_until = None
            self.epoll.modify(self._listener, select.EPOLLIN)

    def flush(self) -> bool:
        """Send what could not be sent before; return whether all is."""
        for link in self.links.values():
            link.flush()
        return not any(link.waits and not link.ended for link in self.links.values())

    def _look_for_hub(self, now: float) -> None:
        """Call the hub; if it was heard before and is not now, others too, until the lowest that answers is known."""
        above = [node for node in range(self.node) if node not in self.left]
        answer = next((node for node in above if node in self.links), self.node)
        waited, others = now - self._looking_since, len(above) - (self.hub in above)
        if not self.heard and self.hub not in self.left:
            if now - self._called_at > (RECALL_S if self.unreachable(now) else CALL_S):
                self._call(above[:1], now)
        elif answer in above[:1] or waited > PATIENCE_S * ((self.hub in above) + (answer == self.node and others > 0)):
            self._give_up(answer, now)
        elif now - self._called_at > CALL_S:
            self._call(above[:MOST_CALLED], now)

    def _give_up(self, hub: int, now: float) -> None:
        """Listen to another node."""
        gone = [node for node in range(hub) if node not in self.left]
        self._given_up.update(gone)
        for node in gone:  # one that was never called before is as silent as the one that was
            self.heard.setdefault(node, self.heard.get(self.hub, self._looking_since))
        self.hub, self._looking_since = hub, now
        if self.is_hub:
            for node in set(range(self.node + 1, len(self.ports))) - self.links.keys():
                self.heard[node] = now + PATIENCE_S  # they have as long to find out and to call
                self._closed.discard(node)

    def _call(self, nodes: Sequence[int], now: float) -> None:
        self._called_at = now
        called = {link.peer for link, _ in self._unknown.values() if link.called} | self.links.keys()
        for node in nodes:
            for address in self._places[node] if self.ports[node] and node not in called else ():
                with suppress(OSError):
                    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
                    link = Link(sock, self._token, self.node, node)
                    sock.connect_ex((address, self.ports[node]))
                    self._add(link, now)

    def close(self) -> None:
        """Stop listening, and end all links."""
        if self._listener is not None:
            self._listener.close()
        for link in [*(link for link, _ in self._unknown.values()), *self.links.values()]:
            link.close()
        self.epoll.close()


def make_star(orders: dict[str, Any], node: int, now: float) -> Star:
    """Return the star of a node; ``orders``: see ``workers/watchdog/spawn.py``."""
    make_room(2 * len(orders["ports"]) + MOST_STRANGERS + SPARE_FILES)
    listener = None
    with suppress(OSError):
        handle = orders["listener"]
        if handle >= 0:
            listener = socket.socket(fileno=handle)
        elif port := orders["ports"][node]:  # of the watchdog that was here before
            listener = listen(port, here=orders["here"])
    return Star(node, orders["places"], orders["ports"], bytes.fromhex(orders["token"]), listener, now)
