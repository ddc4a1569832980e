"""What a sync mode is to the training loop, and what all modes share."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from common.config import RunConfig
from common.data.loader import Batch, RowCounts
from common.data.row_table import RowTable
from common.flat import Array, Flat
from common.nn import models, optimizers
from common.nn.mlp import Mlp
from common.nn.models import Gradient, Model
from common.nn.optimizers import Optimizer
from common.step_times import BACKWARD, FORWARD
from ps.comm.topology import Topology
from ps.metrics.contribution import GradBlock, StepRows
from ps.metrics.step_meter import StepMeter
from ps.metrics.sync_timer import SyncTimer
from ps.sync.training_state import TrainingState


@dataclass(frozen=True, slots=True)
class SyncSetup:
    """What a synchroniser is made of.

    ``counts``: the rows of each rank in each step of an epoch. ``make_optimizer``: of the configuration and the blocks
    of parameters that this rank updates. ``kept_way``: how the run that is resumed summed. ``tick`` is called while the
    way to sum is found out, which may take long.
    """

    topology: Topology
    model: Model | Mlp
    config: RunConfig
    timer: SyncTimer
    counts: RowTable
    make_optimizer: Callable[[RunConfig, Sequence[Array]], Optimizer] = optimizers.build
    kept_way: str = ""
    tick: Callable[[], object] = lambda: None


class TrainingStep(Protocol):
    """What the training loop needs of a synchroniser, or of what stands between it and one."""

    flat: Flat
    meter: StepMeter

    def backward(self, batch: Batch, lr: float, *, sample: bool) -> float:
        """Compute this rank's gradient; return its sum of losses."""

    def step(self, batch: Batch, loss_sum: float, *, stop: bool, sample: bool, save: bool = False) -> int:
        """Exchange and update; return what any rank asked for, as bits. Raises StepError on all ranks."""

    def not_finite(self, batch: Batch) -> list[str]:
        """Return the parameters whose gradient on this rank, in the step that has just failed, is not finite."""


class Synchronizer(TrainingStep):
    """How a mode makes one training out of many: made once per run, with the memory training happens in.

    This class has what the modes share: the gradient of this rank, and how it is measured. A mode adds ``backward``,
    ``step``, ``_plain_sum``, ``seek`` and ``close``.
    """

    sent_bytes: int
    """Payload bytes this rank hands to MPI, or writes to memory for others, in one step."""
    exchanged_bytes: int
    """Bytes of the vector that a step sums."""
    expendable = True
    """Whether the others have all that this rank has, and can continue without it (``--elastic``)."""

    def __init__(self, setup: SyncSetup, state: TrainingState) -> None:
        self.model, self.state, self.flat, self.comm = setup.model, state, state.flat, state.comm
        self._optimizer, self._timer = state.optimizer, setup.timer  # one look-up less in each step
        self.clip = setup.config.clip
        self.meter = StepMeter(setup.timer, [view.size for view in self.flat.params.values()])
        self.row_counts = own_rows(setup.counts, self.comm.rank)
        """How many rows each step has, and where they lie."""
        self._factor, self._scale = 1.0, 1.0
        self._gradients: dict[int, Gradient] = {}
        self._measured: list[GradBlock] = []
        self._plain_sums = 0
        """So many since ``sent_in``."""

    def facts(self) -> dict[str, Any]:
        """Return what the log says of it: phases of an update, layers formed from factors, how it sums."""
        return {"phases": 1, "factored": [], "sum": None}

    def sent_in(self, steps: int) -> int:
        """Return the payload bytes of so many steps and of the sums that measured them, and begin again."""
        plain, self._plain_sums = self._plain_sums, 0
        return self.sent_bytes * (steps + plain)

    def epoch_figures(self) -> dict[str, float]:
        """Return this rank's figures of the epoch that has ended, and begin again: nothing where ranks keep in step.

        They are the ``loose`` ones of ``ps/logfile/epoch_fields.py``, by name; those left out are not logged.
        """
        return {}

    def allocate_rows(self, rows: int, columns: int) -> Array:
        """Return memory for the features of the steps: private, unless a mode shares it. Collective."""
        return np.empty((rows, columns), self.flat.dtype)

    def recount(self, counts: RowTable) -> None:
        """Take other numbers of rows on each rank from here on. Between two epochs; on all ranks."""
        self.row_counts = own_rows(counts, self.comm.rank)

    def seek(self, step: int) -> None:
        """Begin an epoch at a step of it."""
        raise NotImplementedError

    def close(self) -> None:
        """Give back what MPI holds; nothing may be under way. Collective."""
        raise NotImplementedError

    def take_back(self) -> int:
        """Be where the ranks last exchanged, without the others; return how many steps that takes back."""
        return 0

    def not_finite(self, batch: Batch) -> list[str]:
        """See TrainingStep. The parameters have not changed, so the gradient can be computed again."""
        self._gradient(batch.n).loss_grad(batch, self._scale, None)
        return self._not_finite()

    def _not_finite(self) -> list[str]:
        return [name for name, gradient in self.flat.grads.items() if not np.isfinite(gradient).all()]

    def _gradient(self, n: int) -> Gradient:
        if n not in self._gradients:
            self._gradients[n] = models.gradient(self.model, self.flat, n)
        return self._gradients[n]

    def _timed_gradient(self, gradient: Gradient, batch: Batch) -> float:
        """Compute the gradient with the clock between its halves."""
        now = self.meter.step_times.now
        loss_sum = gradient.forward(batch, self._scale)
        now[FORWARD] = time.perf_counter()
        gradient.backward(batch, None)
        now[BACKWARD] = time.perf_counter()
        return loss_sum

    def _measure(self, batch: Batch) -> None:
        """Compare this rank's gradient with the sum. Collective where ranks had unequal rows.

        S, the sum of all ranks' mean gradients, then takes a sum of its own.
        """
        contributions, rows = self.meter.contributions, StepRows(batch.n, batch.total, batch.active)
        contributions.measure(self._measured, rows, self._scale, self.comm.size if batch.equal else 0)
        if batch.equal:
            return
        with self._plain_sum(1 / (self._scale * batch.n) if batch.n and self._scale else 0.0):
            contributions.measure_plain((i, sums) for i, _, sums in self._measured)
        self._plain_sums += 1

    def _plain_sum(self, factor: float) -> AbstractContextManager[None]:
        """Put the sum of the ranks' own gradients, each times its factor, in place of the step's, and that back.

        It is summed in the mode's own way. Collective.
        """
        raise NotImplementedError


def own_rows(counts: RowTable, rank: int) -> RowCounts:
    """Return the rows of each step where a rank keeps its own to itself."""
    own = counts.rows(rank)
    total, equal, active = counts.figures()
    return RowCounts(own, total, own, np.zeros_like(own), equal, active)
