"""The witness of a node: a small process that sees its ranks end or hang, says so, and ends what is left of the job.

Started by ``workers/watch.py`` for the ranks of a node. It needs nothing but the standard library, until it writes to
the log of a job that is gone. It ends when the last rank of its node has.
"""

import contextlib
import json
import os
import select
import signal
import struct
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from common.blame import waits
from common.progress import ENDED, PAGE_BYTES, STOPPED, Row, read_row
from ps.failure import append_events, claim, say
from workers.stalls import StallWatch

LOOK_S = 1.0
STALLED_LOOK_S = 0.2
GRACE_S = 3.0
"""How long a launcher has to end the other ranks before the witness does."""
KILLED_S = 5.0
"""How long a killed process may take to be gone; longer takes only one that waits for a dead disk."""
LOG_S = 8.0
"""How long to wait for rank 0, perhaps on another node, to be gone before the log is written to."""
LOST = 2
"""In a row instead of having left MPI: it died, and the others go on without it."""
ABORT_SIGNAL = signal.SIGURG
"""Has a rank end the job with the exit code of an error (``workers/signals.py``); other programs ignore it."""
STACK_SIGNAL = signal.SIGUSR2
PIDFD_GET_INFO = 3 << 30 | 64 << 16 | 0xFF << 8 | 11
PIDFD_INFO_EXIT = 1 << 3
"""Of linux/pidfd.h, since Linux 6.15: how a process ended, also for others than its parent."""


@dataclass(slots=True)
class Rank:
    """A rank of this node: its process, the memory with its row, and what was seen of it."""

    rank: int
    pid: int
    process: int
    memory: BinaryIO
    row: Row = field(default_factory=Row)
    changed: float = field(default_factory=time.monotonic)
    longest_ms: int = 0
    ended: bool = False
    lost: bool = False
    """Whether it died, and the others go on without it."""

    def look(self, now: float, beat: int, *, aborting: bool, stalled: bool) -> Row:
        """Read the row and add what is seen from outside. A step that ends a stall is no measure for others."""
        row = read_row(self.memory)
        if self.lost:
            row = replace(row, over=LOST)
        if row.place != self.row.place:
            if self.row.step and not stalled:
                self.longest_ms = max(self.longest_ms, int(1000 * step_time(self.row, row, now - self.changed)))
            self.changed = now
        if row.step > 1:  # one has ended, be it between two looks
            self.longest_ms = max(self.longest_ms, 1)
        state = ENDED if self.ended else STOPPED if is_stopped(self.pid) else 0
        self.row = replace(row, beat=beat, age_ms=int(1000 * (now - self.changed)), longest_ms=self.longest_ms,
                           state=state, aborting=aborting)  # fmt: skip
        return self.row

    def send(self, number: int) -> None:
        """Send a signal, unless the process is gone."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.process, number)

    def stack(self, wait_s: float = 0.5) -> str:
        """Return where the main thread's Python code is, which the rank itself writes down, in C."""
        if self.ended or is_stopped(self.pid):
            return ""
        end = self.memory.seek(0, os.SEEK_END)
        self.send(STACK_SIGNAL)
        time.sleep(wait_s)
        self.memory.seek(end)
        return self.memory.read().decode(errors="replace").strip()


def step_time(before: Row, after: Row, seconds: float) -> float:
    """Estimate how long the longest step between two looks took; between epochs, at least."""
    if after.epoch == before.epoch and after.step:
        return seconds / max(1, after.step - before.step)
    return max(0.0, seconds - LOOK_S)


def open_memory(pid: int, handle: int) -> BinaryIO:
    """Open a file that another process holds in memory, for the rest of this one's life. Raises OSError."""
    return Path(f"/proc/{pid}/fd/{handle}").open("rb", buffering=0)


def is_stopped(pid: int) -> bool:
    """Say whether a process is stopped by a signal or a debugger."""
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1]
    except OSError:
        return False
    return state in (b"T", b"t")


def killed_by(process: int) -> str:
    """Return the name of the signal that ended a process, where the system tells: once its parent has asked."""
    import fcntl

    for _ in range(10):
        info = bytearray(64)
        struct.pack_into("Q", info, 0, PIDFD_INFO_EXIT)
        try:
            fcntl.ioctl(process, PIDFD_GET_INFO, info)
        except OSError:
            return ""
        (mask,), (code,) = struct.unpack_from("Q", info), struct.unpack_from("i", info, 60)
        if mask & PIDFD_INFO_EXIT:
            return signal.Signals(os.WTERMSIG(code)).name if os.WIFSIGNALED(code) else ""
        time.sleep(0.005)
    return ""


def memory_kills() -> int:
    """Return how many processes this machine's kernel has killed for want of memory."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


class Witness:
    """Looks at the ranks of its node once a second, and at once when a process ends."""

    def __init__(self, orders: dict[str, Any]) -> None:
        """``orders``: see ``workers/watch.py``. Raises OSError if a rank's memory or process is not to be seen."""
        self.hosts: list[str] = orders["hosts"]
        self.leaders: list[int] = orders["leaders"]
        self.failure, self.log, self.file = (Path(orders[k]) for k in ("failure", "log", "progress"))
        self.ranks = {
            rank: Rank(rank, pid, os.pidfd_open(pid), open_memory(pid, handle)) for rank, pid, handle in orders["ranks"]
        }
        self.epoll = select.epoll()
        for rank in self.ranks.values():
            # the kernel hands out what is ready in the order in which it came about: who ended first is known
            self.epoll.register(rank.process, select.EPOLLIN | select.EPOLLONESHOT)
        self.stalls = StallWatch(self, float(orders["stall_s"]), float(orders["abort_s"]))
        self.rows = [Row() for _ in self.hosts]
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
            for process, _ in self.epoll.poll(max(0.0, look_at - time.monotonic())):
                self._note_end(next(rank for rank in self.ranks.values() if rank.process == process))
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
        if claim(self.failure, message):
            say(message)
            self.events.append({**event, "message": message.removeprefix("rankwise: "), "noticed": time.time()})
        self._abort()

    def _abort(self) -> None:
        """End the job through MPI in one rank of this node, if one still can; other witnesses see it and do so."""
        self.aborting = True
        self._look(time.monotonic())
        for rank in sorted(self.live, key=lambda rank: (waits(rank.row), rank.row.state != STOPPED, rank.rank))[-1:]:
            rank.send(ABORT_SIGNAL)
            rank.send(signal.SIGCONT)
        self._end_soon()

    def _end_soon(self) -> None:
        self.kill_at = self.kill_at or time.monotonic() + GRACE_S

    def _note_end(self, rank: Rank) -> None:
        rank.ended = True
        row = read_row(rank.memory)
        if row.over:
            return
        if self.elastic and self.kill_at is None and not (row.claimed or row.signal or self.failure.exists()):
            rank.lost = True
            message, event = self._death(rank, row)
            say(message)
            self.tell(event)
            return
        if row.claimed or self.kill_at is None:
            self._note_death(rank, row)
        self._end_soon()

    def _death(self, rank: Rank, row: Row) -> tuple[str, dict[str, Any]]:
        """Return what a rank died of, as a message and as an event."""
        host = self.hosts[rank.rank]
        by = signal.Signals(row.signal).name if row.signal else killed_by(rank.process)
        cause = f"ended by a second {by}" if row.signal else f"killed by {by}" if by else "its process is gone"
        if by == "SIGKILL" and memory_kills() > self.memory_kills:
            cause += "; this machine has run out of memory"
        message = f"rankwise: rank {rank.rank} on {host} died ({cause}) {row.where}"
        event = {"what": "death", "rank": rank.rank, "host": host, "epoch": row.epoch, "step": row.step,
                 "phase": row.phase, "message": message.removeprefix("rankwise: ")}  # fmt: skip
        return message, event

    def _note_death(self, rank: Rank, row: Row) -> None:
        """Say what a rank died of. What it told itself is there by now, and better."""
        message, event = self._death(rank, row)
        first = not row.claimed and claim(self.failure, message)
        if first:
            say(message)
        elif row.claimed:
            with contextlib.suppress(OSError):
                message = self.failure.read_text(encoding="utf-8").rstrip().rpartition("\n")[2]
        if first or row.claimed:
            self.events.append({**event, "message": message.removeprefix("rankwise: "), "noticed": time.time()})

    def _look(self, now: float) -> None:
        """Read all rows, and show those of this node to the others."""
        self.beat += 1
        for rank in self.ranks.values():
            self.rows[rank.rank] = rank.look(now, self.beat, aborting=self.aborting, stalled=self.stalls.began > 0)
        with contextlib.suppress(OSError):  # a full disk or a folder that is gone: this node is watched on
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
        with self.file.open("r+b", buffering=0) as file:
            for number in self.ranks:
                os.pwrite(file.fileno(), self.rows[number].pack(), number * PAGE_BYTES)
        if len(self.ranks) == len(self.rows):
            return
        with self.file.open("rb", buffering=0) as file:
            for number in set(range(len(self.rows))) - set(self.ranks):
                row = Row.unpack(os.pread(file.fileno(), PAGE_BYTES, number * PAGE_BYTES))
                beat, heard = self.heard.get(number, (-1, now))
                if row.beat != beat:
                    heard = now
                self.heard[number] = row.beat, heard
                self.rows[number] = replace(row, age_ms=row.age_ms + int(1000 * (now - heard)))

    def _close(self) -> None:
        """Tidy up, or bring those events to the log that rank 0 did not live to write."""
        if self.events and all(row.over == LOST for row in self.rows):  # nobody is left to go on
            claim(self.failure, f"rankwise: {self.events[-1]['message']}")
        elif self.kill_at is None and all(rank.row.over for rank in self.ranks.values()):
            if 0 in self.ranks:
                self.file.unlink(missing_ok=True)
            return
        if not self.events:
            return
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the launcher need not wait for this
        until = time.monotonic() + LOG_S

        def patient() -> bool:
            return time.monotonic() < until

        while self.rows[0].state != ENDED and patient():
            time.sleep(LOOK_S / 4)
            with contextlib.suppress(OSError):
                self._exchange(time.monotonic())
        if self.rows[0].state == ENDED and self.rows[0].over in (0, LOST):
            append_events(self.log, self.events, patient)


def main() -> None:
    """Take orders from standard input, begin to see the ranks, let their job go on, and watch."""
    orders = json.load(sys.stdin)
    sys.path += orders["path"]
    try:
        witness = Witness(orders)
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
