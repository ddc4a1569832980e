"""When a job saves the state of training, and how every rank takes part in it."""

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from mpi4py import MPI

from common.config import RunConfig
from common.files import told
from common.flat import Array
from ps.comm.collectives import bcast
from ps.coordinator.coordinator import CoordinatorSeat
from ps.metrics.epoch_sums import EpochSums
from ps.sync.training_state import TrainingState
from workers.checkpoint.content import CheckpointContent, named_arrays
from workers.checkpoint.job_state import JobState
from workers.checkpoint.writer import Writer

RETRY_S = 60.0
"""After a checkpoint that could not be written."""


class Checkpointing:
    """Saves checkpoints: from a copy of the state, which rank 0 writes in a thread while training continues.

    ``due``: whether this rank asks for a checkpoint, which only rank 0 does. ``seconds``: spent by this rank since the
    last epoch's record, ``in_loop_s`` of it within the training loop. ``failed``: why the last checkpoint could not be
    written; rank 0 only.
    """

    def __init__(
        self,
        comm: MPI.Comm,
        config: RunConfig,
        state: TrainingState,
        steps_per_epoch: int,
        job_state: JobState,
        seat: CoordinatorSeat,
        tick: Callable[[], object],
        *,
        mode: str,
        data_sha256: str,
        target: dict[str, list[float]],
        scaling: Mapping[str, Array],
    ) -> None:
        """``tick`` is called while a checkpoint is waited for, as long as its writing progresses.

        ``target``: see CheckpointContent. ``scaling``: what a checkpoint says of how the features are scaled.
        """
        self.comm, self.config, self.state, self.steps_per_epoch = comm, config, state, steps_per_epoch
        self.job_state, self.seat, self.tick = job_state, seat, tick
        self.mode, self.data_sha256, self.target, self.scaling = mode, data_sha256, target, scaling
        self.due = False
        self.failed = ""
        self.seconds = self.in_loop_s = 0.0
        self._writer: Writer | None = None
        self._timer: threading.Timer | None = None
        self._saved = (-1, False)

    def open(self, folder: Path) -> None:
        """Begin to write to a folder and to count the minutes, at rank 0.

        Not where each rank has parameters of its own (``init = "per-rank"``), which one file does not hold.
        """
        if self.config.init == "broadcast":
            self._writer = Writer(folder, self.config.keep)
            self._set_timer(60 * self.config.checkpoint_minutes)

    def save(self, sums: EpochSums, *, closed: bool = False, wait: bool = False) -> None:
        """Take a copy after ``sums.steps`` steps of the epoch, and begin to write it. Collective.

        ``closed``: the epoch was evaluated and recorded, too. ``wait``: until it is written. If the one before is not,
        that is waited for first.
        """
        start = time.perf_counter()
        steps = self.job_state.offset + (self.job_state.epoch - 1) * self.steps_per_epoch + sums.steps
        place = steps, closed
        if bcast(self.comm, place != self._saved or bool(self.failed)):
            self._saved = place
            self._take(sums, *place)
        if wait:
            self.look(wait=True)
        self.seconds += time.perf_counter() - start

    def save_in_loop(self, sums: EpochSums) -> None:
        """Save in the middle of an epoch. Collective."""
        before = self.seconds
        self.save(sums)
        self.in_loop_s += self.seconds - before

    def after_epoch(self, sums: EpochSums, *, last: bool) -> None:
        """Save where the epochs say so, and after the last one, so that the run can go on with more. Collective."""
        every = self.config.checkpoint_every
        if (every and self.job_state.epoch % every == 0) or (last and (every or self.config.checkpoint_minutes)):
            self.save(sums, closed=True)

    def close_epoch(self) -> dict[str, float]:
        """Return the seconds since the last call, all of them and those within the training loop."""
        figures = {"checkpoint_s": self.seconds, "checkpoint_in_loop_s": self.in_loop_s}
        self.seconds = self.in_loop_s = 0.0
        return figures

    def rebind(self, comm: MPI.Comm) -> None:
        """Continue among other ranks, who need not all have taken the last copy."""
        self.comm, self._saved = comm, (-1, False)
        self.close_epoch()

    def look(self, *, wait: bool = False) -> None:
        """Report a checkpoint that has been written, at rank 0."""
        if self._writer is not None and (outcome := self._writer.ended(wait=wait, tick=self.tick)) is not None:
            self._report(outcome)

    def _report(self, outcome: Path | Exception) -> None:
        if isinstance(outcome, Path):
            self.failed = ""
            self.seat.event("checkpoint", file=outcome.name)
            return
        self.failed = told(outcome) if isinstance(outcome, OSError) else str(outcome) or type(outcome).__name__
        self._set_timer(RETRY_S)
        self.seat.here().checkpoint_failed(self.failed)

    def close(self) -> None:
        """Stop counting and wait for what is being written."""
        if self._timer is not None:
            self._timer.cancel()
        self.look(wait=True)

    def _take(self, sums: EpochSums, done: int, closed: bool) -> None:
        self.due = False
        if not bcast(self.comm, self._has_memory()):
            if self._writer is not None:
                self._report(MemoryError("no memory for a copy of the state"))
            return
        saved = self.state.capture()
        own = np.array([sums.rows, sums.loss_sum])
        self.comm.Allreduce(MPI.IN_PLACE, own)
        if saved is None or self._writer is None:
            return
        before = self.job_state.before
        content = CheckpointContent(
            step=done,
            arrays=named_arrays(self.state.flat, saved, self.scaling),
            position={
                "epoch": self.job_state.epoch,
                "steps": sums.steps,
                "closed": closed,
                "rows": before.rows + int(own[0]),
                "loss_sum": before.loss_sum + float(own[1]),
            },
            counts=saved.counts,
            world=self.comm.size,
            mode=self.mode,
            coordinator=self.seat.here().memory(),
            skipped=self.job_state.skipped,
            config=self.config.as_dict(),
            data_sha256=self.data_sha256,
            target=self.target,
        )
        self._writer.start(content.snapshot())
        self._set_timer(60 * self.config.checkpoint_minutes)

    def _has_memory(self) -> bool:
        """Say whether rank 0 gets the memory, while nobody waits for it yet."""
        if self._writer is None:
            return True
        self.look(wait=True)  # whose copy is then free
        try:
            np.empty((1 + len(self.state.vectors()), self.state.flat.n), self.state.flat.dtype)
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
