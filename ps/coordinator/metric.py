"""How well a model predicts the rows of a split, and by what early stopping compares epochs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ps.logfile.records import Record


@dataclass(frozen=True, slots=True)
class Metric:
    """How well rows are predicted: accuracy of classes, R2 = 1 - squared error / spread of a regression.

    ``varies``: by split (validation, test), whether a target varies in it; empty for classes. ``unit``: what sums of
    losses come multiplied with in the log, so that they are in the target's unit. ``mixed``: whether there are targets
    of different scales.
    """

    varies: Mapping[str, bool]
    unit: float = 1.0
    mixed: bool = False

    @property
    def name(self) -> str:
        """What the log calls it."""
        return "r2" if self.varies else "accuracy"

    def of(self, split: str, score_sum: float, n: int) -> float | None:
        """Return its value over the n rows of a split; None where no target varies.

        ``score_sum``: rows classified right; or squared errors over spread, averaged over the targets.
        """
        if not self.varies:
            return float(score_sum / n)
        return float(1 - score_sum) if self.varies[split] and math.isfinite(score_sum) else None

    def judged(self, record: Record) -> float | None:
        """Return by what early stopping compares epochs, the less the better: the validation loss.

        Of targets of different scales that is the loss of the largest almost alone; so it is 1 - R2 there.
        """
        loss, value = record["validation_loss"], record["validation_metric"]
        judged: float | None = 1 - value if self.mixed and value is not None else loss
        return judged
