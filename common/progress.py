"""Where a rank is in training, in memory that another process of its node reads while the rank runs and after its end.

A rank writes its row in place, with a few stores a step. The watchdog of its node (``workers/watchdog/watchdog.py``)
reads it, adds what it sees from outside, and copies the rows of its node into a file that other nodes' watchdogs read.
"""

import mmap
import os
import signal
import struct
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import BinaryIO

PARTS = ("input", "compute", "exchange")
"""Of a step: rows are fetched, the gradient is computed, ranks exchange and update."""
INPUT, COMPUTE, EXCHANGE = range(3)
N_PARTS = len(PARTS)
OUTSIDE = -1
"""Instead of the parts that are done: outside of the training loop."""
WAITING = "waiting for the others"
MEETINGS = (WAITING, "end of epoch", "saving", "closing")
"""Phases outside of the loop in which a rank only waits for the others."""
LAST = ("final test", "writing the model", "saving", "closing")
"""Phases behind the last epoch."""
LOADING = ("reading the checkpoint", "reading data", "preparing data")
"""Phases that may take very long without a sign: there, computing is one."""

EPOCH, AT, TICK, CLAIMED, SIGNAL, OVER, SPARED = range(7)
"""Places in a row of what the rank writes; see Row."""
CELLS = slice(0, 56)
NAME = slice(56, 120)
NAME_BYTES = NAME.stop - NAME.start
FOLDER = slice(256, 4096)
"""Of a rank's own memory only: the run folder, behind the length of its name; none before there is one."""
FOLDER_BYTES = struct.Struct("=q")
PAGE_BYTES = 4096
"""A page a row: nodes never write to the same page of the file, which network file systems do not bear."""
STOPPED, ENDED = 1, 2
"""States of a process as seen from outside; 0 is running."""


@dataclass(frozen=True, slots=True)
class StatusRow:
    """A row as it was read: first what the rank writes, from ``beat`` on what the witness adds.

    ``at``: parts of the epoch's steps that are done, ``N_PARTS`` a step, or ``OUTSIDE``. ``tick`` counts what goes on
    outside. ``claimed``: the rank told its own end in failure.txt. ``signal``: the one at which the rank ends itself.
    ``over``: it has left MPI, so its end is no failure. ``spared``: from here on the others go on without it if it dies
    (``--elastic``). ``name``: of the phase outside of the loop.
    ``beat`` counts looks. ``age_ms``: since the rank went on. ``longest_ms``: its longest step, 0 before it ended one.
    ``aborting``: the ranks of this node are being ended.
    """

    epoch: int = 0
    at: int = OUTSIDE
    tick: int = 0
    claimed: int = 0
    signal: int = 0
    over: int = 0
    spared: int = 0
    name: bytes = b""
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
        """What changes when the rank goes on."""
        return self.epoch, self.at, self.tick, self.name

    @property
    def step(self) -> int:
        """The step within the epoch, from 1; 0 outside of the loop."""
        return step_of(self.at)

    @property
    def phase(self) -> str:
        """The part of the step, or the phase outside of the loop."""
        return phase_of(self.at, self.name)

    @property
    def where(self) -> str:
        """The place in words."""
        if self.step:
            return f"at epoch {self.epoch}, step {self.step}, phase: {self.phase}"
        return f"in epoch {self.epoch}, phase: {self.phase}" if self.epoch else f"in phase: {self.phase}"


LAYOUT = struct.Struct("=7q64s5q")


def step_of(at: int) -> int:
    """Return the step, from 1; 0 outside of the loop."""
    return at // N_PARTS + 1


def phase_of(at: int, name: bytes) -> str:
    """Return the part of the step, or the name of the phase outside of the loop."""
    return name.rstrip(b"\0").decode(errors="replace") if at == OUTSIDE else PARTS[at % N_PARTS]


class Progress:
    """This rank's own row.

    ``cells``: the numbers, in place. ``handle``: a file in memory, without a name, whose first page is the row; what
    is written to it stands behind the page. -1 where the system has none: nobody else sees the row then. ``line``: a
    pipe that says nothing; its other end, which is never closed, hangs up when the process begins to end.
    """

    def __init__(self) -> None:
        self.handle = os.memfd_create("rankwise-progress") if hasattr(os, "memfd_create") else -1
        if self.handle >= 0:
            os.ftruncate(self.handle, PAGE_BYTES)
            os.lseek(self.handle, PAGE_BYTES, os.SEEK_SET)
        self.line, self._end = os.pipe()
        self._page = memoryview(mmap.mmap(self.handle, PAGE_BYTES))
        self.cells = self._page[CELLS].cast("q")
        self.phase = "start"

    @property
    def phase(self) -> str:
        """The part of the step, or what is done outside of the loop; setting it leaves the loop."""
        return phase_of(self.cells[AT], bytes(self._page[NAME]))

    @phase.setter
    def phase(self, name: str) -> None:
        self._page[NAME] = name.encode()[:NAME_BYTES].ljust(NAME_BYTES, b"\0")
        self.cells[AT] = OUTSIDE
        self.cells[TICK] += 1

    def tick(self) -> None:
        """Tell that this rank goes on, outside of the loop."""
        self.cells[TICK] += 1

    def show_folder(self, folder: Path) -> None:
        """Tell the witness where the run folder is; not if its name is too long, and then it learns of none."""
        name, room = os.fsencode(folder.absolute()), self._page[FOLDER]
        if len(name) <= len(room) - FOLDER_BYTES.size:
            room[FOLDER_BYTES.size : FOLDER_BYTES.size + len(name)] = name
            FOLDER_BYTES.pack_into(room, 0, len(name))  # last: from here on it is read

    @property
    def epoch(self) -> int:
        """The epoch, from 1; 0 before the first and after the last."""
        return self.cells[EPOCH]

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self.cells[EPOCH] = epoch

    @property
    def step(self) -> int:
        """The step within the epoch, from 1; 0 outside of the loop."""
        return step_of(self.cells[AT])


def read_folder(file: BinaryIO) -> Path | None:
    """Read the run folder from a rank's own memory, opened without a buffer; None if the rank has none yet."""
    file.seek(FOLDER.start)
    room = file.read(FOLDER.stop - FOLDER.start)
    length = FOLDER_BYTES.unpack_from(room)[0] if len(room) >= FOLDER_BYTES.size else 0
    name = room[FOLDER_BYTES.size : FOLDER_BYTES.size + length]
    return Path(os.fsdecode(name)) if name else None


def read_row(file: BinaryIO) -> StatusRow:
    """Read a row from a rank's own memory, opened without a buffer."""
    file.seek(0)
    return StatusRow.unpack(file.read(LAYOUT.size))


class RankStatus(Progress):
    """Where this rank is, for the message when it fails."""

    def __init__(self) -> None:
        super().__init__()
        self._folder: Path | None = None
        self.debug = False

    @property
    def folder(self) -> Path | None:
        """The run folder, once there is one; its witness learns of it."""
        return self._folder

    @folder.setter
    def folder(self, folder: Path) -> None:
        self._folder = folder
        self.show_folder(folder)

    def __str__(self) -> str:
        where = self.phase if not self.epoch else f"epoch {self.epoch}"
        return f"{where}, step {self.step}" if self.step else where


LOST = 2
"""In a row, instead of having left MPI: it died, and the others go on without it."""


ABORT_SIGNAL = signal.SIGURG
"""Has a rank end the job with the exit code of an error (``workers/launch/signals.py``); other programs ignore it."""


STACK_SIGNAL = signal.SIGUSR2
