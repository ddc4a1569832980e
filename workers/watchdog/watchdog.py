"""The watchdog of a node: a small process that sees ranks end or hang, reports it, and ends what is left of the job.

``workers/watchdog/spawn.py`` starts it for the ranks of a node. It needs nothing but the standard library until it
writes to the log of a job that is gone. It ends after the last rank of its node.
"""

import contextlib
import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

from common.job_signals import ABORT_SIGNAL, STOP_SIGNALS
from common.launcher_output import print_past_launcher, wait_until_read
from common.rank_status import ENDED, LOST, TO_SAVE, StatusRow, read_folder, read_row
from common.run_files import is_death
from common.status_line import launcher_terminal
from workers.watchdog.console import say
from workers.watchdog.death_reports import DeathReports
from workers.watchdog.deaths import Death
from workers.watchdog.ending import Ending
from workers.watchdog.failure import Failure
from workers.watchdog.job_clock import JobClock
from workers.watchdog.launcher_process import Launcher
from workers.watchdog.peers import Peers
from workers.watchdog.rank_process import LOOK_S, RankProcess, memory_kills, stops
from workers.watchdog.silence import Silence, name_hosts
from workers.watchdog.stall import OUTSIDE_FACTOR
from workers.watchdog.stall_detector import MAX_STACK, StallDetector
from workers.watchdog.whole import Whole, runs

STALLED_LOOK_S = 0.2
GRACE_S = 3.0
"""How long a launcher has to end the other ranks before the watchdog does."""
KILLED_S = 5.0
"""How long a killed process may take to be gone; longer takes only one that waits for a dead disk."""
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
        self.stalls = StallDetector(orders, self.ranks, self.rows, self.tell, self.end)
        limits = float(orders["stall_s"]), float(orders["abort_s"])
        self.silence = Silence(*limits, self.peers.node, self.peers.nodes, self.hosts, self.tell, self.end_cut,
                               elastic=self.elastic)  # fmt: skip
        self._folder: Path | None = None
        self._gone: list[int] = orders["gone"]
        self.events: list[dict[str, Any]] = []
        self.failure = Failure(lambda: self.folder)
        self.memory_kills = memory_kills()
        self.reports = DeathReports(self.hosts, self.peers, self.silence, self.failure, self.launcher, self.events,
                                    self.clock.now, self.memory_kills)  # fmt: skip
        self.ending = Ending(lambda: self.folder, self.ranks, self.rows, self.peers, self.events, self.progress_name,
                             elastic=self.elastic)  # fmt: skip
        self.beat = 0
        self.kill_at: float | None = None
        self.aborting = self.cut = self.stopped = False

    @property
    def folder(self) -> Path | None:
        """The run folder, once the ranks know it, and if this host sees it; else nothing is written."""
        if self._folder is None:
            self._folder = next(filter(None, (read_folder(rank.memory) for rank in self.ranks.values())), None)
        return self._folder

    @property
    def live(self) -> list[RankProcess]:
        """The ranks of this node whose processes have not ended."""
        return [rank for rank in self.ranks.values() if not rank.ended]

    def run(self) -> None:
        """Watch until the last rank of this node is gone, or cannot be killed."""
        for gone in self._gone:
            self._report_gone(gone)
        look_at = 0.0
        while self.live:
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
            if self.kill_at is not None and now > self.kill_at:
                for rank in self.live:
                    rank.send(signal.SIGKILL)
                if now > self.kill_at + KILLED_S:
                    break
        self._look()
        self._settle()
        good = self.ending.close(ending=self.kill_at is not None, cut=self._is_cut, look=self._look)
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

    def _report_gone(self, rank: int) -> None:
        """Report a rank that died before this watchdog took the place of another, and end the job."""
        host = self.hosts[rank]
        message = f"rank {rank} on {host} died (its process is gone) while nobody watched it"
        event = {"what": "death", "rank": rank, "host": host, "message": message, "noticed": time.time()}
        self.reports.hand_in(Death(time.monotonic(), event))
        self._end_soon()

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
        self.cut = self.aborting = True
        say(message)
        wait_until_read(2, READ_S)
        self.launcher.kill()
        self._kill_now()
        others_report = 0 not in self.ranks and self.silence.is_cut_off(self.silence.reported)
        if not others_report and self.failure.reserve():
            self.failure.report(message, aloud=False)
            self.events.append({**event, "message": message, "noticed": time.time()})

    def _kill_now(self) -> None:
        self.kill_at = self.clock.now()
        for rank in self.live:
            rank.send(signal.SIGKILL)
        self.peers.tell_whole(self._whole(), beat=False)

    def _abort(self) -> None:
        """End the job through MPI in one rank of this node, if one still can; other watchdogs see that and do so."""
        self.aborting = True
        for rank in self.ranks.values():
            rank.look_for_stop()
        if self.live:
            rank = max(self.live, key=lambda rank: (rank.row.is_waiting, not rank.stopped, rank.rank))
            rank.send(ABORT_SIGNAL)
            rank.send(signal.SIGCONT)
        self._end_soon()
        self._look()

    def _end_soon(self) -> None:
        self.kill_at = self.kill_at or self.clock.now() + GRACE_S
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
        ending = row.reported or row.signal or self.kill_at is not None
        if self.elastic and row.expendable and not ending and self.ending.may_continue():
            rank.note_lost()
            event = rank.death(self.hosts[rank.rank], self.memory_kills)
            say(event["message"])
            self.ending.leave_note(event)
            return
        if not row.reported and (any(stops(self.ranks)) or (row.stopping and 0 not in self.ranks)):
            self._note_cut_stop(rank)  # what is missing is written by the watchdog that has it
        elif row.reported or self.kill_at is None or self.reports.pending:
            self.reports.note(rank, at)
        self._end_soon()

    def _note_cut_stop(self, rank: RankProcess) -> None:
        """Report that ranks which were stopping are gone, if they had not saved all."""
        if self.kill_at is None and TO_SAVE in stops(self.ranks):
            where = f"{self.hosts[rank.rank]} {read_row(rank.memory).where}"
            message = f"the job was stopping on request, but rank {rank.rank} on {where} was ended before all was saved"
            print_past_launcher(f"rankwise: {message}; the watchdog saves the checkpoint in {self.folder}\n")
            self.events.append({"what": "saved-by-watchdog", "message": message, "noticed": time.time()})

    def _listen(self, now: float) -> None:
        """Take what other watchdogs say, and act on it at once."""
        self.peers.receive(now)
        for node, news in self.peers.take_news():
            if "death" in news and self.peers.decides:
                if self.reports.take(node, news["death"]):
                    self._end_soon()
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
            self.peers.tell_whole(self._whole(), beat=False)

    def _whole(self) -> Whole:
        """Return what the others have to know, as the hub."""
        rows = self.rows
        return Whole(
            aborting=self.aborting or any(row.aborting for row in rows),
            ended=self.kill_at is not None or any(row.state == ENDED and not row.finished for row in rows),
            stopped=self.stopped, stalled=self.stalls.began > 0, cut=self._is_cut, late=self.stalls.late,
            over=runs(rows),
        )  # fmt: skip

    def _look(self) -> None:
        """Read all rows, and show those of this node to the others."""
        self.beat += 1
        for rank in self.ranks.values():
            rank.look_for_stop()
        now = self.clock.now()
        self.stopped = self._all_stopped(now)
        seconds = self.clock.look(all_stopped=self.stopped)
        if seconds and self.peers.decides and min(self.ranks) == min(self.stalls.leaders):
            message = f"the job was suspended for {seconds:.0f} s; that time does not count as a stall"
            self.tell(message, {"what": "suspended", "seconds": seconds, "message": message})
        now = self.clock.now()
        stalled = self._in_haste()
        for rank in self.ranks.values():
            self.rows[rank.rank] = rank.look(now, self.beat, aborting=self.aborting, stalled=stalled)
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
        if self.kill_at is not None or not self.live or not all(rank.stopped for rank in self.live):
            return False
        return self.peers.all_stopped(now, self.folder)

    def _act(self, now: float) -> None:
        """Act on what the rows say."""
        self.reports.decide()
        if self.kill_at is not None:
            return
        whole = self.peers.whole
        if self.peers.is_leaf:
            if whole.cut:
                self._kill_now()
            elif whole.aborting:
                self._abort()
            elif whole.ended:
                self._end_soon()
            elif whole.late:
                self._send_stacks(whole.late)
            else:
                self.stalls.forget_stacks()
            return
        others = [row for number, row in enumerate(self.rows) if number not in self.ranks]
        if any(row.aborting for row in others):
            self._abort()
        elif any(row.state == ENDED and not row.finished for row in others):
            self._end_soon()
        elif self.peers.decides and not self._is_silence(now):
            self.stalls.look(
                now, self.folder, self.peers.silent(now), self.peers.known(now, self.folder), leads=self._leads(now)
            )

    def _is_silence(self, now: float) -> bool:
        """Say whether hosts that no one hears from explain that nobody makes progress."""
        mute = self.peers.mute(now, MUTE_S)
        if mute:
            return self.silence.look(now, self.rows, mute)
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


def main() -> None:
    """Take orders from standard input, begin to watch the ranks, let their job continue, and watch."""
    orders = json.load(sys.stdin)
    sys.path += orders["path"]
    try:
        watchdog = Watchdog(orders)
    except OSError as error:
        sys.stdout.write(str(error))
        sys.exit(1)
    if os.fork():  # the process that started this one waits for its end, and then has no child to look after
        os._exit(0)
    os.setsid()  # a launcher that kills the job's processes must not find this one
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir("/")
    for number in STOP_SIGNALS:  # sent to all processes of the job, which this one outlives
        signal.signal(number, signal.SIG_IGN)
    watchdog.run()
