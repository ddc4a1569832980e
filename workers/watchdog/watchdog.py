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
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import run_files
from common.files import open_own
from common.job_signals import ABORT_SIGNAL, STOP_SIGNALS
from common.rank_status import ENDED, LOST, PAGE_BYTES, STOPPED, StatusRow, read_folder, read_row
from common.run_files import FAILURE_NAME, LOG_NAME, death_notes, leave_death_note, write_failure_once
from common.status_line import erase, launcher_terminal
from workers.watchdog.job_clock import JobClock
from workers.watchdog.log_events import append_events
from workers.watchdog.rank_process import LOOK_S, RankProcess, memory_kills
from workers.watchdog.stall_detector import StallDetector

STALLED_LOOK_S = 0.2
SILENT_S = 15.0
"""After so long without a look by another node's watchdog, its rows are not to be trusted."""
UNSEEN_S = 5.0
"""After so long they say nothing against a job that is suspended as far as one can see."""
GRACE_S = 3.0
"""How long a launcher has to end the other ranks before the watchdog does."""
KILLED_S = 5.0
"""How long a killed process may take to be gone; longer takes only one that waits for a dead disk."""
LOG_S = 8.0
"""How long to wait for rank 0, perhaps on another node, to be gone before the log is written to."""


def say(message: str) -> None:
    """Print a message to stderr in one write, if anybody still reads it."""
    erase()
    with contextlib.suppress(OSError):
        os.write(2, f"rankwise: {message}\n".encode(errors="replace"))


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
        self.rows = [StatusRow() for _ in self.hosts]
        self.stalls = StallDetector(orders, self.ranks, self.rows, self.tell, self.end)
        self._folder: Path | None = None
        self.events: list[dict[str, Any]] = []
        self.memory_kills = memory_kills()
        self.beat = 0
        self.kill_at: float | None = None
        self.aborting = self._failure_reserved = False
        self._heard: dict[int, tuple[int, float]] = {}
        """Of ranks on other nodes: the last beat, and when it came."""

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
        self._close()

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
        if row.reported or self.kill_at is None:
            self._note_death(rank)
        self._end_soon()

    def _note_death(self, rank: RankProcess) -> None:
        """Report what a rank died of. Where it has reported its own failure, that message is better."""
        reported = read_row(rank.memory).reported
        first = not reported and self._reserve_failure()  # before anything that takes time: others may end meanwhile
        event = rank.death(self.hosts[rank.rank], self.memory_kills)
        if first:
            self._report_failure(event["message"])
        elif reported:
            with contextlib.suppress(OSError):
                text = run_files.read_failure(self._file(FAILURE_NAME).parent)
                event["message"] = text.rpartition("\n")[2].removeprefix("rankwise: ")
        if first or reported:
            self.events.append(event)

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
            self._exchange(now)

    def _all_stopped(self) -> bool:
        """Say whether all processes of the job are stopped, except where no watchdog answers."""
        if self.kill_at is not None or not self.live or not all(rank.stopped for rank in self.live):
            return False
        silent = self._silent(self.clock.now(), UNSEEN_S)
        others = [row for number, row in enumerate(self.rows) if number not in self.ranks and number not in silent]
        known = self.folder is not None or len(self.ranks) == len(self.rows)
        return known and all(row.state == STOPPED or row.finished for row in others)

    def _silent(self, now: float, seconds: float) -> set[int]:
        """Return the ranks on other nodes whose watchdog has not looked for so long."""
        return {number for number, (_, heard) in self._heard.items() if now - heard > seconds}

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
            self.stalls.look(now, self.folder, self._silent(now, SILENT_S))

    def _exchange(self, now: float) -> None:
        """Write the rows of this node to the shared file, and then read those of others. Raises OSError.

        The file is opened again each time: network file systems then look for what is new.
        """
        with open_own(self._file(self.progress_name)) as file:
            for number in self.ranks:
                os.pwrite(file.fileno(), self.rows[number].pack(), number * PAGE_BYTES)
        with open_own(self._file(self.progress_name)) as file:
            for number in set(range(len(self.rows))) - self.ranks.keys():
                row = StatusRow.unpack(os.pread(file.fileno(), PAGE_BYTES, number * PAGE_BYTES))
                beat, heard = self._heard.get(number, (-1, now))
                if row.beat != beat:
                    heard = now
                self._heard[number] = row.beat, heard
                self.rows[number] = replace(row, age_ms=row.age_ms + int(1000 * (now - heard)))

    def _close(self) -> None:
        """Tidy up, and append those events to the log that rank 0 did not live to write."""
        lost = all(row.finished == LOST for row in self.rows)  # nobody is left to continue
        finished = all(rank.row.finished for rank in self.ranks.values())
        good = finished and not lost and self.kill_at is None
        if not good:
            self._take_death_notes()
            if self.events and self.folder is not None:
                if lost:
                    deaths = [event["message"] for event in self.events if event["what"] == "death"]
                    write_failure_once(self.folder, f"rankwise: {deaths[-1]}")
                self._write_to_log()
        # Notes of deaths stay for the survivors. Of several watchdogs the last sees that all ranks have finished.
        last = all(row.finished for row in self.rows) if self.elastic else 0 in self.ranks
        if (lost and self.events) or (good and last):
            with contextlib.suppress(OSError):
                self._file(self.progress_name).unlink(missing_ok=True)
            self._take_death_notes()

    def _write_to_log(self) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the launcher need not wait for this
        until = time.monotonic() + LOG_S
        writers = slice(None if self.elastic else 1)  # rank 0, or any where the others continue without it
        while not all(row.state == ENDED for row in self.rows[writers]) and time.monotonic() < until:
            time.sleep(LOOK_S / 4)
            with contextlib.suppress(OSError):
                self._exchange(self.clock.now())
        if all(row.state == ENDED and row.finished in (0, LOST) for row in self.rows[writers]):
            self._take_death_notes()
            append_events(self._file(LOG_NAME), self.events, until)

    def _take_death_notes(self) -> None:
        """Take over the deaths that are not in the log yet, also of nodes whose watchdog is gone."""
        if self.elastic and self.folder is not None:
            for path, event in death_notes(self.folder):
                with contextlib.suppress(OSError):  # another watchdog has taken it
                    path.unlink()
                    self.events.append(event)
            self.events.sort(key=lambda event: float(event["noticed"]))


def main() -> None:
    """Take orders from standard input, begin to watch the ranks, let their job continue, and watch."""
    orders = json.load(sys.stdin)
    sys.path += orders["path"]
    try:
        watchdog = Watchdog(orders)
    except OSError as error:
        where = os.uname().nodename
        say(f"warning: ranks on {where} are not watched; if one dies or hangs, there will be no message ({error})")
        return
    if os.fork():  # the process that started this one waits for its end, and then has no child to look after
        os._exit(0)
    os.setsid()  # a launcher that kills the job's processes must not find this one
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir("/")
    for number in STOP_SIGNALS:  # sent to all processes of the job, which this one outlives
        signal.signal(number, signal.SIG_IGN)
    watchdog.run()
