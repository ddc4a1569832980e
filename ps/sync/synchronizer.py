"""What a sync mode is to the rest of the program, and what all modes share."""

import time
from typing import Any, Protocol

import numpy as np

from common.config import RunConfig
from common.data.loader import Batch, RowCounts
from common.flat import Array, Flat, blocks
from common.nn import models, optimizers
from common.nn.mlp import Mlp
from common.nn.models import Gradient, Model
from common.step_times import BACKWARD, FORWARD, StepTimes
from ps.comm.collectives import MAX_BYTES, bcast
from ps.comm.topology import Topology
from ps.metrics.contribution import ContributionMeter, StepRows
from ps.metrics.sync_timer import SyncTimer
from ps.sync.training_state import KEPT, TrainingState


class Synchronizer(Protocol):
    """How a mode makes one training out of many: made once per run, with the memory training happens in."""

    flat: Flat
    optimizer: optimizers.Optimizer
    sampling_s: float
    """Seconds spent on measuring contributions in this epoch, apart from synchronising."""
    meter: ContributionMeter
    step_times: StepTimes
    copies: list[int]
    """By rank: which rank's copy of the parameters it has; its own, or that of its node."""
    reduce_s: float
    """Seconds spent on summing and updating this rank's slices in this epoch, where that is not a call of MPI."""
    sent_bytes: int
    """Payload bytes this rank hands to MPI, or writes to memory for others, in one step."""

    def plan(self) -> RowCounts:
        """Say where the rows of each step lie."""

    def allocate_rows(self, rows: int, columns: int) -> Array:
        """Return memory for the features."""

    def broadcast(self) -> None:
        """Give every rank rank 0's parameters."""

    def backward(self, batch: Batch, lr: float, *, sample: bool) -> float:
        """Compute this rank's gradient; return its sum of losses."""

    def step(self, batch: Batch, loss_sum: float, *, stop: bool, sample: bool, save: bool = False) -> int:
        """Exchange and update; return what any rank asked for, as bits. Raises NotFiniteError on all ranks."""

    def not_finite(self, batch: Batch) -> list[str]:
        """Return the parameters whose gradient on this rank, in the step that has just failed, is not finite."""

    def check_parameters(self) -> tuple[int, bool]:
        """Return a 48-bit checksum of this rank's copy of the parameters, and whether those it updates are finite."""

    def snapshot_best(self) -> None:
        """Remember the parameters as they are now, in place of those remembered before."""

    def restore_best(self) -> None:
        """Put back what ``keep`` remembered. Collective."""

    def vectors(self) -> list[tuple[str, list[Array]]]:
        """Return this rank's blocks of what goes with the parameters, by name, the same on all ranks."""

    def capture(self) -> TrainingState | None:
        """Return a copy of the state of training at rank 0, None elsewhere. Collective."""

    def load(self, state: TrainingState | None) -> None:
        """Take a state up, which rank 0 has. Collective."""

    def undo_begin(self) -> None:
        """Take back the beginning of a step that changed nothing."""

    def repair(self, odd_ranks: list[int]) -> None:
        """Give some ranks the parameters and the optimizer's state of the others. Collective."""

    def seek(self, step: int) -> None:
        """Begin an epoch at a step of it."""

    def facts(self) -> dict[str, Any]:
        """Return what the log says of it: phases of an update, and layers whose gradient is formed from factors."""

    def close(self) -> None:
        """Give back what MPI holds; nothing may be under way. Collective."""


class SynchronizerBase:
    """What the modes share: this rank's own gradient, in memory the mode gives.

    ``counts``: (ranks, steps), the rows of each rank in each step of an epoch.
    """

    optimizer: optimizers.Optimizer

    def __init__(
        self, topology: Topology, model: Model | Mlp, config: RunConfig, timer: SyncTimer, counts: Array, flat: Flat
    ) -> None:
        self.counts = counts
        self.comm = topology.comm
        self.model = model
        self.timer = timer
        self.flat = flat
        self.clip = config.clip
        self.meter = ContributionMeter([view.size for view in flat.params.values()])
        self.step_times = StepTimes()
        self.copies = list(range(topology.comm.size))
        self.sampling_s = self.reduce_s = 0.0
        self._factor, self._scale = 1.0, 1.0
        self._gradients: dict[int, Gradient] = {}
        self._kept: list[Array] = []

    def plan(self) -> RowCounts:
        """Keep this rank's rows to itself."""
        own = self.counts[self.comm.rank]
        return RowCounts(own, self.counts.sum(axis=0), own, np.zeros_like(own), (self.counts == own).all(axis=0),
                    (self.counts > 0).sum(axis=0))  # fmt: skip

    def allocate_rows(self, rows: int, columns: int) -> Array:
        """Return private memory."""
        return np.empty((rows, columns), self.flat.dtype)

    def not_finite(self, batch: Batch) -> list[str]:
        """See Synchronizer. The parameters have not changed, so the gradient can be had again."""
        self._gradient(batch.n).loss_grad(batch, self._scale, None)
        return self._not_finite()

    def _not_finite(self) -> list[str]:
        return [name for name, gradient in self.flat.grads.items() if not np.isfinite(gradient).all()]

    def snapshot_best(self) -> None:
        """See Synchronizer. The memory is taken when it is first needed."""
        parts = self.own_parameters()
        if not self._kept:
            self._kept = [np.empty_like(part) for part in parts]
        for kept, part in zip(self._kept, parts, strict=True):
            np.copyto(kept, part)

    def restore_best(self) -> None:
        """See Synchronizer."""
        for kept, part in zip(self._kept, self.own_parameters(), strict=True):
            np.copyto(part, kept)

    def own_parameters(self) -> list[Array]:
        """Return views of the parameters that this rank updates, in the optimizer's blocks: all of them."""
        return blocks(self.flat.param_vector)

    def facts(self) -> dict[str, Any]:
        """See Synchronizer."""
        return {"phases": 1, "factored": []}

    def undo_begin(self) -> None:
        """See Synchronizer."""
        self.optimizer.undo_begin()

    def seek(self, step: int) -> None:
        """See Synchronizer."""

    def vectors(self) -> list[tuple[str, list[Array]]]:
        """See Synchronizer."""
        return [*sorted(self.optimizer.state().items()), *([(KEPT, self._kept)] if self._kept else [])]

    def _load_vectors(self, state: TrainingState | None, own: list[slice]) -> None:
        """Fill the blocks of ``vectors``, which lie at ``own`` in the whole vectors that rank 0 has. Collective."""
        if bcast(self.comm, state is not None and KEPT in state.vectors):
            self.snapshot_best()
        for name, parts in self.vectors():
            whole = np.empty(self.flat.n, self.flat.dtype) if state is None else state.vectors[name]
            for piece in blocks(whole, MAX_BYTES // whole.itemsize):
                self.comm.Bcast(piece)
            for part, where in zip(parts, own, strict=True):
                np.copyto(part, whole[where].reshape(part.shape))
        self.optimizer.restore(bcast(self.comm, None if state is None else state.counts))

    def _timed_gradient(self, run: Gradient, batch: Batch) -> float:
        """Compute the gradient with the clock between its halves."""
        step_times = self.step_times.now
        loss_sum = run.forward(batch, self._scale)
        step_times[FORWARD] = time.perf_counter()
        run.backward(batch, None)
        step_times[BACKWARD] = time.perf_counter()
        return loss_sum

    def _rows(self, batch: Batch) -> StepRows:
        return StepRows(batch.n, batch.total, batch.active)

    def _gradient(self, n: int) -> Gradient:
        if n not in self._gradients:
            self._gradients[n] = models.gradient(self.model, self.flat, n)
        return self._gradients[n]
