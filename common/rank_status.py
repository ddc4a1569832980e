"""Where a rank is in training, in memory that another process of its node reads while the rank runs and after its end.

A rank writes its row in place, with a few stores a step. The watchdog of its node (``workers/watchdog/watchdog.py``)
reads it, adds what it sees from outside, and tells it to the watchdogs of other nodes.
"""

import mmap
import os
import struct
from dataclasses import astuple, dataclass
from pathlib import Path

STEP_PHASES = ("input", "compute", "exchange")
"""Of a step: rows are fetched, the gradient is computed, ranks exchange and update."""
INPUT, COMPUTE, EXCHANGE = range(3)
N_PHASES = len(STEP_PHASES)
OUTSIDE = -1
"""In place of the number of finished phases: outside of the training loop."""
WAITING = "waiting for the others"
WAITING_PHASES = (WAITING, "end of epoch", "saving", "closing")
"""Phases outside of the loop in which a rank only waits for the others."""
FINAL_PHASES = ("final test", "writing the model", "saving", "closing")
"""Phases after the last epoch."""
LOADING_PHASES = ("reading the checkpoint", "reading data", "preparing data")
"""Phases that may take very long without a tick: using the CPU counts as progress there."""

EPOCH, AT, TICK, REPORTED, SIGNAL, FINISHED, EXPENDABLE, STOPPING, ASKED = range(9)
"""Cells of a row, which the rank writes; see StatusRow."""
CELLS = slice(0, 72)
PHASE_NAME_AT = CELLS.stop
NOT_SHARED_AT = 248
"""A byte: whether this host has the run folder's path, but not that folder; only in the rank's own memory."""
FOLDER = slice(256, 4096)
"""The run folder, once there is one, padded with zeros; only in the rank's own memory."""
FAILURE_AT, MOST_FAILURE_BYTES = 1 << 26, 1 << 16
"""Where in the rank's memory its message is, and its length, if it has reported its own failure."""
PAGE_BYTES = 4096
"""A page a row: nodes must not write to the same page of a file on a network file system."""
LAYOUT = struct.Struct("=9q64s5q")
COPY_HEAD = struct.Struct("=3q")
"""At the beginning of the file in which a checkpoint is held: where its description lies, 0 while there is none, how
long that is, and of a job that stops with this checkpoint ``TO_SAVE``, or ``SAVED`` once it has written all."""
TO_SAVE, SAVED = 1, 2
STOPPED, ENDED = 1, 2
"""States of a process as seen from outside; 0 is running."""
LOST = 2
"""In the cell FINISHED: the rank died, and the others continue without it."""


@dataclass(frozen=True, slots=True)
class StatusRow:
    """A row as it was read: first what the rank writes, from ``beat`` on what its watchdog adds.

    ``at``: how many phases of the epoch's steps are finished, ``N_PHASES`` a step, or ``OUTSIDE``. ``tick`` counts
    signs of progress outside of the loop. ``reported``: the rank wrote its own failure to failure.txt. ``signal``: the
    one at which the rank ends itself. ``finished``: it has left MPI, so its end is no failure. ``expendable``: if it
    dies, the others continue without it (``--elastic``). ``stopping``: all ranks have agreed to stop, on a signal.
    ``asked``: when a signal last asked for a stop, in ms on this host's monotonic clock.
    ``phase_name``: the phase outside of the loop.
    ``beat`` counts looks. ``age_ms``: since the rank's last progress. ``longest_ms``: its longest step, 0 before the
    first has ended. ``state``: of its process. ``aborting``: the ranks of this node are being ended.
    """

    epoch: int = 0
    at: int = OUTSIDE
    tick: int = 0
    reported: int = 0
    signal: int = 0
    finished: int = 0
    expendable: int = 0
    stopping: int = 0
    asked: int = 0
    phase_name: bytes = b""
    beat: int = 0
    age_ms: int = 0
    longest_ms: int = 0
    state: int = 0
    aborting: int = 0

    @classmethod
    def unpack(cls, data: bytes) -> "StatusRow":
        """Read a row; one that nobody has written yet is outside of the loop."""
        return cls(*LAYOUT.unpack_from(data)) if len(data) >= LAYOUT.size and any(data) else cls()

    def pack(self) -> bytes:
        """Return the row as the file holds it."""
        return LAYOUT.pack(*astuple(self))

    @property
    def place(self) -> tuple[int, int, int, bytes]:
        """What changes whenever the rank makes progress."""
        return self.epoch, self.at, self.tick, self.phase_name

    @property
    def step(self) -> int:
        """The step within the epoch, from 1; 0 outside of the loop."""
        return self.at // N_PHASES + 1

    @property
    def phase(self) -> str:
        """The phase of the step, or the one outside of the loop."""
        if self.at == OUTSIDE:
            return self.phase_name.rstrip(b"\0").decode(errors="replace")
        return STEP_PHASES[self.at % N_PHASES]

    @property
    def is_waiting(self) -> bool:
        """Whether the rank only waits for the others."""
        return self.phase in WAITING_PHASES if self.at == OUTSIDE else self.at % N_PHASES == EXCHANGE

    @property
    def where(self) -> str:
        """The place as text."""
        if self.step:
            return f"at epoch {self.epoch}, step {self.step}, phase: {self.phase}"
        return f"in epoch {self.epoch}, phase: {self.phase}" if self.epoch else f"in phase: {self.phase}"


class RankStatus:
    """This rank's own row, and what else the message needs that is printed if the rank fails.

    ``cells``: the numbers of the row, in place. ``handle``: a file in memory, without a name, whose first page is the
    row; stacks are written after that page. -1 where the system has no such files: nobody else sees the row then.
    ``copy``: another such file, in which a checkpoint lies until it is on the disk (``HeldCopy``).
    ``pipe``: one end of a pipe; its other end, which is never closed, hangs up when the process begins to end.
    ``folder``: the run folder, once there is one. ``debug``: whether the message has a traceback.
    """

    def __init__(self) -> None:
        self.handle = os.memfd_create("rankwise-progress") if hasattr(os, "memfd_create") else -1
        if self.handle >= 0:
            os.ftruncate(self.handle, PAGE_BYTES)
            os.lseek(self.handle, PAGE_BYTES, os.SEEK_SET)
        self.copy = os.memfd_create("rankwise-checkpoint") if hasattr(os, "memfd_create") else -1
        self.pipe, self._end = os.pipe()
        self._memory = mmap.mmap(self.handle, PAGE_BYTES)
        self._page = memoryview(self._memory)
        self.cells = self._page[CELLS].cast("q")
        self._new_watchdogs = 0
        self.folder: Path | None = None
        self.debug = False
        self.enter("start")

    def close(self) -> None:
        """Give back memory and files, where the process goes on after its job; no watchdog may look at them."""
        self.cells.release()
        self._page.release()
        self._memory.close()
        for handle in (self.handle, self.copy, self.pipe, self._end):
            if handle >= 0:
                os.close(handle)

    def enter(self, phase: str) -> None:
        """Begin a phase outside of the training loop."""
        struct.pack_into("64s", self._page, PHASE_NAME_AT, phase.encode())
        self.cells[AT] = OUTSIDE
        self.tick()

    def tick(self) -> None:
        """Show progress outside of the loop."""
        self.cells[TICK] += 1

    def note_new_watchdog(self) -> None:
        """Remember that this rank has started a watchdog in place of one that was ended."""
        self._new_watchdogs += 1

    def new_watchdogs(self) -> int:
        """Return how many it has started since the last call."""
        new, self._new_watchdogs = self._new_watchdogs, 0
        return new

    def set_debug(self, debug: bool) -> None:
        """Say whether the message of a failure has a traceback."""
        self.debug = debug

    def set_folder(self, folder: Path) -> None:
        """Keep the run folder, and show it to the watchdog unless its path is too long; then that learns of none."""
        self.folder = folder
        path, buffer = os.fsencode(folder.absolute()), self._page[FOLDER]
        if len(path) <= len(buffer):
            buffer[1 : len(path)] = path[1:]
            buffer[:1] = path[:1]  # last: a path is complete once it begins with a slash

    def note_not_shared(self) -> None:
        """Remember that this host does not see the run folder; neither this rank nor the watchdog writes there."""
        self.folder = None
        self._page[NOT_SHARED_AT] = 1

    def keep_failure(self, message: str) -> None:
        """Keep this rank's message on why it failed where the watchdog of its node finds it."""
        if self.handle >= 0:
            os.pwrite(self.handle, message.encode(errors="replace")[-MOST_FAILURE_BYTES:], FAILURE_AT)

    @property
    def row(self) -> StatusRow:
        """The row as it is now."""
        return StatusRow.unpack(bytes(self._page[: LAYOUT.size]))

    @property
    def epoch(self) -> int:
        """The epoch, from 1; 0 before the first and after the last."""
        return self.cells[EPOCH]

    @property
    def step(self) -> int:
        """The step within the epoch, from 1; 0 outside of the loop."""
        return self.row.step

    def __str__(self) -> str:
        row = self.row
        where = f"epoch {row.epoch}" if row.epoch else row.phase
        return f"{where}, step {row.step}" if row.step else where


def read_row(memory: int) -> StatusRow:
    """Read the row from a rank's memory, an open file."""
    return StatusRow.unpack(os.pread(memory, LAYOUT.size, 0))


def read_failure_kept(memory: int) -> str:
    """Read a rank's own message from its memory, an open file; nothing if there is none."""
    return os.pread(memory, MOST_FAILURE_BYTES, FAILURE_AT).decode(errors="replace")


def read_folder(memory: int) -> Path | None:
    """Read the run folder from a rank's memory, an open file; None if the rank has none, or does not see it."""
    if os.pread(memory, 1, NOT_SHARED_AT) == b"\1":
        return None
    path = os.pread(memory, FOLDER.stop - FOLDER.start, FOLDER.start).rstrip(b"\0")
    return Path(os.fsdecode(path)) if path.startswith(b"/") else None


def holds_copy(copy: int) -> bool:
    """Say whether there is something in ``RankStatus.copy``, an open file."""
    return copy_head(copy)[0] > 0


def read_stop(copy: int) -> int:
    """Read from ``RankStatus.copy``, an open file, how far its job has come that stops; 0 if it does not."""
    return copy_head(copy)[2]


def copy_head(copy: int) -> tuple[int, int, int]:
    """Read what is at the beginning of ``RankStatus.copy``, an open file; see COPY_HEAD."""
    head = os.pread(copy, COPY_HEAD.size, 0).ljust(COPY_HEAD.size, b"\0")
    offset, length, stop = COPY_HEAD.unpack(head)
    return offset, length, stop
