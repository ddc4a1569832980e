"""TODO."""

from dataclasses import dataclass, field

from ps.logfile.records import Record
from ps.metrics.mode_comparison import TOLERANCE, summarise

MOST_TRIALS = 10_000
"""Kept to sum up a comparison that was ended before it could do so itself."""


MOST_SWEEPS = 1000
"""Lengths of vectors that are shown."""


@dataclass(slots=True)
class Contents:
    """What a comparison's log holds beside the header, the verdicts and the end."""

    trials: list[Record] = field(default_factory=list)
    sweeps: list[Record] = field(default_factory=list)
    comparison: Record = field(default_factory=dict)
    fit: Record = field(default_factory=dict)

    def add(self, record: Record) -> None:
        """Keep a record where it belongs."""
        if record["kind"] == "trial" and len(self.trials) < MOST_TRIALS:
            self.trials.append(record)
        elif record["kind"] == "sweep" and len(self.sweeps) < MOST_SWEEPS:
            self.sweeps.append(record)
        elif record["kind"] == "comparison":
            self.comparison = record
        elif record["kind"] == "fit":
            self.fit = record

    def result(self, dtype: str) -> Record:
        """Return the comparison's record; of one that ended before it was written, what its trials say, or nothing."""
        if self.comparison or not _can_be_summed_up(self.trials, dtype):
            return self.comparison
        return summarise(self.trials, dtype)


def _can_be_summed_up(trials: list[Record], dtype: str) -> bool:
    """Say whether there are trials and each has what one of ours has: a known type, a loss, a time."""
    whole = (len(t["curve_s"]) == len(t["curve_loss"]) > 0 and t["sent_bytes"] and t["step_s"] > 0 for t in trials)
    return bool(trials) and dtype in TOLERANCE and all(whole)
