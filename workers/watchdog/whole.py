"""What the hub tells all watchdogs of the whole job."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from common.rank_status import StatusRow


@dataclass(slots=True)
class Whole:
    """What the hub says of the whole job, each second and whenever it changes.

    ``aborting``: the job is being ended through MPI. ``ended``: a rank has ended, and the others must. ``stopped``: all
    processes are. ``stalled``: no rank makes progress. ``late``: ranks whose stacks are asked for. ``cut``: hosts no
    longer answer. ``over``: first and last rank and cell FINISHED of those that are over.
    """

    aborting: bool = False
    ended: bool = False
    stopped: bool = False
    stalled: bool = False
    cut: bool = False
    late: list[int] = field(default_factory=list)
    over: list[list[int]] = field(default_factory=list)

    @classmethod
    def from_news(cls, news: Any) -> "Whole | None":
        """Return what a message says; None if it is something else."""
        try:
            found = cls(**{f.name: type(getattr(cls(), f.name))(news[f.name]) for f in fields(cls)})
            fine = all(isinstance(rank, int) for rank in found.late)
            fine = fine and all(len(run) == 3 and all(isinstance(n, int) for n in run) for run in found.over)
        except (KeyError, TypeError, ValueError):
            return None
        return found if fine else None


def runs(rows: Sequence[StatusRow]) -> list[list[int]]:
    """Return what ``Whole.over`` says of these rows."""
    found: list[list[int]] = []
    for rank, row in enumerate(rows):
        if row.finished and found and found[-1][1:] == [rank - 1, row.finished]:
            found[-1][1] = rank
        elif row.finished:
            found.append([rank, rank, row.finished])
    return found


def plain(whole: Whole) -> dict[str, Any]:
    """Return what is said by name."""
    return {f.name: getattr(whole, f.name) for f in fields(whole)}
