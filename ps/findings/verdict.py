"""Findings in plain words with their numbers: each is one record of kind ``verdict`` (docs/verdicts.md lists them)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ps.logfile.records import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A finding; ``evidence`` holds the numbers that ``text`` speaks of."""

    code: str
    severity: str
    ranks: list[int]
    text: str
    remedy: str
    evidence: dict[str, Any]

    def fields(self) -> dict[str, Any]:
        """Return the log record's fields."""
        return {name: getattr(self, name) for name in self.__slots__}


class Detector:
    """Watches the epochs of a run for one kind of finding, in memory that does not grow with them."""

    def add(self, epoch: Record) -> Verdict | None:
        """Take the fields of an epoch's record; return what they have made certain."""
        raise NotImplementedError

    def finish(self) -> Verdict | None:
        """Return what only the end of the run makes certain."""
        return None


def named(ranks: Sequence[int]) -> str:
    """Return ``rank 2``, ``ranks 0-3, 7``; the ranks in rising order."""
    return f"{'rank' if len(ranks) == 1 else 'ranks'} {ranges(ranks)}"


def ranges(ranks: Sequence[int]) -> str:
    """Return ``2``, ``0-3, 7``; the ranks in rising order."""
    runs: list[list[int]] = []
    for rank in ranks:
        if runs and rank == runs[-1][-1] + 1:
            runs[-1][1:] = [rank]
        else:
            runs.append([rank])
    return ", ".join("-".join(map(str, run)) for run in runs)
