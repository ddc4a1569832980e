"""A verdict, and what a detector is given to find one (docs/verdicts.md lists all verdicts)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from common.wording import count
from ps.logfile.records import Record

if TYPE_CHECKING:  # readers load neither MPI nor data
    from mpi4py import MPI

    from common.config import RunConfig
    from common.data.dataset import Dataset
    from common.flat import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A finding, written as one record of kind ``verdict``; ``evidence`` holds the numbers that ``text`` mentions."""

    code: str
    severity: str = "warning"
    ranks: list[int]
    text: str
    remedy: str
    evidence: dict[str, Any]

    def fields(self) -> dict[str, Any]:
        """Return the log record's fields; the text begins with a capital letter."""
        return {name: getattr(self, name) for name in self.__slots__} | {"text": self.text[:1].upper() + self.text[1:]}


@dataclass(frozen=True, slots=True)
class NotJudged:
    """In place of a verdict: a check applies, but cannot say anything, and why in a few words."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class TrainingStart:
    """What each rank has before training: the data, and its own parameters as one vector."""

    comm: "MPI.Comm"
    config: "RunConfig"
    data: "Dataset"
    params: "Array"


class Detector:
    """Watches the epochs of a job with this configuration and these facts (see Findings) for one kind of finding.

    Its memory does not grow with the epochs.
    """

    code = ""
    """Of its verdict; needed by those that may not be able to judge."""
    since = ""
    """From when on epochs are counted, where a job has not begun the run: epochs of earlier jobs are not looked at."""

    def __init__(self, header: Record) -> None:
        self.n_ranks: int = header["world"]

    def note(self, code: str) -> None:
        """Learn that this finding has been made."""

    def add(self, epoch: Record) -> Verdict | None:
        """Take the fields of an epoch's record; return what is certain since then."""
        raise NotImplementedError

    def finish(self) -> Verdict | None:
        """Return what is certain once the run has ended."""
        return None

    def too_few(self, n_epochs: int) -> str:
        """Return why a check that needs so many epochs could not judge."""
        return f"fewer than {n_epochs} epochs{self.since}"

    def not_judged(self) -> str:
        """Return why nothing could be said so far, in a few words; nothing if it could, or if there is nothing to."""
        return ""


def first_hosts(texts: list[str]) -> str:
    """Return the texts of the first three hosts and the number of the others; the evidence has all."""
    more = len(texts) - 3
    return ", ".join(texts[:3]) + (f" and on {count(more, 'more host')}" if more > 0 else "")
