"""When a job saves the state of training, and how every rank takes part in it."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from mpi4py import MPI

from common.config import RunConfig
from common.files import told
from common.flat import Array
from ps.comm.collectives import bcast
from ps.coordinator.seat import CoordinatorSeat
from ps.metrics.epoch_sums import DoneBefore, EpochSums
from ps.sync.training_state import SavedState, TrainingState
from workers.checkpoint.held_copy import HeldCopy
from workers.checkpoint.job_state import JobState

if TYPE_CHECKING:
    from workers.checkpoint.content import CheckpointContent
    from workers.checkpoint.writer import Writer

RETRY_S = 60.0
"""After a checkpoint that could not be written."""


class StepsDone(NamedTuple):
    """What parameters are the result of: epoch, what is done of it, and the optimizer's counts."""

    epoch: int
    of_epoch: DoneBefore
    counts: dict[str, int]


class Checkpointing:
    """Saves checkpoints: from a copy of the state, which rank 0 writes in a thread while training continues.

    ``due``: whether this rank asks for a checkpoint, which only rank 0 does. ``seconds``: spent by this rank since the
    last epoch's record, ``in_loop_s`` of it within the training loop. ``failed``: why the last checkpoint could not be
    written; rank 0 only. ``copying``: whoever makes a copy has it. ``early``: one made by ``copy_early`` is held.
    ``stopping``: the last one is made, or has been.
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
        held: HeldCopy,
        *,
        mode: str,
        data_sha256: str,
        target: dict[str, list[float]],
        scaling: Mapping[str, Array],
        sum_way: Callable[[], str] = str,
    ) -> None:
        """``tick`` is called while a checkpoint is waited for, as long as its writing progresses.

        ``held``: has the memory of the copies. ``target``: see CheckpointContent, also for what ``sum_way`` returns.
        ``scaling``: what a checkpoint says of how the features are scaled.
        """
        self.comm, self.config, self.state, self.steps_per_epoch = comm, config, state, steps_per_epoch
        self.job_state, self.seat, self.tick, self.held = job_state, seat, tick, held
        self.mode, self.data_sha256, self.target, self.scaling = mode, data_sha256, target, scaling
        self.sum_way = sum_way
        self.due = self.early = self.stopping = False
        self.failed = ""
        self.copying = threading.Lock()
        self.seconds = self.in_loop_s = 0.0
        self._writer: Writer | None = None
        self._timer: threading.Timer | None = None
        self._saved = (-1, False)
        self._stop: dict[str, Any] = {}
        """What the log is to have of a stop, for the watchdog."""

    def open(self, folder: Path) -> None:
        """Begin to write to a folder and to count the minutes, at rank 0.

        Not where each rank has parameters of its own (``init = "per-rank"``), which one file does not hold.
        """
        if self.config.init == "broadcast":
            from workers.checkpoint.writer import Writer  # at rank 0 only

            self._writer = Writer(folder, self.config.keep, self.held)
            self._set_timer(60 * self.config.checkpoint_minutes)

    def save(self, sums: EpochSums, *, closed: bool = False) -> None:
        """Take a copy after ``sums.steps`` steps of the epoch, and begin to write it. Collective.

        ``closed``: the epoch was evaluated and recorded, too. If the one before is not written yet, that is waited for.
        """
        start = time.perf_counter()
        steps = self.job_state.offset + (self.job_state.epoch - 1) * self.steps_per_epoch + sums.steps
        place = steps, closed
        if bcast(self.comm, place != self._saved or bool(self.failed)):
            self._saved = place
            self._take(sums, *place)
        self.seconds += time.perf_counter() - start

    def save_for_stop(self, sums: EpochSums, stop: dict[str, Any], *, closed: bool) -> None:
        """Save the state that the job stops in, and wait until it is written. Collective.

        ``stop``: the event and the end record that the log is to have, at rank 0. As soon as all is copied the launcher
        may kill the ranks: their watchdog then writes what is missing.
        """
        self.stopping, self._stop = True, {"stop": stop}
        self.save(sums, closed=closed)
        self.held.add(stop=stop)  # where no copy had to be made
        self.look(wait=True)
        self.held.add(stop=stop)  # where it is only now that the watchdog has a whole copy, or a file

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
        with self.copying:
            saved = self.state.capture(np.empty if self._writer is None else self.held.allocate)
            own = np.array([sums.rows, sums.loss_sum])
            self.comm.Allreduce(MPI.IN_PLACE, own)
            if saved is None or self._writer is None:
                return
            before = self.job_state.before
            position = {
                "epoch": self.job_state.epoch,
                "steps": sums.steps,
                "closed": closed,
                "rows": before.rows + int(own[0]),
                "loss_sum": before.loss_sum + float(own[1]),
            }
            self.early = False
            self._writer.start(self._content(done, saved, position).snapshot(), self.seat.here().log.seq, **self._stop)
        self._set_timer(60 * self.config.checkpoint_minutes)

    def copy_early(self, steps: StepsDone, unchanged: Callable[[], bool]) -> bool:
        """Copy the state while a step is computed, and let the watchdog have it. ``steps``: before that one.

        For rank 0, in a thread that has ``copying``, where rank 0 has all of the state. Return whether there is such a
        copy now: there is not if another one is being written, or not ``unchanged`` until the end.
        """
        if self._writer is None or self._writer.busy or self.early:
            return self.early
        try:
            saved = self.state.capture_while(unchanged, self.held.allocate)
        except MemoryError:
            saved = None
        if saved is None:
            self.held.recycle()
            return False
        saved.counts = steps.counts
        position = {"epoch": steps.epoch, "closed": False, **asdict(steps.of_epoch)}
        snapshot = self._content(self.steps_in_all(steps), saved, position).snapshot()
        if not unchanged():  # what goes with the vectors may be of later
            self.held.recycle()
            return False
        self.held.hold(snapshot, keep=self._writer.keep, n_records=self.seat.here().log.seq)
        self.early = True
        return True

    def steps_in_all(self, steps: StepsDone) -> int:
        """Return how many steps the run has taken."""
        return self.job_state.offset + (steps.epoch - 1) * self.steps_per_epoch + steps.of_epoch.steps

    def drop_early(self) -> None:
        """Give up a copy that was made early, or was not; in a thread that has ``copying``."""
        if self._writer is not None and not self._writer.busy and not self.stopping:
            self.early = False
            self.held.clear()

    def _content(self, done: int, saved: SavedState, position: dict[str, Any]) -> "CheckpointContent":
        from workers.checkpoint.content import CheckpointContent, named_arrays  # at rank 0 only

        return CheckpointContent(
            step=done,
            arrays=named_arrays(self.state.flat, saved, self.scaling),
            position=position,
            counts=saved.counts,
            world=self.comm.size,
            mode=self.mode,
            coordinator=self.seat.here().memory(),
            skipped=self.job_state.skipped,
            shares=self.job_state.shares,
            config=self.config.as_dict(),
            data_sha256=self.data_sha256,
            target=self.target,
            sum_way=self.sum_way(),
        )

    def _has_memory(self) -> bool:
        """Say whether rank 0 gets the memory, while nobody waits for it yet."""
        if self._writer is None:
            return True
        self.look(wait=True)  # whose copy is then free
        try:
            n_vectors = 1 + len(self.state.vectors()) + (self.state.error is not None)
            np.empty((n_vectors, self.state.flat.n), self.state.flat.dtype)
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
