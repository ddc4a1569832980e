"""Watchdogs of several nodes in one process, for tests of what they tell each other."""

from pathlib import Path
from typing import Any

from common.rank_status import N_PHASES, StatusRow
from workers.watchdog.listener import listen
from workers.watchdog.peers import Peers
from workers.watchdog.whole import Whole, runs

TOKEN = bytes(32)


class Nodes:
    """Watchdogs of nodes with so many ranks each, all in this process, on one clock."""

    def __init__(self, n_nodes: int, n_ranks: int) -> None:
        self.now, self.beat, self.n_ranks = 100.0, 0, n_ranks
        self.folder: Path | None = None
        listeners = [listen(0, here=True) for _ in range(n_nodes)]
        self.ports = [listener.getsockname()[1] for listener in listeners]
        leaders = [rank // n_ranks * n_ranks for rank in range(n_nodes * n_ranks)]
        self.rows = [[StatusRow() for _ in leaders] for _ in listeners]
        self.all: list[Any] = []
        for node, listener in enumerate(listeners):
            orders = {"places": [["127.0.0.1"]] * n_nodes, "ports": self.ports, "token": TOKEN.hex(),
                      "listener": listener.detach(), "here": True, "clocks": [""] * n_nodes}  # fmt: skip
            own = leaders[node * n_ranks : (node + 1) * n_ranks]
            self.all.append(Peers(leaders, own, self.rows[node], orders, self.now))

    def step(self, node: int, rank: int, step: int) -> None:
        row = StatusRow(epoch=1, at=N_PHASES * step, beat=self.beat, longest_ms=1)
        self.rows[node][node * self.n_ranks + rank] = row

    def second(self, awake: Any = None, seconds: float = 1.0) -> None:
        """Have these nodes look once; a second passes."""
        self.now += seconds
        self.beat += 1
        for _ in range(3):  # what one sends another takes at once
            for node, peers in enumerate(self.all):
                if awake is None or node in awake:
                    peers.receive(self.now)
        for node, peers in enumerate(self.all):
            if awake is None or node in awake:
                peers.exchange(self.now, self.beat, self.folder, "progress-0", elastic=False)
                peers.tell_whole(Whole(over=runs(self.rows[node])), beat=True)

    def close(self) -> None:
        for peers in self.all:
            peers.close()
