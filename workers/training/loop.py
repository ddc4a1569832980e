"""The training loop of a rank; knows the protocols of model and synchroniser, no MPI."""

import math
import resource
import time
from typing import Protocol

from common.config import RunConfig
from common.data.dataset import Dataset, Rows
from common.data.loader import Batch, BatchLoader
from common.errors import StepError
from common.flat import ASK_STOP, Flat
from common.nn import schedules
from common.nn.mlp import Mlp
from common.nn.models import Model
from common.progress import AT, COMPUTE, EXCHANGE, N_PARTS, OUTSIDE, TICK
from common.step_times import BEGIN, END, INPUT, StepTimes, sampled_steps
from ps.metrics.epoch_sums import EpochSums

EVALUATION_ROWS = 512
"""Rows of one forward pass in an evaluation: bounds its memory."""


class Synchronizer(Protocol):
    """What the loop needs of a sync mode."""

    flat: Flat
    step_times: StepTimes

    def backward(self, batch: Batch, lr: float, *, sample: bool) -> float:
        """Compute this rank's gradient; return its sum of losses."""

    def step(self, batch: Batch, loss_sum: float, *, stop: bool, sample: bool, save: bool) -> int:
        """Exchange and update; return what any rank asked for, as bits."""

    def not_finite(self, batch: Batch) -> list[str]:
        """Return the parameters whose gradient on this rank, in the step that has just failed, is not finite."""


class StopRequest(Protocol):
    """Whether this rank was asked to stop: ``signal`` is not 0."""

    signal: int


class StepFaults(Protocol):
    """What the loop hands to the job."""

    @property
    def due(self) -> bool:
        """Whether this rank asks for the state of training to be saved."""

    def save(self, epoch: int, sums: "EpochSums") -> None:
        """Save what there is after ``sums.steps`` steps of an epoch; all ranks call it there."""

    def recover(self, fault: StepError) -> bool:
        """Say whether to take the step again, or else to leave it out. Raises JobError where training must end."""


class Progress(Protocol):
    """Where training is, kept up to date for messages and for who watches; see common/progress.py."""

    cells: "memoryview[int]"
    epoch: int
    phase: str

    @property
    def step(self) -> int:
        """The step within the epoch, from 1; 0 outside of the loop."""


class Trainer:
    """Runs epochs and evaluations on this rank's rows."""

    def __init__(
        self,
        config: RunConfig,
        data: Dataset,
        model: Model | Mlp,
        loader: BatchLoader,
        sync: Synchronizer,
        stop: StopRequest,
        progress: Progress,
        step_faults: StepFaults,
    ) -> None:
        self.config = config
        self.data = data
        self.model = model
        self.loader = loader
        self.sync = sync
        self.stop = stop
        self.progress = progress
        self.step_faults = step_faults
        self.batch: Batch | None = None
        self.loss_sum = 0.0
        self.sums = EpochSums()

    @property
    def done(self) -> int:
        """Steps of the epoch that are done; not the one that an exception has come out of."""
        at = self.progress.cells[AT]
        return self.sums.steps if at == OUTSIDE else at // N_PARTS

    def run_epoch(self, epoch: int, done: int = 0) -> EpochSums:
        """Train one epoch, but for the steps that are done already.

        Raises what the synchroniser raises; ``batch`` is then the one it happened on.
        """
        sums, loader, progress, stop = EpochSums(first=done, steps=done), self.loader, self.progress, self.stop
        step_faults, cells, self.sums = self.step_faults, progress.cells, sums
        backward, step = self.sync.backward, self.sync.step
        rates = schedules.learning_rates(self.config, epoch, loader.steps)
        sampled = frozenset(sampled_steps(loader.steps))
        loss_sum, rows = 0.0, 0
        progress.epoch = epoch
        preempted = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        cells[AT] = at = N_PARTS * done
        start = time.perf_counter()
        for k, batch in enumerate(loader.epoch(epoch, done), done):
            cells[AT] = at + COMPUTE
            self.batch = batch
            sample = k in sampled
            if sample:
                self._begin_step_times(k, start)
            try:
                self.loss_sum = loss = backward(batch, rates[k], sample=sample)
                cells[AT] = at + EXCHANGE
                asked = step(batch, loss, stop=stop.signal != 0, save=step_faults.due, sample=sample)
                n = batch.n
            except StepError as fault:
                loss, n, asked, skipped = self._mended(fault, batch, rates[k])
                sums.skipped += skipped
                sample = False
            at += N_PARTS
            cells[AT] = at
            loss_sum += loss
            rows += n
            if sample:
                self.sync.step_times.now[END] = time.perf_counter()
                self.sync.step_times.close_step(k)
            if asked:
                sums.rows, sums.loss_sum, sums.steps = rows, loss_sum, k + 1
                if asked & ASK_STOP:
                    sums.stopped = True
                    break
                progress.phase = "checkpoint"
                step_faults.save(epoch, sums)
                cells[AT] = at
        sums.begin_s, sums.loop_s = start, time.perf_counter() - start
        sums.preemptions = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw - preempted
        sums.loss_sum, sums.rows, sums.steps = loss_sum, rows, at // N_PARTS
        sums.learning_rate = rates[sums.steps - 1]
        progress.phase = "end of epoch"
        return sums

    def _mended(self, fault: StepError, batch: Batch, rate: float) -> tuple[float, int, int, int]:
        """Take a step again until it is right; return loss, rows, what was asked for, and 1 if it was left out."""
        stop, step_faults = self.stop, self.step_faults
        while step_faults.recover(fault):
            try:
                self.loss_sum = loss = self.sync.backward(batch, rate, sample=False)
                asked = self.sync.step(batch, loss, stop=stop.signal != 0, save=step_faults.due, sample=False)
            except StepError as again:
                fault = again
            else:
                return loss, batch.n, asked, 0
        return 0.0, 0, 0, 1

    def _begin_step_times(self, k: int, epoch_start: float) -> None:
        step_times, loader, now = self.sync.step_times.now, self.loader, time.perf_counter()
        step_times[BEGIN] = now
        step_times[INPUT] = loader.filled if k % loader.ahead == 0 and loader.filled >= epoch_start else now

    def evaluate(self, rows: Rows) -> tuple[float, int]:
        """Return (sum of losses, rows classified right) over the given rows of the data."""
        loss_sum, correct = 0.0, 0
        for start in range(0, len(rows), EVALUATION_ROWS):
            chosen = rows[start : start + EVALUATION_ROWS]
            y = self.data.y[chosen]
            out = self.model.predict(self.sync.flat.params, self.data.x[chosen])
            loss_sum += self.model.loss.sum(out, y)
            correct += self.model.loss.correct(out, y)
            self.progress.cells[TICK] += 1
        return loss_sum, correct

    def not_finite(self) -> list[str]:
        """Return what was not finite on this rank in the last step: ``loss`` and parameters."""
        assert self.batch is not None
        return ([] if math.isfinite(self.loss_sum) else ["loss"]) + self.sync.not_finite(self.batch)
