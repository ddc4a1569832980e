"""Mode ``local``: every rank takes steps on its own rows, and parameters are averaged every so many steps.

Local SGD (arXiv 1805.09767) with what is done to the average by block momentum (BMUF: Chen & Huo, ICASSP 2016) or
DiLoCo (arXiv 2311.08105), which are the same up to where the parameters are looked at.
"""

import math
import time
from typing import Any

import numpy as np

from common.checksum import is_finite
from common.config import WIRES, RunConfig
from common.data.loader import Batch
from common.data.row_table import RowTable
from common.errors import NotFiniteError, ReplicasDivergedError
from common.flat import ASK_SAVE, ASK_STOP, BLOCK, Flat, Slot, blocks
from ps.comm.topology import Topology
from ps.sync.allreduce import MODE as ALLREDUCE
from ps.sync.chosen_sum import ChosenSum
from ps.sync.local_group import NodeGroup
from ps.sync.local_state import LocalState
from ps.sync.mode import Mode
from ps.sync.reducer import Reducer
from ps.sync.replica_check import RotatingChecksum, agree
from ps.sync.replicated import ReplicatedSync
from ps.sync.ring import WiredSum
from ps.sync.synchronizer import SyncSetup
from ps.sync.training_state import TrainingState
from ps.sync.wires import EXACT

LOSS_SUM, STOP, SAVE = int(Slot.LOSS_SUM), int(Slot.STOP), int(Slot.SAVE)
RESET, AVERAGE, KEEP = "reset", "average", "keep"
BY_OPTIMIZER = {"adam": KEEP, "adamw": KEEP}


class LocalSync(ReplicatedSync):
    """Steps of this rank alone, each with the mean gradient of its own rows; rounds of them end with an average.

    A round has ``sync_every`` steps, or those to the end of the epoch. What travels at its end is how far this rank has
    come, x_i - w, times its share of the round's rows: the sum d is where the average lies from w. Then
    v = mu v + d, w += rate (d + mu v) (Nesterov's form, with the sign of a movement: w += d without momentum, at rate
    1, is the average), and x_i = w on all ranks.

    A round that was not finite on any rank, or whose ranks began it from different parameters, comes to nothing.
    """

    state: LocalState

    def __init__(self, setup: SyncSetup) -> None:
        config = setup.config
        self._every, self._outer_rate, self._outer_momentum = (
            config.sync_every, config.outer_rate, config.outer_momentum
        )  # fmt: skip
        self._moments = moments_at_averages(config)
        self._at = self._steps = 0
        """Steps of the epoch that are done, and all."""
        super().__init__(ChosenSum if config.wire == EXACT else WiredSum, setup)
        state = self.state
        state.repaired = self._repaired
        self.meter.samples = False
        self._tmp = np.empty(min(BLOCK, self.flat.n), self.flat.dtype)
        parts = (blocks(v) for v in (self.flat.param_vector, state.common, self.flat.grad_vector))
        velocity = blocks(state.velocity) or [self._tmp] * len(self._grads)
        self._blocks = list(zip(*parts, velocity, strict=True))
        self._faults: list[str] = []
        """What was not finite on this rank in the round."""
        self._broken = False
        """Whether the round will come to nothing, as far as this rank knows."""
        self._dropped = False
        """Whether the last step that began has dropped a round."""
        self._sent = 0
        self._begin_round()
        self._begin_figures()

    def _state(self, setup: SyncSetup, flat: Flat) -> TrainingState:
        plain = super()._state(setup, flat)
        return LocalState(
            plain.comm, flat, plain.optimizer, plain.ranges,
            outer_momentum=self._outer_momentum > 0, averages_moments=self._moments == KEEP,
        )  # fmt: skip

    def _join(self, topology: Topology, counts: RowTable, *more: Any) -> Reducer:
        self._steps = counts.steps
        together = self._config.local_group == "node" and topology.local.size > 1
        self._group = NodeGroup(topology.local, self.flat.packet) if together else None
        self._group_sent = self._group.sent_bytes if self._group and topology.count == 1 else 0
        return super()._join(topology, counts, *more)

    def _make_checksum(self, steps: int) -> RotatingChecksum:
        return RotatingChecksum(self.state.common, self.comm.rank, self.comm.size, -(-steps // self._every))

    def recount(self, counts: RowTable) -> None:
        """See Synchronizer."""
        super().recount(counts)
        self._steps = counts.steps

    def seek(self, step: int) -> None:
        """See Synchronizer."""
        super().seek(step // self._every)
        self._at = step

    def facts(self) -> dict[str, Any]:
        """See Synchronizer."""
        return {**super().facts(), "moments": self._moments}

    def sent_in(self, steps: int) -> int:  # noqa: ARG002
        """See Synchronizer. Only averages send anything."""
        sent, self._sent = self._sent, 0
        return sent

    def backward(self, batch: Batch, lr: float, *, sample: bool) -> float:  # noqa: ARG002
        """See Synchronizer. The gradient is the mean of this rank's rows, or of its node's; without any it has none."""
        if self._dropped:
            self._dropped, self._broken, self._faults = False, False, []
        if self._at >= self._steps:
            self._at = 0
        self._factor = self._optimizer.begin(lr)
        if self._broken or not (batch.n or self._group):
            return 0.0
        self._scale = self._factor / (batch.total if self._group else batch.n)
        gradient = self._work.get(batch)
        if gradient is None:
            gradient = self._work[batch] = self._gradient(batch.n)
        return gradient.loss_grad(batch, self._scale, None)

    def step(
        self,
        batch: Batch,
        loss_sum: float,
        *,
        stop: bool,
        sample: bool,  # noqa: ARG002
        save: bool = False,
    ) -> int:
        """See Synchronizer. Only an average tells what any rank asked for."""
        self._at += 1
        rows = 0.0 if self._broken else self._sum_in_group(batch, loss_sum) if self._group else batch.n
        if rows:
            self._broken = not (math.isfinite(rows) and self._update_own(loss_sum))
        self._own_rows += batch.n
        self._all_rows += batch.total
        self._loss_sum += loss_sum
        if self._at % self._every and self._at < self._steps:
            self.meter.open_steps += 1
            return 0
        return self._average(stop=stop, save=save)

    def _update_own(self, loss_sum: float) -> bool:
        """Apply this rank's gradient to its parameters; say whether it was finite."""
        fine = math.isfinite(loss_sum)
        if fine and self.clip:
            try:
                self._clip()
            except NotFiniteError:
                fine = False
        update = self._optimizer.update
        for i, grad in enumerate(self._grads if fine else ()):
            fine = fine and is_finite(grad)
            if fine:
                update(i, grad)
        if not fine:
            self._name(loss_sum)
        return fine

    def _sum_in_group(self, batch: Batch, loss_sum: float) -> float:
        """Average the gradients of the ranks that take steps together; return their rows, NaN if one is not finite."""
        assert self._group is not None
        begin = time.perf_counter()
        rows = self._group.sum(batch.n if math.isfinite(loss_sum) else math.nan)
        self._sent += self._group_sent
        self.meter.reduce_s += time.perf_counter() - begin
        if not (math.isfinite(rows) and all(map(is_finite, self._grads))):
            self._gradient(batch.n).loss_grad(batch, self._scale, None)  # this rank's own once more
            self._name(loss_sum)
            return math.nan
        if rows:
            np.multiply(self.flat.grad_vector, batch.total / rows, out=self.flat.grad_vector)
        return rows

    def _name(self, loss_sum: float) -> None:
        """Keep what is not finite in this rank's gradient."""
        names = [*([] if math.isfinite(loss_sum) else ["loss"]), *self._not_finite()]
        self._faults = [*names[:-1], *(f"{name} in step {self._at}" for name in names[-1:])]

    def _average(self, *, stop: bool, save: bool) -> int:
        """Bring the ranks together; return what any of them asked for. Raises StepError on all ranks."""
        status, share = self.flat.status, self._own_rows / self._all_rows
        if self._moments == AVERAGE:  # first: whoever dies meanwhile leaves the parameters as they were
            self._average_moments(share)
        square = self._pack(share)
        status[LOSS_SUM] = math.nan if self._broken else self._loss_sum
        status[STOP] = stop
        status[SAVE] = save
        if self._checksum:
            self._checksum.stamp(status)
        arrived = time.perf_counter()
        self._reducer.sum()
        left = time.perf_counter()
        self._sent += self.sent_bytes
        steps = self.meter.open_steps + 1
        if self._checksum and not agree(status):
            self._drop_round()
            raise ReplicasDivergedError(steps)
        if not math.isfinite(status[LOSS_SUM]) or not all(map(is_finite, self._grads)):
            self._drop_round()
            raise NotFiniteError(steps)
        self._reducer.accept()
        self._timer.add(arrived, left)
        self._move(share, square)
        self._begin_round()
        if self._moments == RESET:
            self.state.reset_optimizer()
        return (ASK_STOP if status[STOP] else 0) | (ASK_SAVE if status[SAVE] else 0)

    def _pack(self, share: float) -> float:
        """Put this rank's part of the average's movement in the packet; return |x_i - w|^2."""
        square = 0.0
        for own, common, moved, _ in self._blocks:
            np.subtract(own, common, out=moved)
            square += float(moved.dot(moved))
            np.multiply(moved, share, out=moved)
        return square

    def _move(self, share: float, square: float) -> None:
        """Move the common parameters by the sum in the packet, and those of this rank to them."""
        momentum, rate, common_square, along, whole = self._outer_momentum, self._outer_rate, 0.0, 0.0, 0.0
        for own, common, moved, velocity in self._blocks:
            tmp = self._tmp[: len(own)]
            common_square += float(common.dot(common))
            np.subtract(own, common, out=tmp)
            along += float(tmp.dot(moved))
            whole += float(moved.dot(moved))
            if momentum:
                np.multiply(velocity, momentum, out=velocity)
                np.add(velocity, moved, out=velocity)
                np.multiply(velocity, momentum, out=tmp)
                np.add(moved, tmp, out=moved)
            if rate != 1:
                np.multiply(moved, rate, out=moved)
            np.add(common, moved, out=common)
            np.copyto(own, common)
        self._averages += 1
        self._drift += math.sqrt(square / common_square) if common_square else math.nan
        self._along += share * along
        self._whole += whole

    def _average_moments(self, share: float) -> None:
        """Replace the optimizer's state on each rank by the mean over all ranks' rows."""
        for own_blocks in self._optimizer.state().values():
            for block, part in zip(own_blocks, self._grads, strict=True):
                np.multiply(block, share, out=part)
            self._reducer.sum_exactly()
            self._sent += round(self.sent_bytes * self._reducer.exact_ratio)
            for block, part in zip(own_blocks, self._grads, strict=True):
                np.copyto(block, part)

    def _begin_round(self) -> None:
        self._own_rows = self._all_rows = self.meter.open_steps = 0
        self._loss_sum = 0.0

    def _drop_round(self) -> None:
        """Be where the round began, on all ranks; moments, which may not be finite, begin anew."""
        if not self._broken:
            self._faults = [name for name, own in self.flat.params.items() if not np.isfinite(own).all()]
        self._dropped = True
        np.copyto(self.flat.param_vector, self.state.common)
        self.state.reset_optimizer()
        self._optimizer.t = 1  # the step has begun, which whoever recovers takes back
        self._begin_round()

    def take_back(self) -> int:
        """See Synchronizer."""
        steps = self.meter.open_steps
        np.copyto(self.flat.param_vector, self.state.common)
        if self._moments == RESET:
            self.state.reset_optimizer()
        else:
            self._optimizer.t -= steps
        self._broken, self._faults = False, []
        self._begin_round()
        return steps

    def _repaired(self) -> None:
        """Take the step again that has dropped the round."""
        if self._dropped:
            self._at -= 1

    def not_finite(self, batch: Batch) -> list[str]:  # noqa: ARG002
        """See Synchronizer. Of the round that was dropped."""
        return self._faults

    def epoch_figures(self) -> dict[str, float]:
        """See Synchronizer. Where an epoch was no round here, nothing."""
        if not self._averages:
            return {}
        figures = {
            "pushes": self._averages,
            "drift": self._drift / self._averages,
            "update_share": self._along / self._whole if self._whole else math.nan,
        }
        self._begin_figures()
        return figures

    def _begin_figures(self) -> None:
        self._averages = 0
        self._drift = self._along = self._whole = 0.0


def moments_at_averages(config: RunConfig) -> str:
    """Return what becomes of the optimizer's state at an average."""
    return BY_OPTIMIZER.get(config.optimizer, RESET) if config.local_momentum == "auto" else config.local_momentum


MODE = Mode(
    name="local",
    help="ranks take --sync-every steps on their own rows, then parameters are averaged",
    build=LocalSync,
    cost=ALLREDUCE.cost,
    exact=False,
    apart=False,
    algorithms=ChosenSum.algorithms,
    wires=WIRES,
    more_vectors=lambda config: 1 + (config.outer_momentum > 0),
)
