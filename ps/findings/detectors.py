"""All verdicts that the records of a run's log give rise to, as they come; no MPI, so readers can ask too."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ps.findings.communication_bound import CommunicationBound
from ps.findings.cores import oversubscribed_threads, shared_core
from ps.findings.local_loss import LocalLossMisleads
from ps.findings.loss_stalled import LossStalled
from ps.findings.noise_scale import NoiseScaleExceeded
from ps.findings.pulls_against import PullsAgainst
from ps.findings.straggler import Straggler
from ps.findings.verdict import Detector, Verdict
from ps.logfile.header import hosts
from ps.logfile.reader import Entry, LogReader
from ps.logfile.records import Record

MOST_RANKS = 10_000_000
BIASED = frozenset({"skewed-labels", "skewed-targets", "targets-differ"})
"""Where ranks hold different rows the noise scale counts the difference as noise."""


def already_reported(entries: Iterable[Entry]) -> list[tuple[str, list[int]]]:
    """Return the findings of a log by code and ranks; those of ranks that others went on without are left out.

    Ranks are numbered as at the log's end: those that go on without others number themselves anew. Raises LogError.
    """
    found: list[tuple[str, list[int]]] = []
    started: list[int] = []  # by rank, its number at the job's start
    for entry in entries:
        record = entry.record() if entry.kind in ("header", "event", "verdict") else {}
        if entry.kind == "verdict":
            if not isinstance(code := record.get("code"), str):
                raise entry.error("verdict without a code; by another program? start a new run")
            found.append((code, _ranks(entry, record.get("ranks"))))
        elif entry.kind == "header" or record.get("what") == "resume":
            (world,) = _ranks(entry, [record.get("world" if entry.kind == "header" else "ranks")])
            started = list(range(world))
        elif record.get("what") == "shrink":
            alive = _ranks(entry, record.get("alive"))
            now = {started.index(rank): new for new, rank in enumerate(alive) if rank in started}
            found = [(code, [now[r] for r in ranks]) for code, ranks in found if all(r in now for r in ranks)]
            started = alive
    return found


def _ranks(entry: Entry, value: Any) -> list[int]:
    """Return what a record says of ranks. Raises LogError if it is of another kind."""
    if isinstance(value, list) and all(type(rank) is int and 0 <= rank <= MOST_RANKS for rank in value):
        return value
    raise entry.error(f"{entry.kind} with other ranks than whole numbers; by another program? start a new run")


class Findings:
    """Watches a run; says each finding on the same ranks once. Memory grows with the ranks, not with the epochs.

    Feed it the fields of the header and of each epoch's record, as they are written to the log.
    """

    def __init__(self, header: Record) -> None:
        self.machines, n_ranks = hosts(header), header["world"]
        self.threads_set_by: str = header["threads"]["set_by"]
        self.rules: list[Detector] = [
            Straggler(self.machines, n_ranks),
            CommunicationBound(self.machines, n_ranks),
            PullsAgainst(n_ranks),
            LossStalled(),
            NoiseScaleExceeded(),
            *([LocalLossMisleads()] if header["config"].get("rows") == "shard" else []),  # else its rows change
        ]
        self.said: set[tuple[str, tuple[int, ...]]] = set()
        self.codes: set[str] = set()

    def note(self, code: str, ranks: list[int]) -> None:
        """Take down a finding that somebody else has made, or that the log has already."""
        self.said.add((code, tuple(ranks)))
        self.codes.add(code)

    def recall(self, log: Path) -> None:
        """Take down what the log of an earlier job says. Raises LogError."""
        for code, ranks in already_reported(LogReader(log).entries()):
            self.note(code, ranks)

    def start(self) -> list[Verdict]:
        """Return what the header tells."""
        return self._new((oversubscribed_threads(self.machines, self.threads_set_by), shared_core(self.machines)))

    def add(self, epoch: Record) -> list[Verdict]:
        """Return what an epoch has made certain."""
        return self._new([rule.add(epoch) for rule in self.rules])

    def finish(self) -> list[Verdict]:
        """Return what the end of the run makes certain."""
        return self._new([rule.finish() for rule in self.rules])

    def _new(self, found: Iterable[Verdict | None]) -> list[Verdict]:
        new = []
        for verdict in found:
            if verdict is None or (verdict.code, tuple(verdict.ranks)) in self.said:
                continue
            if verdict.code == "noise-scale-exceeded" and self.codes & BIASED:
                continue
            self.note(verdict.code, verdict.ranks)
            new.append(verdict)
        return new
