"""A comparison of modes as its readers see it: the trials, the sums of vectors, and what they were summed up to."""

from dataclasses import dataclass, field

from common.limits import ITEMS
from ps.logfile.records import Record
from ps.metrics import loss_comparison
from ps.metrics.mode_comparison import TOLERANCE, summarise
from ps.reader.kept import Allowance


@dataclass(slots=True)
class ComparisonView:
    """What a comparison's log holds besides the header, the verdicts and the end.

    ``trials``, ``comparison``: of steps, or of trainings to a loss; a log has one of both.
    """

    trials: list[Record] = field(default_factory=list)
    sweeps: list[Record] = field(default_factory=list)
    comparison: Record = field(default_factory=dict)
    fit: Record = field(default_factory=dict)
    _room: Allowance = field(default_factory=Allowance)

    def add(self, record: Record) -> None:
        """Keep a record where it belongs."""
        if record["kind"] in ("trial", "loss-trial") and len(self.trials) < ITEMS and self._room.take(record):
            self.trials.append(record)
        elif record["kind"] == "sweep" and len(self.sweeps) < ITEMS and self._room.take(record):
            self.sweeps.append(record)
        elif record["kind"] in ("comparison", "loss-comparison"):
            self.comparison = record
        elif record["kind"] == "fit":
            self.fit = record

    def result(self, header: Record) -> Record:
        """Return the comparison's record; of one that ended before it was written, what its trials say, or nothing."""
        dtype, goal = header["config"]["dtype"], until_loss(header)
        if goal and not self.comparison and self.trials and all(one["kind"] == "loss-trial" for one in self.trials):
            return loss_comparison.summarise(self.trials, goal)
        if self.comparison or not (self.trials and dtype in TOLERANCE and all(map(_is_complete, self.trials))):
            return self.comparison
        return summarise(self.trials, dtype)


def until_loss(header: Record) -> float:
    """Return the loss that a comparison trains to; 0 for one that times steps."""
    goal: float = header.get("comparison", {}).get("until_loss", 0.0)
    return goal


def _is_complete(trial: Record) -> bool:
    """Say whether a trial has what each of ours has: a loss over time, traffic, a duration."""
    if trial["kind"] != "trial":
        return False
    return bool(len(trial["curve_s"]) == len(trial["curve_loss"]) > 0 and trial["sent_bytes"] and trial["step_s"] > 0)
