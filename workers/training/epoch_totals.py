"""What all ranks did of an epoch, kept by every one of them where the others may die."""

from common.data.loader import Batch
from common.errors import StepError
from common.flat import Slot
from ps.sync.synchronizer import TrainingStep

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

    def begin(self) -> None:
        """Begin to add up again."""
        self.rows, self.loss_sum = 0, 0.0

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
            self.begun = False  # whoever recovers from it takes back the step's beginning
            raise
        self.begun = False
        self.rows += batch.total
        self.loss_sum += float(self.flat.status[LOSS_SUM])
        return asked

    def not_finite(self, batch: Batch) -> list[str]:
        """See Synchronizer."""
        return self.inner.not_finite(batch)
