"""The watchdog of a node: a small process that sees its ranks end or hang, says so, and ends what is left of the job.

``workers/watchdog/spawn.py`` starts it for the ranks of a node. It needs nothing but the standard library, until it
writes to the log of a job that is gone. It ends when the last rank of its node has ended.
"""

import contextlib
import json
import os
import select
import signal
import sys
import time
from dataclasses import replace
from typing import Any

from common.progress import ABORT_SIGNAL, ENDED, LOST, PAGE_BYTES, STOPPED, StatusRow, read_row
from common.run_files import death_notes, leave_death_note, say, write_failure_once
from workers.watchdog.failure_report import FailureReport
from workers.watchdog.log_events import append_events
from workers.watchdog.rank_process import LOOK_S, Rank, death, memory_kills, open_file
from workers.watchdog.stall_rules import is_waiting
from workers.watchdog.stalls import StallDetector

STALLED_LOOK_S = 0.2
GRACE_S = 3.0
"""How long a launcher has to end the other ranks before the witness does."""
KILLED_S = 5.0
"""How long a killed process may take to be gone; longer takes only one that waits for a dead disk."""
LOG_S = 8.0
"""How long to wait for rank 0, perhaps on another node, to be gone before the log is written to."""


class Watchdog:
    """Looks at the ranks of its node once a second, and at once when a process ends."""

    def __init__(self, orders: dict[str, Any]) -> None:
        """``orders``: see ``workers/watchdog/spawn.py``. Raises OSError if a rank cannot be seen."""
        self.hosts: list[str] = orders["hosts"]
        self.leaders: list[int] = orders["leaders"]
        self.run_folder = FailureReport(orders)
        self.ranks = {
            rank: Rank(rank, pid, os.pidfd_open(pid), open_file(pid, handle), open_file(pid, line))
            for rank, pid, handle, line in orders["ranks"]
        }
        # The kernel hands out what is ready in the order in which it came about. A process that ends closes its files
        # first, and a launcher that sees that may have another one dead before the first is: pipes tell who was first.
        self.epoll = select.epoll()
        for rank in self.ranks.values():
            self.epoll.register(rank.line, select.EPOLLONESHOT)  # which hears of the other end's closing
            self.epoll.register(rank.process, select.EPOLLIN | select.EPOLLONESHOT)
        self.stalls = StallDetector(self, float(orders["stall_s"]), float(orders["abort_s"]))
        self.rows = [StatusRow() for _ in self.hosts]
        self.heard: dict[int, tuple[int, float]] = {}
        self.events: list[dict[str, Any]] = []
        self.beat = 0
        self.kill_at: float | None = None
        self.aborting = False
        self.memory_kills = memory_kills()
        self.elastic: bool = orders["elastic"]

    @property
    def live(self) -> list[Rank]:
        """The ranks of this node whose processes have not ended."""
        return [rank for rank in self.ranks.values() if not rank.ended]

    def run(self) -> None:
        """Watch until the last rank of this node is gone, or cannot be killed."""
        look_at = 0.0
        while self.live:
            for source, _ in self.epoll.poll(max(0.0, look_at - time.monotonic())):
                self._note_end(source)
            now = time.monotonic()
            if now >= look_at:
                look_at = now + (STALLED_LOOK_S if self.stalls.began else LOOK_S)
                self._look(now)
                self._judge(now)
            if self.kill_at is not None and now > self.kill_at:
                for rank in self.live:
                    rank.send(signal.SIGKILL)
                if now > self.kill_at + KILLED_S:
                    break
        self._look(time.monotonic())
        self._close()

    def tell(self, event: dict[str, Any]) -> None:
        """Give an event to rank 0 for the log; keep it too, for rank 0 may not live to write it."""
        event = {**event, "noticed": time.time()}
        self.events.append(event)
        with contextlib.suppress(OSError):
            os.write(1, json.dumps(event).encode() + b"\n")

    def end(self, message: str, event: dict[str, Any]) -> None:
        """End the job with an error, and say why if nobody has."""
        self.run_folder.find(self.ranks.values())
        if self.run_folder.reserve_failure():
            self.run_folder.say(message)
            self.events.append({**event, "message": message.removeprefix("rankwise: "), "noticed": time.time()})
        self._abort()

    def _abort(self) -> None:
        """End the job through MPI in one rank of this node, if one still can; other witnesses see it and do so."""
        self.aborting = True
        self._look(time.monotonic())
        for rank in sorted(self.live, key=lambda rank: (is_waiting(rank.row), rank.row.state != STOPPED, rank.rank))[
            -1:
        ]:
            rank.send(ABORT_SIGNAL)
            rank.send(signal.SIGCONT)
        self._end_soon()

    def _end_soon(self) -> None:
        self.kill_at = self.kill_at or time.monotonic() + GRACE_S

    def _note_end(self, source: int) -> None:
        rank = next(rank for rank in self.ranks.values() if source in (rank.process, rank.line.fileno()))
        rank.ended = rank.ended or source == rank.process
        row = read_row(rank.memory)
        if row.over or rank.noted:
            return
        rank.noted = True
        self.run_folder.find(self.ranks.values())
        if self._goes_on(row) and self.run_folder.folder is not None:
            rank.lost = True
            message, event = death(rank.rank, self.hosts[rank.rank], row, rank.process, self.memory_kills)
            say(message)
            if not leave_death_note(self.run_folder.folder, event):
                self.events.append(event)
            return
        if row.claimed or self.kill_at is None:
            self._note_death(rank, row)
        self._end_soon()

    def _goes_on(self, row: StatusRow) -> bool:
        """Say whether the others go on without a rank that died."""
        ended = row.claimed or row.signal or self.kill_at is not None
        return (
            self.elastic
            and bool(row.spared)
            and not ended
            and not (self.run_folder.folder and self.run_folder.path("failure").exists())
        )

    def _note_death(self, rank: Rank, row: StatusRow) -> None:
        """Say what a rank died of. What it told itself is there by now, and better."""
        first = (
            not row.claimed and self.run_folder.reserve_failure()
        )  # before anything that takes time: others may end in it
        message, event = death(rank.rank, self.hosts[rank.rank], row, rank.process, self.memory_kills)
        if first:
            self.run_folder.say(message)
        elif row.claimed and self.run_folder.folder is not None:
            with contextlib.suppress(OSError):
                message = self.run_folder.path("failure").read_text(encoding="utf-8").rstrip().rpartition("\n")[2]
        if first or row.claimed:
            self.events.append({**event, "message": message.removeprefix("rankwise: ")})

    def _look(self, now: float) -> None:
        """Read all rows, and show those of this node to the others."""
        self.beat += 1
        for rank in self.ranks.values():
            self.rows[rank.rank] = rank.look(now, self.beat, aborting=self.aborting, stalled=self.stalls.began > 0)
        self.run_folder.find(self.ranks.values())
        with contextlib.suppress(OSError):  # a full disk or a folder that is gone: this node is watched on
            if self.run_folder.folder is not None:
                self._exchange(now)

    def _judge(self, now: float) -> None:
        """Act on what the rows say."""
        if self.kill_at is not None:
            return
        others = [row for number, row in enumerate(self.rows) if number not in self.ranks]
        if any(row.aborting for row in others):
            self._abort()
        elif any(row.state == ENDED and not row.over for row in others):
            self._end_soon()
        else:
            self.stalls.look(now)

    def _exchange(self, now: float) -> None:
        """Write the rows of this node to the file, and read those of others. Raises OSError.

        The file is opened anew each time: network file systems then look for what is new.
        """
        shared = self.run_folder.path("progress")
        with shared.open("r+b", buffering=0) as file:
            for number in self.ranks:
                os.pwrite(file.fileno(), self.rows[number].pack(), number * PAGE_BYTES)
        if len(self.ranks) == len(self.rows):
            return
        with shared.open("rb", buffering=0) as file:
            for number in set(range(len(self.rows))) - set(self.ranks):
                row = StatusRow.unpack(os.pread(file.fileno(), PAGE_BYTES, number * PAGE_BYTES))
                beat, heard = self.heard.get(number, (-1, now))
                if row.beat != beat:
                    heard = now
                self.heard[number] = row.beat, heard
                self.rows[number] = replace(row, age_ms=row.age_ms + int(1000 * (now - heard)))

    def _close(self) -> None:
        """Tidy up, or bring those events to the log that rank 0 did not live to write."""
        lost = all(row.over == LOST for row in self.rows)  # nobody is left to go on
        if not lost and self.kill_at is None and all(rank.row.over for rank in self.ranks.values()):
            # Words of the dead stay for those who go on. Of several witnesses the last sees that all is over.
            if all(row.over for row in self.rows) if self.elastic else 0 in self.ranks:
                self._tidy()
            return
        self._take_words()
        if self.run_folder.folder is None or not self.events:
            return
        if lost:
            deaths = [event["message"] for event in self.events if event["what"] == "death"]
            write_failure_once(self.run_folder.path("failure"), f"rankwise: {deaths[-1]}")
        self._bring_to_log()
        if lost:
            self._tidy()

    def _bring_to_log(self) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the launcher need not wait for this
        until = time.monotonic() + LOG_S

        def patient() -> bool:
            return time.monotonic() < until

        while not all(row.state == ENDED for row in self._writers()) and patient():
            time.sleep(LOOK_S / 4)
            with contextlib.suppress(OSError):
                self._exchange(time.monotonic())
        if all(row.state == ENDED and row.over in (0, LOST) for row in self._writers()):
            self._take_words()
            append_events(self.run_folder.path("log"), self.events, patient)

    def _writers(self) -> list[StatusRow]:
        """Return the rows of those that may write to the log: rank 0, or any where the others go on without it."""
        return self.rows if self.elastic else self.rows[:1]

    def _take_words(self) -> None:
        """Take on the deaths that nobody has brought to the log yet, of nodes whose witness is gone, too."""
        if self.elastic and self.run_folder.folder is not None:
            for path, event in death_notes(self.run_folder.folder):
                with contextlib.suppress(OSError):  # another witness has taken it
                    path.unlink()
                    self.events.append(event)
            self.events.sort(key=lambda event: float(event["noticed"]))

    def _tidy(self) -> None:
        if (folder := self.run_folder.folder) is not None:
            for path in [self.run_folder.path("progress"), *(path for path, _ in death_notes(folder) if self.elastic)]:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)


def main() -> None:
    """Take orders from standard input, begin to see the ranks, let their job go on, and watch."""
    orders = json.load(sys.stdin)
    sys.path += orders["path"]
    try:
        witness = Watchdog(orders)
    except OSError as error:
        say(f"rankwise: warning: ranks that die or hang are not told of on {os.uname().nodename} ({error})")
        return
    if os.fork():  # who started this waits for its end, and has no child to look after then
        os._exit(0)
    os.setsid()  # a launcher that kills the job's processes must not find this one
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir("/")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    witness.run()
