"""The registry: a verdict is one file of this room and one line here. Without MPI, so that readers can use it too."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ps.findings.bound_parks import BoundParks
from ps.findings.communication_bound import CommunicationBound
from ps.findings.drift import Drift
from ps.findings.few_averages import few_averages
from ps.findings.local_loss_misleads import LocalLossMisleads
from ps.findings.loss_stalled import LossStalled
from ps.findings.low_wire_rank import low_wire_rank
from ps.findings.more_ranks_than_cores import more_ranks_than_cores
from ps.findings.noise_scale_exceeded import NoiseScaleExceeded
from ps.findings.oversubscribed_threads import oversubscribed_threads
from ps.findings.pulls_against import PullsAgainst
from ps.findings.shared_core import shared_core
from ps.findings.stale_momentum import StaleMomentum, stale_momentum
from ps.findings.starting import Reported, new
from ps.findings.straggler import Straggler
from ps.findings.time_limit import TimeLimit
from ps.findings.verdict import Detector, Verdict
from ps.findings.wire_within_host import wire_within_host
from ps.logfile.reader import LogReader
from ps.logfile.records import Record
from ps.logfile.salvage import SalvageReader

# In each table: what looks for a verdict, and the codes of those after which it would say nothing new.
FROM_HEADER: dict[Callable[[Record], Verdict | None], Sequence[str]] = {
    oversubscribed_threads: (),
    more_ranks_than_cores: (),
    shared_core: (),
    few_averages: (),
    low_wire_rank: (),
    wire_within_host: (),
    stale_momentum: (),
}
OVER_EPOCHS: dict[type[Detector], Sequence[str]] = {
    Straggler: (),
    BoundParks: (),
    CommunicationBound: (),
    StaleMomentum: (),
    PullsAgainst: (),
    LossStalled: (),
    # where ranks hold different rows, the noise scale counts the difference as noise
    NoiseScaleExceeded: ("skewed-labels", "skewed-targets", "targets-differ"),
    LocalLossMisleads: (),
    Drift: (),
    TimeLimit: (),
}
OF_A_JOB = (TimeLimit.code,)
"""What another job is told again, unless it is the same one that was queued again."""
MOST_RANKS = 10_000_000
WHERE_ROWS_DIFFER = "the ranks hold different rows"
"""Why a check is not made after the findings that exclude it."""
SINCE = " since the run was continued"


class Findings:
    """Watches a run; reports each finding on the same ranks once. Memory grows with ranks, not with epochs.

    Feed it the configuration and the facts of the job, which the log's header also has, and each epoch's record as it
    is written to the log. What only the first header has is not there: ``steps_per_epoch``, ``sync``, ``timing``.
    """

    def __init__(self, header: Record) -> None:
        self.header = header
        self.detectors = {detector(header): unless for detector, unless in OVER_EPOCHS.items()}
        self.reported: Reported = set()
        self.unjudged: dict[str, str] = {}
        """Of the checks before training, those that could not judge, and why."""

    def note(self, code: str, ranks: list[int]) -> None:
        """Remember a finding that somebody else has made, or that the log has already."""
        self.reported.add((code, tuple(ranks)))
        for detector in self.detectors:
            detector.note(code)

    def recall(self, log: Path) -> None:
        """Remember what the log already reports. Raises LogError.

        Ranks are numbered as at the log's end: where some have died, the others are numbered again.
        """
        for detector in self.detectors:
            detector.since = SINCE
        started: list[int] = []  # by rank, its number at the job's start
        reader = SalvageReader(log)  # damage is told of when the log is opened or read
        for record in reader.records():
            kind = record["kind"]
            what = record.get("what") if kind == "event" else ""
            if kind == "verdict":
                if not isinstance(code := record.get("code"), str):
                    raise reader.error("verdict without a code; by another program? start a new run")
                ranks = _ranks(reader, kind, record.get("ranks"))
                if code not in OF_A_JOB or (self.header.get("time_limit") or {}).get("restarts"):
                    self.note(code, ranks)
            elif kind == "header" or what == "resume":
                (world,) = _ranks(reader, kind, [record.get("world" if kind == "header" else "ranks")])
                started = list(range(world))
            elif what == "shrink":
                alive = _ranks(reader, kind, record.get("alive"))
                now = {started.index(rank): new for new, rank in enumerate(alive) if rank in started}
                kept = [(code, ranks) for code, ranks in self.reported if now.keys() >= {*ranks}]
                self.reported = {(code, tuple(now[rank] for rank in ranks)) for code, ranks in kept}
                started = alive

    def start(self) -> list[Verdict]:
        """Return what the header shows."""
        return new(((look(self.header), unless) for look, unless in FROM_HEADER.items()), self.reported)

    def add(self, epoch: Record) -> list[Verdict]:
        """Return what is certain since this epoch."""
        return new(((one.add(epoch), unless) for one, unless in self.detectors.items()), self.reported)

    def not_judged(self) -> dict[str, str]:
        """Return the codes of checks that found nothing because they could not judge, and why."""
        codes = {code for code, _ in self.reported}
        reasons = dict(self.unjudged)
        for detector, unless in self.detectors.items():
            reasons[detector.code] = WHERE_ROWS_DIFFER if not codes.isdisjoint(unless) else detector.not_judged()
        return {code: reason for code, reason in reasons.items() if code and reason and code not in codes}

    def finish(self) -> list[Verdict]:
        """Return what is certain once the run has ended."""
        return new(((one.finish(), unless) for one, unless in self.detectors.items()), self.reported)


def _ranks(reader: LogReader, kind: str, value: Any) -> list[int]:
    """Return the ranks that the last record names. Raises LogError unless they are whole numbers."""
    if isinstance(value, list) and all(type(rank) is int and 0 <= rank <= MOST_RANKS for rank in value):
        return value
    raise reader.error(f"{kind} with other ranks than whole numbers; by another program? start a new run")
