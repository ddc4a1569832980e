"""The training loop of a rank."""

import math
import time
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from common.data.loader import Batch
from common.data.scaling import Rows
from common.data.ticket_loader import Loader
from common.errors import StepError
from common.files import do_nothing
from common.flat import ASK_STOP, Array
from common.named_views import read_only
from common.nn import schedules
from common.rank_status import AT, COMPUTE, EPOCH, EXCHANGE, N_PHASES, OUTSIDE, TICK, RankStatus
from common.step_times import BEGIN, END, INPUT, n_samples, spread
from ps.metrics.epoch_sums import EpochSums
from ps.metrics.preemption import Preemption
from ps.sync.synchronizer import TrainingStep

if TYPE_CHECKING:  # a benchmark uses the evaluation alone
    from common.nn.score import Score
    from workers.checkpoint.checkpointing import Checkpointing
    from workers.launch.signals import StopRequest
    from workers.training.step_faults import StepFaults
    from workers.training.task import Task

EVALUATION_ROWS = 512
"""Rows of one forward pass in an evaluation: bounds its memory."""


class Trainer:
    """Runs epochs and evaluations on this rank's rows."""

    def __init__(
        self,
        task: "Task",
        loader: Loader,
        sync: TrainingStep,
        stop: "StopRequest",
        status: RankStatus,
        step_faults: "StepFaults",
        checkpointing: "Checkpointing",
    ) -> None:
        self.config, self.data, self.model, self.loader, self.sync = task.config, task.data, task.model, loader, sync
        self.stop, self.status, self.step_faults, self.checkpointing = stop, status, step_faults, checkpointing
        self.task = task
        self.loss_sum = 0.0
        self.sums = EpochSums()
        self.sample_rate = 0.0
        """Samples a step that the cost of measuring allows, the same on all ranks; see ``n_samples``."""

    @cached_property
    def score(self) -> "Score":
        """By what evaluations judge the model."""
        return self.task.score()

    def rebind(self, loader: Loader) -> None:
        """Continue with the rows that this rank has among other ranks."""
        self.loader = loader
        self.sample_rate = 0.0  # survivors may have had different ones

    def sample(self, rate: float) -> None:
        """Sample so many steps for each step from the next epoch on. Ranks must agree: some samples are collective."""
        self.sample_rate = rate

    def begin(self, done: int) -> None:
        """Be in an epoch of which so many steps are done."""
        self.sums = EpochSums(first=done, steps=done)

    def leave_loop(self, phase: str) -> int:
        """Be outside of the loop, perhaps after an exception; return the steps of the epoch that are done."""
        at = self.status.cells[AT]
        if at != OUTSIDE:
            self.sums.steps = at // N_PHASES
        self.status.enter(phase)
        return self.sums.steps

    def run_epoch(self, epoch: int, done: int = 0) -> EpochSums:
        """Train one epoch, but for the steps that are done. Raises what the synchroniser and StepFaults raise."""
        self.begin(done)
        sums, loader, status, stop, checkpointing = self.sums, self.loader, self.status, self.stop, self.checkpointing
        cells, backward, step = status.cells, self.sync.backward, self.sync.step
        rates = schedules.learning_rates(self.config, epoch, loader.steps)
        sampled = self._sampled_steps()
        loss_sum, rows, weight = exchanged = 0.0, 0, 0.0
        meter = self.sync.meter
        cells[EPOCH] = epoch
        preempted = Preemption.now()
        cells[AT] = at = N_PHASES * done
        start = time.perf_counter()
        for k, batch in enumerate(loader.epoch(epoch, done), done):
            cells[AT] = at + COMPUTE
            sample = k in sampled
            if sample:
                self._begin_step_times(k, start)
            try:
                self.loss_sum = loss = backward(batch, rates[k], sample=sample)
                cells[AT] = at + EXCHANGE
                asked = step(batch, loss, stop=stop.signal != 0, save=checkpointing.due, sample=sample)
                n = batch.n
            except StepError as fault:
                loss_sum, rows, weight = exchanged
                sums.skipped += fault.steps - 1
                loss, n, asked, skipped = self._recovered(fault, batch, rates[k])
                sums.skipped += skipped
                sample = False
            at += N_PHASES
            cells[AT] = at
            loss_sum += loss
            rows += n
            if n and batch.weight is not None:
                weight += float(batch.weight.sum(dtype="f8"))
            if sample:
                meter.step_times.now[END] = time.perf_counter()
                meter.step_times.close_step(k)
            if not meter.open_steps:
                exchanged = loss_sum, rows, weight
            if asked:
                sums.rows, sums.loss_sum, sums.steps = rows, loss_sum, k + 1
                if asked & ASK_STOP:
                    sums.stopped = True
                    break
                status.enter("checkpoint")
                checkpointing.save_in_loop(sums)
                cells[AT] = at
        sums.begin_s, sums.loop_s = start, time.perf_counter() - start
        sums.preemption = Preemption.now() - preempted
        sums.loss_sum, sums.rows, sums.steps = loss_sum, rows, at // N_PHASES
        sums.weight = float(rows) if self.data.weight is None else weight
        sums.learning_rate = rates[sums.steps - 1]
        status.enter("end of epoch")
        return sums

    def _sampled_steps(self) -> frozenset[int]:
        """Return the steps of the next epoch, from 0, whose contributions are measured."""
        n = self.loader.steps if self.sync.meter.samples else 0
        return frozenset(spread(n, n_samples(n, self.sample_rate)))

    def _recovered(self, fault: StepError, batch: Batch, rate: float) -> tuple[float, int, int, int]:
        """Take a step again until it is right; return loss, rows, what was asked for, and 1 if it was left out."""
        stop, save = self.stop, self.checkpointing
        while self.step_faults.recover(fault, lambda: self._not_finite(batch)):
            try:
                self.loss_sum = loss = self.sync.backward(batch, rate, sample=False)
                asked = self.sync.step(batch, loss, stop=stop.signal != 0, save=save.due, sample=False)
            except StepError as again:
                fault = again
            else:
                return loss, batch.n, asked, 0
        return 0.0, 0, 0, 1

    def _begin_step_times(self, k: int, epoch_start: float) -> None:
        step_times, loader, now = self.sync.meter.step_times.now, self.loader, time.perf_counter()
        step_times[BEGIN] = now
        step_times[INPUT] = loader.filled if k % loader.ahead == 0 and loader.filled >= epoch_start else now

    def validate(self, rows: Rows) -> dict[str, Any]:
        """Return the figures of an evaluation of this rank's validation rows."""
        start = time.perf_counter()
        loss_sum, counted = self.evaluate(rows)
        score = self.score.of("validation", counted)
        seconds = time.perf_counter() - start
        return {"validation_loss_sum": loss_sum, "validation_score": score, "evaluation_s": seconds}

    def evaluate(self, rows: Rows, note: Callable[[Rows, Array], object] = do_nothing) -> tuple[float, Array]:
        """Return the sum of losses, and what ``Score`` counts, over the given rows of the data.

        ``note`` is given rows, and the model's outputs for them.
        """
        loss_sum, counted = 0.0, self.score.nothing()
        for start in range(0, len(rows), EVALUATION_ROWS):
            chosen = rows[start : start + EVALUATION_ROWS]
            y, loss, of_rows = read_only(self.data.y[chosen]), self.model.loss, self.data.weight
            weight = () if of_rows is None else (of_rows[chosen],)  # a loss of one's own need not take any
            out = self.model.predict(self.sync.flat.fixed_params, read_only(self.data.x[chosen]))
            loss_sum += loss.sum(out, y, *weight)
            counted += self.score.count(loss, out, y, *weight)
            note(chosen, out)
            self.status.cells[TICK] += 1
        return loss_sum, counted

    def _not_finite(self, batch: Batch) -> list[str]:
        """Return what was not finite on this rank in the step that has just failed: ``loss`` and parameters."""
        return ([] if math.isfinite(self.loss_sum) else ["loss"]) + self.sync.not_finite(batch)
