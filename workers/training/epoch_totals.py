"""What all ranks did of an epoch, kept by every one of them where the others may die."""

from common.data.loader import Batch
from common.errors import StepError
from common.flat import Slot
from common.nn.optimizers import Optimizer
from common.rank_status import AT, N_PHASES
from ps.metrics.epoch_sums import DoneBefore
from ps.sync.served.messages import NO_TICKET
from ps.sync.served.synchronizer import ServedSync
from ps.sync.synchronizer import Synchronizer, TrainingStep
from workers.checkpoint.checkpointing import StepsDone
from workers.checkpoint.job_state import JobState

LOSS_SUM = int(Slot.LOSS_SUM)


class EpochTotals:
    """Sits between the training loop and its synchroniser, and adds up what the steps' packets say.

    ``rows``, ``loss_sum``: of all ranks, in the steps of the epoch since ``begin``. ``begun``: whether a step has begun
    and not ended.
    """

    def __init__(self, inner: TrainingStep) -> None:
        self.inner = inner
        self.flat, self.meter = inner.flat, inner.meter
        self.begun = False
        self.rows, self.loss_sum = 0, 0.0
        self._open_rows = 0
        """Of steps since the ranks last exchanged, whose losses are not known here yet."""

    def begin(self) -> None:
        """Begin to add up again."""
        self.rows, self.loss_sum, self._open_rows = 0, 0.0, 0

    def abandon_step(self) -> bool:
        """Forget a step that has begun and will not end; return whether there was one."""
        begun, self.begun = self.begun, False
        return begun

    def backward(self, batch: Batch, lr: float, *, sample: bool) -> float:
        """See Synchronizer."""
        self.begun = True
        return self.inner.backward(batch, lr, sample=sample)

    def step(self, batch: Batch, loss_sum: float, *, stop: bool, sample: bool, save: bool = False) -> int:
        """See Synchronizer."""
        try:
            asked = self.inner.step(batch, loss_sum, stop=stop, sample=sample, save=save)
        except StepError:
            self.begun, self._open_rows = False, 0  # whoever recovers from it takes back the step's beginning
            raise
        self.begun = False
        self._open_rows += batch.total
        if not self.meter.open_steps:
            self.rows, self._open_rows = self.rows + self._open_rows, 0
            self.loss_sum += float(self.flat.status[LOSS_SUM])
        return asked

    def not_finite(self, batch: Batch) -> list[str]:
        """See Synchronizer."""
        return self.inner.not_finite(batch)


class StepCount(EpochTotals):
    """Says besides, to another thread, of which step the parameters are while a gradient is computed.

    ``turn``: another number whenever they may have changed since.
    """

    def __init__(self, inner: TrainingStep, state: JobState, optimizer: Optimizer, cells: "memoryview[int]") -> None:
        """``cells``: see RankStatus."""
        super().__init__(inner)
        self.turn = 0
        self._state, self._optimizer, self._cells = state, optimizer, cells
        self._computing, self._t = False, 0

    def backward(self, batch: Batch, lr: float, *, sample: bool) -> float:
        """See Synchronizer."""
        self._t = self._optimizer.t  # which the next line counts on, though nothing is updated yet
        self._computing = True
        try:
            return super().backward(batch, lr, sample=sample)
        except BaseException:  # whoever recovers from it may change parameters
            self._leave()
            raise

    def step(self, batch: Batch, loss_sum: float, *, stop: bool, sample: bool, save: bool = False) -> int:
        """See Synchronizer."""
        self._leave()
        return super().step(batch, loss_sum, stop=stop, sample=sample, save=save)

    def _leave(self) -> None:
        self._computing = False
        self.turn += 1

    def is_unchanged(self, turn: int) -> bool:
        """Say whether the parameters are as they were then."""
        return self.turn == turn

    def done(self) -> StepsDone | None:
        """Return what the parameters are the result of; None while they may change. True if ``turn`` stays the same."""
        if not self._computing:
            return None
        before, steps = self._state.before, self._cells[AT] // N_PHASES
        done = DoneBefore(steps, before.rows + self.rows, before.loss_sum + self.loss_sum)
        return StepsDone(self._state.epoch, done, dict.fromkeys(self._optimizer.counts(), self._t))


class RoundTotals(EpochTotals):
    """The same where rank 0 serves, and ranks are out of step: rank 0 knows, when a round is over."""

    def __init__(self, inner: TrainingStep, served: ServedSync) -> None:
        super().__init__(inner)
        self._served = served

    def step(self, batch: Batch, loss_sum: float, *, stop: bool, sample: bool, save: bool = False) -> int:
        """See Synchronizer."""
        asked = self.inner.step(batch, loss_sum, stop=stop, sample=sample, save=save)
        self.begun = False
        if self._served.ticket == NO_TICKET:
            rows, loss = self._served.used
            self.rows, self.loss_sum = self.rows + rows, self.loss_sum + loss
        return asked


def totals_of(step: TrainingStep, sync: Synchronizer) -> EpochTotals:
    """Return what adds up an epoch of this mode. ``step``: the synchroniser, or what stands before it."""
    return RoundTotals(step, sync) if isinstance(sync, ServedSync) else EpochTotals(step)
