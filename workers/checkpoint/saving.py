"""When and what a job saves of the state of training, as every rank takes part in it."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from common.config import RunConfig
from common.files import quiet
from ps.comm.collectives import bcast
from ps.metrics.epoch_sums import Before, EpochSums
from ps.sync.synchronizer import Synchronizer
from workers.checkpoint.checkpoint_file import Snapshot
from workers.checkpoint.writer import Writer

RETRY_S = 60.0
"""After a checkpoint that could not be written."""
PARAMETERS = "parameters"
"""What their names begin with in a checkpoint; those of other vectors begin with the vector's."""


class Saving:
    """Saves checkpoints: from a copy of the state, which rank 0 writes in a thread while training goes on.

    ``due``: whether this rank asks for a checkpoint, which only rank 0 does. ``seconds``: spent by this rank since the
    last epoch's record, ``in_loop_s`` of it within the training loop. ``about``: returns what rank 0 keeps beside the
    arrays. ``outcome``: is told of each checkpoint that is written, or could not be.
    """

    def __init__(self, comm: MPI.Comm, config: RunConfig, sync: Synchronizer, steps_per_epoch: int) -> None:
        self.comm, self.sync, self.config = comm, sync, config
        self.steps_per_epoch = steps_per_epoch
        self.due = False
        self.seconds = self.in_loop_s = 0.0
        self.before = Before()
        self.about: Callable[[], dict[str, Any]] = dict
        self.outcome: Callable[[Path | Exception], object] = str
        self.tick: Callable[[], object] = quiet
        """Is called while a checkpoint is waited for, as long as its writing goes on."""
        self._writer: Writer | None = None
        self._timer: threading.Timer | None = None
        self.failed = ""
        """Why the last checkpoint could not be written; rank 0 only."""
        self._saved = (-1, False)

    def open(self, folder: Path) -> None:
        """Begin to count the minutes, at rank 0."""
        self._writer = Writer(folder, self.config.keep)
        self._set_timer(60 * self.config.checkpoint_minutes)

    def save(self, epoch: int, sums: EpochSums, *, closed: bool = False, wait: bool = False) -> None:
        """Take a copy after ``sums.steps`` steps of an epoch, and begin to write it. Collective.

        ``closed``: the epoch was evaluated and recorded, too. ``wait``: until it is written. If the one before is not,
        that is waited for first.
        """
        start = time.perf_counter()
        place = (epoch - 1) * self.steps_per_epoch + sums.steps, closed
        if bcast(self.comm, place != self._saved or bool(self.failed)):
            self._saved = place
            self._take(epoch, sums, *place)
        if wait:
            self.look(wait=True)
        self.seconds += time.perf_counter() - start

    def after_epoch(self, epoch: int, sums: EpochSums) -> None:
        """Save where the epochs say so. Collective."""
        every = self.config.checkpoint_every
        if every and epoch % every == 0:
            self.save(epoch, sums, closed=True)

    def rebind(self, comm: MPI.Comm) -> None:
        """Go on among other ranks, who need not all have taken the last copy."""
        self.comm, self._saved = comm, (-1, False)
        self.seconds = self.in_loop_s = 0.0

    def look(self, *, wait: bool = False) -> None:
        """Report a checkpoint that has been written, at rank 0."""
        if self._writer is not None and (outcome := self._writer.ended(wait=wait, tick=self.tick)) is not None:
            self._tell(outcome)

    def _tell(self, outcome: Path | Exception) -> None:
        self.failed = "" if isinstance(outcome, Path) else str(getattr(outcome, "strerror", None) or outcome)
        if self.failed:
            self._set_timer(RETRY_S)
        self.outcome(outcome)

    def close(self) -> None:
        """Stop counting and wait for what is being written."""
        if self._timer is not None:
            self._timer.cancel()
        self.look(wait=True)

    def _take(self, epoch: int, sums: EpochSums, done: int, closed: bool) -> None:
        self.due = False
        if not bcast(self.comm, self._has_room()):
            if self._writer is not None:
                self._tell(MemoryError("no memory for a copy of the state"))
            return
        state = self.sync.capture()
        part = np.array([sums.rows, sums.loss_sum])
        self.comm.Allreduce(MPI.IN_PLACE, part)
        if state is None or self._writer is None:
            return
        views = self.sync.flat.views
        arrays = {f"{PARAMETERS}/{name}": view for name, view in views(state.params).items()}
        for kind, vector in state.vectors.items():
            arrays |= {f"{kind}/{name}": view for name, view in views(vector).items()}
        position = {
            "epoch": epoch,
            "steps": sums.steps,
            "closed": closed,
            "rows": self.before.rows + int(part[0]),
            "loss_sum": self.before.loss_sum + float(part[1]),
        }
        about = {"position": position, "counts": state.counts, "world": self.comm.size, **self.about()}
        self._writer.start(Snapshot(done, arrays, about))
        self._set_timer(60 * self.config.checkpoint_minutes)

    def _has_room(self) -> bool:
        """Say whether rank 0 gets the memory, while nobody waits for it yet."""
        if self._writer is None:
            return True
        self.look(wait=True)  # whose copy is then free
        try:
            np.empty((1 + len(self.sync.vectors()), self.sync.flat.n), self.sync.flat.dtype)
        except MemoryError:
            return False
        return True

    def _set_timer(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if seconds:
            self._timer = threading.Timer(seconds, self._ask)
            self._timer.daemon = True
            self._timer.start()

    def _ask(self) -> None:
        self.due = True
