"""A comparison of modes as its readers see it: the trials, the sums of vectors, and what they were summed up to."""

from dataclasses import dataclass, field

from common.limits import ITEMS
from ps.logfile.records import Record
from ps.metrics.mode_comparison import TOLERANCE, summarise
from ps.reader.kept import Allowance


@dataclass(slots=True)
class ComparisonView:
    """What a comparison's log holds besides the header, the verdicts and the end."""

    trials: list[Record] = field(default_factory=list)
    sweeps: list[Record] = field(default_factory=list)
    comparison: Record = field(default_factory=dict)
    fit: Record = field(default_factory=dict)
    _room: Allowance = field(default_factory=Allowance)

    def add(self, record: Record) -> None:
        """Keep a record where it belongs."""
        if record["kind"] == "trial" and len(self.trials) < ITEMS and self._room.take(record):
            self.trials.append(record)
        elif record["kind"] == "sweep" and len(self.sweeps) < ITEMS and self._room.take(record):
            self.sweeps.append(record)
        elif record["kind"] == "comparison":
            self.comparison = record
        elif record["kind"] == "fit":
            self.fit = record

    def result(self, dtype: str) -> Record:
        """Return the comparison's record; of one that ended before it was written, what its trials say, or nothing."""
        if self.comparison or not (self.trials and dtype in TOLERANCE and all(map(_is_complete, self.trials))):
            return self.comparison
        return summarise(self.trials, dtype)


def _is_complete(trial: Record) -> bool:
    """Say whether a trial has what each of ours has: a loss over time, traffic, a duration."""
    return bool(len(trial["curve_s"]) == len(trial["curve_loss"]) > 0 and trial["sent_bytes"] and trial["step_s"] > 0)
