"""The watchdog of a node: a small process that sees ranks end or hang, reports it, and ends what is left of the job.

``workers/watchdog/spawn.py`` starts its process (``process.py``) for the ranks of a node. It needs nothing but the
standard library until it writes to the log of a job that is gone. It ends after the last rank of its node.
"""

import contextlib
import json
import os
import select
import time
from pathlib import Path
from typing import Any

from common.launcher_output import wait_until_read
from common.rank_status import ENDED, LOST, StatusRow, read_folder, read_row
from common.run_files import is_death
from common.status_line import launcher_terminal
from workers.watchdog.console import say
from workers.watchdog.death_reports import DeathReports
from workers.watchdog.ending import Ending
from workers.watchdog.failure import Failure
from workers.watchdog.job_clock import JobClock
from workers.watchdog.killing import Killing
from workers.watchdog.launcher_process import Launcher
from workers.watchdog.peers import Peers
from workers.watchdog.rank_process import LOOK_S, MemoryKills, RankProcess, stops
from workers.watchdog.silence import Silence, name_hosts
from workers.watchdog.stall import OUTSIDE_FACTOR
from workers.watchdog.stall_detector import MAX_STACK, StallDetector
from workers.watchdog.whole import Whole, runs

STALLED_LOOK_S = 0.2
SETTLE_S, SETTLE_LOOK_S = 5.0, 0.05
"""How long a watchdog whose ranks are gone waits to know what the job ended of."""
READ_S = 1.0
"""How long the launcher may take to print the last message."""
MUTE_S = 5.0
"""A node that says something every second is silent after so long."""


class Watchdog:
    """Looks at the ranks of its node once a second, and at once when a process ends.

    ``rows``: of all ranks. ``clock``: of all times here but those in events. ``events``: those that rank 0 may not live
    to write to the log. On several nodes the hub decides, and writes; see Peers.
    """

    def __init__(self, orders: dict[str, Any]) -> None:
        """``orders``: see ``workers/watchdog/spawn.py``. Raises OSError if a rank cannot be watched."""
        self.hosts: list[str] = orders["hosts"]
        self.elastic: bool = orders["elastic"]
        self.progress_name: str = orders["progress"]
        self.clock = JobClock()
        self.ranks = {rank: RankProcess(rank, *process) for rank, *process in orders["ranks"]}
        launcher_terminal()  # now: later the ranks may be gone, and with them the way to it
        # The kernel reports events in the order in which they happened. A process that ends closes its files first, and
        # a launcher that sees that may have another one dead before the first is: pipes tell who was first.
        self.epoll = select.epoll()
        for rank in self.ranks.values():
            self.epoll.register(rank.pipe, select.EPOLLONESHOT)  # which reports that the other end is closed
            self.epoll.register(rank.process, select.EPOLLIN | select.EPOLLONESHOT)
        self.launcher = Launcher(*orders["launcher"])
        self.launcher.register(self.epoll)
        self.rows = [StatusRow(finished=LOST * (number in orders["lost"])) for number in range(len(self.hosts))]
        self.peers = Peers(orders["leaders"], list(self.ranks), self.rows, orders["star"], self.clock.now())
        if self.peers.star is not None:
            self.epoll.register(self.peers.star.epoll, select.EPOLLIN)
        self.killing = Killing(self.ranks, self.clock, self._tell_whole)
        self.stalls = StallDetector(orders, self.ranks, self.rows, self.tell, self.end)
        limits = float(orders["stall_s"]), float(orders["abort_s"])
        self.silence = Silence(*limits, self.peers.node, self.peers.nodes, self.hosts, self.tell, self.end_cut,
                               elastic=self.elastic)  # fmt: skip
        self._gone: list[int] = orders["gone"]
        self.events: list[dict[str, Any]] = []
        self.failure = Failure(lambda: self.folder)
        self.memory_kills = MemoryKills()
        self.reports = DeathReports(self.hosts, self.peers, self.silence, self.failure, self.launcher, self.events,
                                    self.clock.now, self.memory_kills)  # fmt: skip
        self.ending = Ending(lambda: self.folder, self.ranks, self.rows, self.peers, self.events, self.progress_name,
                             elastic=self.elastic)  # fmt: skip
        self.beat = 0
        self.cut = self.stopped = False

    @property
    def folder(self) -> Path | None:
        """The run folder, once the ranks know it, and if this host sees it; else nothing is written."""
        return next(filter(None, (read_folder(rank.memory) for rank in self.ranks.values())), None)

    def run(self) -> None:
        """Watch until the last rank of this node is gone, or cannot be killed."""
        for gone in self._gone:
            self.reports.note_gone(gone)
            self.killing.soon()
        look_at = 0.0
        while self.killing.live:
            sources = [source for source, _ in self.clock.poll(self.epoll, look_at)]
            for source in sources:
                self._note_end(source)
            now = self.clock.now()
            if self.peers.star is not None and sources:  # also before a death is decided on: others may have been first
                self._listen(now)
            if now >= look_at:
                self._look()
                self._act(self.clock.now())
                look_at = self.clock.now() + (STALLED_LOOK_S if self._in_haste() else LOOK_S)
            if not self.killing.act(now):
                break
        self._look()
        self._settle()
        good = self.ending.close(ending=self.killing.begun, cut=self._is_cut, look=self._look)
        self.peers.leave(self._whole(), self.clock.now())
        self.peers.close()
        if not good:
            self.launcher.end_if_idle(forced=self._is_cut)

    @property
    def _is_cut(self) -> bool:
        """Whether the job ends since hosts no longer answer."""
        return self.cut or self.reports.cut or self.peers.whole.cut

    def _in_haste(self) -> bool:
        return self.stalls.began > 0 or (self.peers.is_leaf and self.peers.whole.stalled) or self.reports.pending

    def tell(self, message: str, event: dict[str, Any]) -> None:
        """Print a message, and pass an event to rank 0 for the log; keep it, too: rank 0 may not live to write it."""
        say(message)
        event = {**event, "noticed": time.time()}
        self.events.append(event)
        with contextlib.suppress(OSError):
            os.write(1, json.dumps(event).encode() + b"\n")

    def end(self, message: str, event: dict[str, Any]) -> None:
        """End the job with an error, and report it unless another failure was reported before."""
        if self.failure.reserve():
            self.failure.report(message)
            self.events.append({**event, "message": message, "noticed": time.time()})
        self._abort()

    def end_cut(self, message: str, event: dict[str, Any]) -> None:
        """End the job since hosts no longer answer; first of all, for the run folder may be on one of them.

        Not through MPI: Open MPI's launcher would wait for those hosts, or end with an exit code of 0.
        """
        self.cut = self.killing.aborting = True
        say(message)
        wait_until_read(2, READ_S)
        self.launcher.kill()
        self.killing.at_once()
        others_report = 0 not in self.ranks and self.silence.is_cut_off(self.silence.reported)
        if not others_report and self.failure.reserve():
            self.failure.report(message, aloud=False)
            self.events.append({**event, "message": message, "noticed": time.time()})

    def _abort(self) -> None:
        self.killing.abort()
        self._look()

    def _tell_whole(self) -> None:
        self.peers.tell_whole(self._whole(), beat=False)

    def _note_end(self, source: int) -> None:
        if source == self.launcher.process:
            self.launcher.note_end()
            return
        rank = next((rank for rank in self.ranks.values() if source in (rank.process, rank.pipe)), None)
        if rank is None:
            return
        at, row = time.monotonic(), read_row(rank.memory)
        if not rank.note_end(source) or row.finished:
            return
        ending = row.reported or row.signal or self.killing.begun
        if self.elastic and row.expendable and not ending and self.ending.may_continue():
            rank.note_lost()
            event = rank.death(self.hosts[rank.rank], self.memory_kills)
            say(event["message"])
            self.ending.leave_note(event)
            return
        if not row.reported and (any(stops(self.ranks)) or (row.stopping and 0 not in self.ranks)):
            if not self.killing.begun:  # what is missing is written by the watchdog that has it
                self.ending.note_cut_stop(rank, self.hosts[rank.rank])
        elif row.reported or not self.killing.begun or self.reports.pending:
            self.reports.note(rank, at)
        self.killing.soon()

    def _listen(self, now: float) -> None:
        """Take what other watchdogs say, and act on it at once."""
        self.peers.receive(now)
        for node, news in self.peers.take_news():
            if "death" in news and self.peers.decides:
                if self.reports.take(node, news["death"]):
                    self.killing.soon()
            elif "note" in news and self.folder is not None and is_death(news["note"]):
                self.ending.leave_note(news["note"])
            elif "stacks" in news:
                self.stalls.add_stacks(news["stacks"], self.peers.nodes[node])
        if self.peers.asked:
            for source, _ in self.epoll.poll(0):
                self._note_end(source)
            self.peers.answer()
        if self.peers.is_leaf:
            self._act(now)
        self.reports.decide()
        if self.peers.changed:
            self._tell_whole()

    def _whole(self) -> Whole:
        """Return what the others have to know, as the hub."""
        rows = self.rows
        return Whole(
            aborting=self.killing.aborting or any(row.aborting for row in rows),
            ended=self.killing.begun or any(row.state == ENDED and not row.finished for row in rows),
            stopped=self.stopped, stalled=self.stalls.began > 0, cut=self._is_cut, late=self.stalls.late,
            over=runs(rows),
        )  # fmt: skip

    def _look(self) -> None:
        """Read all rows, and show those of this node to the others."""
        self.beat += 1
        for rank in self.ranks.values():
            rank.look_for_stop()
        now = self.clock.now()
        self.memory_kills.look(now)
        self.stopped = self._all_stopped(now)
        seconds = self.clock.look(all_stopped=self.stopped)
        if seconds and self.peers.decides and min(self.ranks) == min(self.stalls.leaders):
            message = f"the job was suspended for {seconds:.0f} s; that time does not count as a stall"
            self.tell(message, {"what": "suspended", "seconds": seconds, "message": message})
        now = self.clock.now()
        stalled = self._in_haste()
        for rank in self.ranks.values():
            self.rows[rank.rank] = rank.look(now, self.beat, aborting=self.killing.aborting, stalled=stalled)
        if self.peers.several:
            with contextlib.suppress(OSError):  # a full disk or a folder that is gone: this node is still watched
                said = self.peers.exchange(now, self.beat, self.folder, self.progress_name, elastic=self.elastic)
                if said:
                    self._tell_of_files(said)
            self._listen(now)
            self.peers.tell_whole(self._whole(), beat=True)

    def _tell_of_files(self, nodes: list[int]) -> None:
        named = name_hosts(nodes, self.peers.nodes, self.hosts)
        message = (
            f"the watchdogs of {named} cannot call that of {self.hosts[min(self.ranks)]} (TCP port {self.peers.port}): "
            "a firewall, perhaps; what they see they show each other in the run folder"
        )
        self.tell(message, {"what": "watchdog-files", "message": message})

    def _all_stopped(self, now: float) -> bool:
        """Say whether all processes of the job are stopped, except where no watchdog answers."""
        live = self.killing.live
        if self.killing.begun or not live or not all(rank.stopped for rank in live):
            return False
        return self.peers.all_stopped(now, self.folder)

    def _act(self, now: float) -> None:
        """Act on what the rows say."""
        self.reports.decide()
        if self.killing.begun:
            return
        whole = self.peers.whole
        if whole.cut and not self.peers.is_hub:
            self.killing.at_once()
            return
        if self.peers.is_leaf:
            if whole.aborting:
                self._abort()
            elif whole.ended:
                self.killing.soon()
            elif whole.late:
                self._send_stacks(whole.late)
            else:
                self.stalls.forget_stacks()
            return
        others = [row for number, row in enumerate(self.rows) if number not in self.ranks]
        if any(row.aborting for row in others):
            self._abort()
        elif any(row.state == ENDED and not row.finished for row in others):
            self.killing.soon()
        elif self.peers.decides and not self._is_silence(now):
            self.stalls.look(
                now, self.folder, self.peers.silent(now), self.peers.known(now, self.folder), leads=self._leads(now)
            )

    def _is_silence(self, now: float) -> bool:
        """Say whether hosts that no one hears from explain that nobody makes progress."""
        mute = self.peers.mute(now, MUTE_S)
        if mute:
            return self.silence.look(now, self.rows, mute, elsewhere=self.peers.heard_elsewhere(now))
        # a firewall, perhaps, and until there is a run folder nobody sees that the others still read data
        return self.silence.look(now, self.rows, self.peers.unreached(now), patience=OUTSIDE_FACTOR)

    def _leads(self, now: float) -> bool:
        """Say whether this watchdog reports stalls: as the hub, or as the lowest that is seen in the file."""
        if self.peers.is_hub:
            return True
        lowest = min(set(self.stalls.leaders) - self.peers.silent(now), default=-1)
        return self.folder is None or min(self.ranks) == lowest

    def _send_stacks(self, late: list[int]) -> None:
        """Send the hub the stacks of those of its late ranks that are here, once."""
        stacks = self.stalls.take_stacks(late)
        if stacks:
            self.peers.report({"stacks": {str(rank): stack[:MAX_STACK] for rank, stack in stacks.items()}})

    def _settle(self) -> None:
        """Wait until it is clear what the job ended of, or the hub knows what is known here."""
        until = time.monotonic() + SETTLE_S
        while time.monotonic() < until and (self.reports.pending or self.reports.unanswered or self.peers.unsent):
            time.sleep(SETTLE_LOOK_S)
            self._listen(self.clock.now())
            self.reports.decide()
        self.reports.decide_at_last()
