"""The training loop of a rank; knows the protocols of model and synchroniser, no MPI."""

import time
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from common import schedules
from common.batches import Batches, sampled_steps
from common.config import RunConfig
from common.dataset import Dataset, Rows
from common.flat import Array, Flat
from common.models import Model

EVALUATION_ROWS = 512
"""Rows of one forward pass in an evaluation: bounds its memory."""


class Synchronizer(Protocol):
    """What the loop needs of a sync mode."""

    sampling_s: float

    def ready(self, name: str) -> None:
        """Take notice that a parameter's gradient is final."""

    def step(self, lr: float, loss_sum: float, n_rows: int, *, stop: bool, sample: bool) -> bool:
        """Exchange and update; return whether all ranks stop now."""


class StopRequest(Protocol):
    """Whether this rank was asked to stop: ``signal`` is not 0."""

    signal: int


class Progress(Protocol):
    """Where training is, kept up to date for messages; ``step`` counts from 1 within the epoch, 0 is outside."""

    epoch: int
    step: int


@dataclass(slots=True)
class EpochSums:
    """This rank's part of an epoch."""

    rows: int = 0
    loss_sum: float = 0.0
    loop_s: float = 0.0
    steps: int = 0
    learning_rate: float = 0.0
    sampled: list[int] = field(default_factory=list)
    stopped: bool = False


def _ignore(name: str) -> None:
    """Take no notice of a finished gradient."""


class Trainer:
    """Runs epochs and evaluations on this rank's rows."""

    def __init__(
        self,
        config: RunConfig,
        data: Dataset,
        model: Model,
        flat: Flat,
        batches: Batches,
        sync: Synchronizer,
        stop: StopRequest,
        progress: Progress,
    ) -> None:
        self.config = config
        self.data = data
        self.model = model
        self.flat = flat
        self.batches = batches
        self.sync = sync
        self.stop = stop
        self.progress = progress
        self.batch: tuple[Array, Array] = (data.x[:0], data.y[:0])
        self._buffers: dict[int, tuple[Array, Array]] = {}

    def run_epoch(self, epoch: int) -> EpochSums:
        """Train one epoch. Raises what the synchroniser raises; ``batch`` is then the one it happened on."""
        sums, sync, flat = EpochSums(), self.sync, self.flat
        n_steps = self.batches.steps_per_epoch
        sample = set(sampled_steps(n_steps))
        self.progress.epoch = epoch
        start = time.perf_counter()
        for k, positions in enumerate(self.batches.epoch(epoch)):
            self.progress.step = k + 1
            self.batch = self.take(self.data.train[positions])
            # a sampled step measures this rank's own gradient first, so nothing of it may go out early
            ready = _ignore if k in sample else sync.ready
            loss_sum = self.model.loss_grad(flat.p, *self.batch, flat.g, ready)
            sums.learning_rate = schedules.learning_rate(self.config, (epoch - 1) * n_steps + k, n_steps)
            sums.stopped = sync.step(
                sums.learning_rate, loss_sum, len(positions), stop=bool(self.stop.signal), sample=k in sample
            )
            sums.rows += len(positions)
            sums.loss_sum += loss_sum
            sums.steps += 1
            if k in sample:
                sums.sampled.append(k + 1)
            if sums.stopped:
                break
        sums.loop_s = time.perf_counter() - start
        self.progress.step = 0
        return sums

    def evaluate(self, rows: Rows) -> tuple[float, int]:
        """Return (sum of losses, rows classified right) over the given rows of the data."""
        loss_sum, correct = 0.0, 0
        for start in range(0, len(rows), EVALUATION_ROWS):
            x, y = self.take(rows[start : start + EVALUATION_ROWS])
            out = self.model.predict(self.flat.p, x)
            loss_sum += self.model.loss.sum(out, y)
            correct += self.model.loss.correct(out, y)
        return loss_sum, correct

    def not_finite(self) -> list[str]:
        """Repeat the last step's gradient on this rank's batch; return what is not finite: ``loss`` and parameters."""
        loss_sum = self.model.loss_grad(self.flat.p, *self.batch, self.flat.g, _ignore)
        names = ["loss"] if not np.isfinite(loss_sum) else []
        return names + [name for name, gradient in self.flat.g.items() if not np.isfinite(gradient).all()]

    def take(self, rows: Rows) -> tuple[Array, Array]:
        """Copy rows of the data into buffers that are reused for every batch of that size."""
        n = len(rows)
        if n not in self._buffers:
            x, y = self.data.x, self.data.y
            self._buffers[n] = np.empty((n, *x.shape[1:]), x.dtype), np.empty((n, *y.shape[1:]), y.dtype)
        x, y = self._buffers[n]
        # mode clip writes straight into the buffer; the default takes a detour over a copy
        np.take(self.data.x, rows, axis=0, out=x, mode="clip")
        np.take(self.data.y, rows, axis=0, out=y, mode="clip")
        return x, y
