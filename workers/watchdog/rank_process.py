"""A rank's process as the witness of its node sees it from outside."""

import contextlib
import fcntl
import os
import signal
import struct
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from common.host import stat_fields
from common.progress import ENDED, LOADING, LOST, STACK_SIGNAL, STOPPED, StatusRow, read_row

LOOK_S = 1.0
"""Between two looks at a row."""
PIDFD_GET_INFO = 3 << 30 | 64 << 16 | 0xFF << 8 | 11
PIDFD_INFO_EXIT = 1 << 3
"""Of linux/pidfd.h, since Linux 6.15: how a process ended, also for others than its parent."""


@dataclass(slots=True)
class Rank:
    """A rank of this node: its process, the memory with its row, a pipe it holds, and what was seen of it."""

    rank: int
    pid: int
    process: int
    memory: BinaryIO
    line: BinaryIO
    row: StatusRow = field(default_factory=StatusRow)
    changed: float = field(default_factory=time.monotonic)
    cpu: int = 0
    longest_ms: int = 0
    noted: bool = False
    ended: bool = False
    lost: bool = False
    """Whether it died, and the others go on without it."""

    def look(self, now: float, beat: int, *, aborting: bool, stalled: bool) -> StatusRow:
        """Read the row and add what is seen from outside. A step that ends a stall is no measure for others."""
        row = read_row(self.memory)
        if self.lost:
            row = replace(row, over=LOST)
        if row.place != self.row.place:
            if self.row.step and not stalled:
                self.longest_ms = max(self.longest_ms, int(1000 * step_time(self.row, row, now - self.changed)))
            self.changed = now
        if row.phase in LOADING and not row.step:
            before, self.cpu = self.cpu, cpu_ticks(self.pid)
            self.changed = now if self.cpu > before else self.changed
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


def death(rank: int, host: str, row: StatusRow, process: int, memory_kills_before: int) -> tuple[str, dict[str, Any]]:
    """Return what a rank died of, as a message and as an event."""
    by = signal.Signals(row.signal).name if row.signal else killed_by(process)
    cause = f"ended by a second {by}" if row.signal else f"killed by {by}" if by else "its process is gone"
    if by == "SIGKILL" and memory_kills() > memory_kills_before:
        cause += "; this machine has run out of memory"
    message = f"rankwise: rank {rank} on {host} died ({cause}) {row.where}"
    event = {"what": "death", "rank": rank, "host": host, "epoch": row.epoch, "step": row.step,
             "phase": row.phase, "message": message.removeprefix("rankwise: "), "noticed": time.time()}  # fmt: skip
    return message, event


def step_time(before: StatusRow, after: StatusRow, seconds: float) -> float:
    """Estimate how long the longest step between two looks took; between epochs, at least."""
    if after.epoch == before.epoch and after.step:
        return seconds / max(1, after.step - before.step)
    return max(0.0, seconds - LOOK_S)


def open_file(pid: int, handle: int) -> BinaryIO:
    """Open what another process holds open, for the rest of this one's life. Raises OSError."""
    return Path(f"/proc/{pid}/fd/{handle}").open("rb", buffering=0)


def is_stopped(pid: int) -> bool:
    """Say whether a process is stopped by a signal or a debugger."""
    return stat_fields(pid)[:1] in (["T"], ["t"])


def cpu_ticks(pid: int) -> int:
    """Return how long a process has computed, in the system's ticks; 0 if it is gone."""
    return sum(map(int, stat_fields(pid)[11:13]))


def killed_by(process: int) -> str:
    """Return the name of the signal that ended a process, where the system tells: once its parent has asked."""
    for _ in range(20):
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
