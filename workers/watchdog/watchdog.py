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

from common import run_files
from common.job_signals import ABORT_SIGNAL, STOP_SIGNALS
from common.launcher_output import print_past_launcher
from common.rank_status import ENDED, LOST, STOPPED, TO_SAVE, StatusRow, read_folder, read_row
from common.run_files import FAILURE_NAME, LOG_NAME, leave_death_note, write_failure_once
from common.status_line import launcher_terminal
from workers.watchdog.console import release_output, say
from workers.watchdog.job_clock import JobClock
from workers.watchdog.launcher_process import Launcher
from workers.watchdog.log_events import append_events, take_death_notes
from workers.watchdog.rank_process import LOOK_S, RankProcess, held_by, memory_kills, stops
from workers.watchdog.row_exchange import SILENT_S, UNSEEN_S, RowExchange
from workers.watchdog.stall_detector import StallDetector

STALLED_LOOK_S = 0.2
GRACE_S = 3.0
"""How long a launcher has to end the other ranks before the watchdog does."""
KILLED_S = 5.0
"""How long a killed process may take to be gone; longer takes only one that waits for a dead disk."""
LOG_S = 8.0
"""How long to wait for rank 0, perhaps on another node, to be gone before the log is written to."""


class Watchdog:
    """Looks at the ranks of its node once a second, and at once when a process ends.

    ``rows``: of all ranks. ``clock``: of all times here but those in events. ``events``: those that rank 0 may not live
    to write to the log.
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
        self.exchange = RowExchange(self.ranks, self.rows, set(orders["lost"]))
        self.stalls = StallDetector(orders, self.ranks, self.rows, self.tell, self.end)
        self._folder: Path | None = None
        self._gone: list[int] = orders["gone"]
        self.events: list[dict[str, Any]] = []
        self.memory_kills = memory_kills()
        self.beat = 0
        self.kill_at: float | None = None
        self.aborting = self._failure_reserved = False

    @property
    def folder(self) -> Path | None:
        """The run folder, once the ranks know it; before, a watchdog sees its own node only and writes nothing."""
        if self._folder is None:
            self._folder = next(filter(None, (read_folder(rank.memory) for rank in self.ranks.values())), None)
        return self._folder

    def _file(self, name: str) -> Path:
        """Return a file of the run folder. Raises FileNotFoundError before there is one."""
        if self.folder is None:
            raise FileNotFoundError("no run folder yet")
        return self.folder / name

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
            for source, _ in self.clock.poll(self.epoll, look_at):
                self._note_end(source)
            now = self.clock.now()
            if now >= look_at:
                self._look()
                self._act(self.clock.now())
                look_at = self.clock.now() + (STALLED_LOOK_S if self.stalls.began else LOOK_S)
            if self.kill_at is not None and now > self.kill_at:
                for rank in self.live:
                    rank.send(signal.SIGKILL)
                if now > self.kill_at + KILLED_S:
                    break
        self._look()
        if not self._close():
            self.launcher.end_if_idle()

    def _report_gone(self, rank: int) -> None:
        """Report a rank that died before this watchdog took the place of another, and end the job."""
        host = self.hosts[rank]
        message = f"rank {rank} on {host} died (its process is gone) while nobody watched it"
        event = {"what": "death", "rank": rank, "host": host, "message": message, "noticed": time.time()}
        if self._reserve_failure():
            self._report_failure(message)
            self.events.append(event)
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
        if self._reserve_failure():
            self._report_failure(message)
            self.events.append({**event, "message": message, "noticed": time.time()})
        self._abort()

    def _abort(self) -> None:
        """End the job through MPI in one rank of this node, if one still can; other watchdogs see that and do so."""
        self.aborting = True
        self._look()
        if self.live:
            rank = max(self.live, key=lambda rank: (rank.row.is_waiting, rank.row.state != STOPPED, rank.rank))
            rank.send(ABORT_SIGNAL)
            rank.send(signal.SIGCONT)
        self._end_soon()

    def _end_soon(self) -> None:
        self.kill_at = self.kill_at or self.clock.now() + GRACE_S

    def _reserve_failure(self) -> bool:
        """Return whether to report why the job ends, because nobody has done so."""
        first = not self._failure_reserved and (self.folder is None or write_failure_once(self.folder))
        self._failure_reserved = True
        return first

    def _report_failure(self, message: str) -> None:
        """Say why the job ends, on the console and in the run folder."""
        say(message)
        with contextlib.suppress(OSError):
            run_files.fill_failure(self._file(FAILURE_NAME).parent, f"rankwise: {message}")

    def _note_end(self, source: int) -> None:
        if source == self.launcher.process:
            self.launcher.note_end()
            return
        rank = next(rank for rank in self.ranks.values() if source in (rank.process, rank.pipe))
        row = read_row(rank.memory)
        if not rank.note_end(source) or row.finished:
            return
        ending = row.reported or row.signal or self.kill_at is not None
        expendable = self.elastic and row.expendable and not ending
        if expendable and self.folder is not None and not self._file(FAILURE_NAME).exists():
            rank.note_lost()
            event = rank.death(self.hosts[rank.rank], self.memory_kills)
            say(event["message"])
            if not leave_death_note(self.folder, event):
                self.events.append(event)
            return
        if not row.reported and (any(stops(self.ranks)) or (row.stopping and 0 not in self.ranks)):
            self._note_cut_stop(rank)  # what is missing is written by the watchdog that has it
        elif row.reported or self.kill_at is None:
            self._note_death(rank)
        self._end_soon()

    def _note_death(self, rank: RankProcess) -> None:
        """Report what a rank died of. Where it has reported its own failure, that message is better."""
        row = read_row(rank.memory)
        reported = row.reported
        first = not reported and self._reserve_failure()  # before anything that takes time: others may end meanwhile
        event = rank.death(self.hosts[rank.rank], self.memory_kills)
        if not reported and (message := self.launcher.describe_end(row.where)):
            event |= {"what": "launcher-gone", "message": message}
        if first:
            self._report_failure(event["message"])
        elif reported:
            with contextlib.suppress(OSError):
                text = run_files.read_failure(self._file(FAILURE_NAME).parent)
                event["message"] = text.rpartition("\n")[2].removeprefix("rankwise: ")
        if first or reported:
            self.events.append(event)

    def _note_cut_stop(self, rank: RankProcess) -> None:
        """Report that ranks which were stopping are gone, if they had not saved all."""
        if self.kill_at is None and TO_SAVE in stops(self.ranks):
            where = f"{self.hosts[rank.rank]} {read_row(rank.memory).where}"
            message = f"the job was stopping on request, but rank {rank.rank} on {where} was ended before all was saved"
            print_past_launcher(f"rankwise: {message}; the watchdog saves the checkpoint in {self.folder}\n")
            self.events.append({"what": "saved-by-watchdog", "message": message, "noticed": time.time()})

    def _look(self) -> None:
        """Read all rows, and show those of this node to the others."""
        self.beat += 1
        for rank in self.ranks.values():
            rank.look_for_stop()
        seconds = self.clock.look(all_stopped=self._all_stopped())
        if seconds and min(self.ranks) == min(self.stalls.leaders):
            message = f"the job was suspended for {seconds:.0f} s; that time does not count as a stall"
            self.tell(message, {"what": "suspended", "seconds": seconds, "message": message})
        now = self.clock.now()
        for rank in self.ranks.values():
            self.rows[rank.rank] = rank.look(now, self.beat, aborting=self.aborting, stalled=self.stalls.began > 0)
        with contextlib.suppress(OSError):  # a full disk or a folder that is gone: this node is still watched
            self.exchange.exchange(self._file(self.progress_name), now)

    def _all_stopped(self) -> bool:
        """Say whether all processes of the job are stopped, except where no watchdog answers."""
        if self.kill_at is not None or not self.live or not all(rank.stopped for rank in self.live):
            return False
        silent = self.exchange.silent(self.clock.now(), UNSEEN_S)
        others = [row for number, row in enumerate(self.rows) if number not in self.ranks and number not in silent]
        known = self.folder is not None or len(self.ranks) == len(self.rows)
        return known and all(row.state == STOPPED or row.finished for row in others)

    def _act(self, now: float) -> None:
        """Act on what the rows say."""
        if self.kill_at is not None:
            return
        others = [row for number, row in enumerate(self.rows) if number not in self.ranks]
        if any(row.aborting for row in others):
            self._abort()
        elif any(row.state == ENDED and not row.finished for row in others):
            self._end_soon()
        else:
            self.stalls.look(now, self.folder, self.exchange.silent(now, SILENT_S))

    def _close(self) -> bool:
        """Tidy up, and append those events to the log that rank 0 did not live to write; return whether all is well."""
        lost = all(row.finished == LOST for row in self.rows)  # nobody is left to continue
        finished = all(rank.row.finished for rank in self.ranks.values())
        good = finished and not lost and self.kill_at is None
        if not good:
            release_output()
            self._take_notes()
            if self.folder is not None and (self.events or held_by(self.ranks) >= 0):
                if lost:
                    deaths = [event["message"] for event in self.events if event["what"] == "death"]
                    write_failure_once(self.folder, f"rankwise: {deaths[-1]}")
                self._write_to_log()
        # Notes of deaths stay for the survivors. Of several watchdogs the last sees that all ranks have finished.
        last = all(row.finished for row in self.rows) if self.elastic else 0 in self.ranks
        if (lost and self.events) or (good and last):
            with contextlib.suppress(OSError):
                self._file(self.progress_name).unlink(missing_ok=True)
            self._take_notes()
        return good

    def _take_notes(self) -> None:
        if self.elastic and self.folder is not None:
            take_death_notes(self.folder, self.events)

    def _write_to_log(self) -> None:
        until = time.monotonic() + LOG_S
        writers = slice(None if self.elastic else 1)  # rank 0, or any where the others continue without it
        while not all(row.state == ENDED for row in self.rows[writers]) and time.monotonic() < until:
            time.sleep(LOOK_S / 4)
            with contextlib.suppress(OSError):
                self.exchange.exchange(self._file(self.progress_name), self.clock.now())
        if all(row.state == ENDED and row.finished in (0, LOST) for row in self.rows[writers]):
            self._take_notes()
            append_events(self._file(LOG_NAME), self.events, until, held_by(self.ranks))


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
