"""A rank's process as the watchdog of its node sees it from outside."""

import contextlib
import fcntl
import os
import signal
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.job_signals import STACK_SIGNAL, signal_name
from common.process_table import SYSTEM_TICKS, USER_TICKS, exit_status, read_process, stat_fields
from common.rank_status import ENDED, LOADING_PHASES, LOST, STOPPED, StatusRow, holds_copy, read_row, read_stop
from workers.watchdog.deaths import OUT_OF_MEMORY

LOOK_S = 1.0
"""Between two looks at a row."""
STACK_S = 0.5
"""How long a rank may take to write its stack."""
MAX_STACK_BYTES = 1 << 20
MEMORY_LOOKS = 30


class RankProcess:
    """A rank of this node: its process, its memory, a pipe it holds, and what was seen of it.

    ``process``: a pidfd. ``memory``, ``copy``, ``pipe``: open files, see RankStatus. ``row``: as of the last look.
    ``ended``: the process is gone. ``stopped``: by a signal or a debugger, as of the last look. ``lost``: it died, and
    the others continue without it. ``cause``: what it died of, as Death has it, once ``death`` has looked for it.
    """

    def __init__(self, rank: int, pid: int, handle: int, pipe: int, copy: int) -> None:
        """``handle``, ``pipe``, ``copy``: see RankStatus. Raises OSError if the process cannot be watched."""
        self.rank, self.pid = rank, pid
        self.process = os.pidfd_open(pid)
        self.memory, self.pipe, self.copy = (
            os.open(f"/proc/{pid}/fd/{number}", os.O_RDONLY) for number in (handle, pipe, copy)
        )
        fcntl.flock(self.memory, fcntl.LOCK_SH)  # by which the rank sees whether it is watched
        self.row = StatusRow()
        self.cause = ""
        self.ended = self.stopped = self.lost = self._end_noticed = False
        self._progress_at = time.monotonic()
        self._cpu_ticks = self._longest_ms = 0

    def look_for_stop(self) -> None:
        """See whether the process is stopped by a signal or a debugger."""
        process = None if self.ended else read_process(self.pid)
        self.stopped = process is not None and process.stopped

    def look(self, now: float, beat: int, *, aborting: bool, stalled: bool) -> StatusRow:
        """Read the row and add what is seen from outside. A step that ends a stall is no measure for others.

        ``now``: on the job's clock.
        """
        row = read_row(self.memory)
        if self.lost:
            row = replace(row, finished=LOST)
        if row.place != self.row.place:
            if self.row.step and not stalled:
                step_s = _step_time(self.row, row, now - self._progress_at)
                self._longest_ms = max(self._longest_ms, int(1000 * step_s))
            self._progress_at = now
        if row.phase in LOADING_PHASES and not row.step:
            before, self._cpu_ticks = self._cpu_ticks, cpu_ticks(self.pid)
            self._progress_at = now if self._cpu_ticks > before else self._progress_at
        if row.step > 1:  # one has ended, perhaps between two looks
            self._longest_ms = max(self._longest_ms, 1)
        state = ENDED if self.ended else STOPPED if self.stopped else 0
        self.row = replace(row, beat=beat, age_ms=int(1000 * (now - self._progress_at)), longest_ms=self._longest_ms,
                           state=state, aborting=aborting)  # fmt: skip
        return self.row

    def note_end(self, source: int) -> bool:
        """Note that ``source``, the pipe or the process, has ended; return whether it is the first of the two."""
        self.ended = self.ended or source == self.process
        first, self._end_noticed = not self._end_noticed, True
        return first

    def note_lost(self) -> None:
        """Note that the others continue without this rank."""
        self.lost = True

    def send(self, number: int) -> None:
        """Send a signal, unless the process is gone."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.process, number)

    def ask_for_stack(self) -> int:
        """Have the rank write the stack of its main thread's Python code, in C; return where in its memory, -1 if not.

        That takes up to ``STACK_S``.
        """
        self.look_for_stop()
        if self.ended or self.stopped:
            return -1
        end = os.fstat(self.memory).st_size
        self.send(STACK_SIGNAL)
        return end

    def read_stack(self, start: int) -> str:
        """Return the stack that was asked for; empty if there is none."""
        return os.pread(self.memory, MAX_STACK_BYTES, start).decode(errors="replace").strip() if start >= 0 else ""

    def death(self, host: str, kills: "MemoryKills") -> dict[str, Any]:
        """Return the event of the rank's death, with the cause in its message."""
        row = read_row(self.memory)
        by = self.cause = signal_name(row.signal) if row.signal else killed_by(self.process)
        cause = f"ended by a second {by}" if row.signal else f"killed by {by}" if by else "its process is gone"
        if by == "SIGKILL" and kills.has_risen():
            self.cause = OUT_OF_MEMORY
            cause += "; this machine has run out of memory"
        message = f"rank {self.rank} on {host} died ({cause}) {row.where}"
        return {"what": "death", "rank": self.rank, "host": host, "epoch": row.epoch, "step": row.step,
                "phase": row.phase, "message": message, "noticed": time.time()}  # fmt: skip


def stops(ranks: Mapping[int, RankProcess]) -> list[int]:
    """Return how far ranks are with stopping; see ``read_stop``."""
    return [read_stop(rank.copy) for rank in ranks.values() if not rank.lost]


def held_by(ranks: Mapping[int, RankProcess]) -> int:
    """Return the file in memory of a rank that has left something to write; -1 if there is none."""
    return next((rank.copy for rank in ranks.values() if not rank.lost and holds_copy(rank.copy)), -1)


def _step_time(before: StatusRow, after: StatusRow, seconds: float) -> float:
    """Estimate how long the longest step between two looks took; between epochs, at least."""
    if after.epoch == before.epoch and after.step:
        return seconds / max(1, after.step - before.step)
    return max(0.0, seconds - LOOK_S)


def cpu_ticks(pid: int) -> int:
    """Return how much CPU time a process has used, in the system's ticks; 0 if it is gone."""
    return sum(map(int, stat_fields(pid)[USER_TICKS : SYSTEM_TICKS + 1]))


def killed_by(process: int) -> str:
    """Return the name of the signal that ended a process, where the system tells."""
    status = exit_status(process)
    return signal_name(os.WTERMSIG(status)) if status is not None and os.WIFSIGNALED(status) else ""


class MemoryKills:
    """Whether this machine's kernel has killed a process for lack of memory in the last half minute or so."""

    def __init__(self) -> None:
        self._counts = deque([memory_kills()], MEMORY_LOOKS)
        self._looked_at = 0.0

    def look(self, now: float) -> None:
        """Count, once a second at most: a job that stands still is looked at more often."""
        if now - self._looked_at >= LOOK_S:
            self._looked_at = now
            self._counts.append(memory_kills())

    def has_risen(self) -> bool:
        """Say whether there are more than some looks ago: a large process takes a while to be gone."""
        return memory_kills() > self._counts[0]


def memory_kills() -> int:
    """Return how many processes this machine's kernel has killed for lack of memory."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
