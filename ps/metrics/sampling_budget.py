"""How many steps of the next epochs may be sampled, from what sampling has cost so far."""

from statistics import fmean

from common.step_times import SAMPLED_TIME
from ps.logfile.records import Record


class SamplingBudget:
    """Keeps what a step takes and what sampling adds to it, each averaged over the epochs.

    The older half of an average weighs as much as the last epoch: the first epochs are no measure for later ones.
    """

    KEEP = 0.5

    def __init__(self) -> None:
        self.step_s = self.cost_s = 0.0

    def rate(self, record: Record) -> float:
        """Take an epoch; return how many samples a step ``SAMPLED_TIME`` allows, 0 while that is not known.

        The dearest rank decides, since the others wait for it.
        """
        if not record["steps"] or not record["sampled_steps"]:
            return self._rate()
        cost_s = max(record["sample_cost_s"])
        step_s = fmean(record["loop_s"]) / record["steps"]
        keep = self.KEEP if self.step_s else 0.0
        self.step_s = keep * self.step_s + (1 - keep) * step_s
        self.cost_s = keep * self.cost_s + (1 - keep) * cost_s
        return self._rate()

    def _rate(self) -> float:
        return SAMPLED_TIME * self.step_s / self.cost_s if self.cost_s > 0 else 0.0
