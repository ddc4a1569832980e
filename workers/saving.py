"""When and what a job saves of the state of training, as every rank takes part in it."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from common.config import RunConfig
from ps.checkpoint import Snapshot, Writer
from ps.sync import Synchronizer
from workers.train import EpochSums

PARAMETERS = "parameters"
"""What their names begin with in a checkpoint; those of other vectors begin with the vector's."""


@dataclass(frozen=True, slots=True)
class Before:
    """What earlier jobs did of the present epoch: steps, and rows and sum of losses of all ranks."""

    steps: int = 0
    rows: int = 0
    loss_sum: float = 0.0


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
        self._writer: Writer | None = None
        self._timer: threading.Timer | None = None
        self._saved = -1

    def open(self, folder: Path) -> None:
        """Begin to count the minutes, at rank 0."""
        self._writer = Writer(folder, self.config.keep)
        self._set_timer()

    def save(self, epoch: int, sums: EpochSums, *, wait: bool = False) -> None:
        """Take a copy after ``sums.steps`` steps of an epoch, and begin to write it. Collective.

        ``wait``: until it is written. If the one before is not, that is waited for first.
        """
        start = time.perf_counter()
        done = (epoch - 1) * self.steps_per_epoch + sums.steps
        if done != self._saved:
            self._take(epoch, sums, done)
            self._saved = done
        if wait:
            self.look(wait=True)
        self.seconds += time.perf_counter() - start

    def after_epoch(self, epoch: int, sums: EpochSums) -> None:
        """Save where the epochs say so. Collective."""
        every = self.config.checkpoint_every
        if every and epoch % every == 0:
            self.save(epoch, sums)

    def move(self, comm: MPI.Comm) -> None:
        """Go on among other ranks, who need not all have taken the last copy."""
        self.comm, self._saved = comm, -1
        self.seconds = self.in_loop_s = 0.0

    def look(self, *, wait: bool = False) -> None:
        """Report a checkpoint that has been written, at rank 0."""
        if self._writer is not None and (outcome := self._writer.ended(wait=wait)) is not None:
            self.outcome(outcome)

    def close(self) -> None:
        """Stop counting and wait for what is being written."""
        if self._timer is not None:
            self._timer.cancel()
        self.look(wait=True)

    def _take(self, epoch: int, sums: EpochSums, done: int) -> None:
        state = self.sync.capture()
        part = np.array([sums.rows, sums.loss_sum])
        self.comm.Allreduce(MPI.IN_PLACE, part)
        self.due = False
        if state is None or self._writer is None:
            return
        self.look(wait=True)
        views = self.sync.flat.views
        arrays = {f"{PARAMETERS}/{name}": view for name, view in views(state.params).items()}
        for kind, vector in state.vectors.items():
            arrays |= {f"{kind}/{name}": view for name, view in views(vector).items()}
        whole = sums.steps == self.steps_per_epoch
        position = {
            "epoch": epoch,
            "steps": sums.steps,
            "rows": 0 if whole else self.before.rows + int(part[0]),
            "loss_sum": 0.0 if whole else self.before.loss_sum + float(part[1]),
        }
        about = {"position": position, "counts": state.counts, "world": self.comm.size, **self.about()}
        self._writer.start(Snapshot(done, arrays, about))
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self.config.checkpoint_minutes:
            self._timer = threading.Timer(60 * self.config.checkpoint_minutes, self._ask)
            self._timer.daemon = True
            self._timer.start()

    def _ask(self) -> None:
        self.due = True
