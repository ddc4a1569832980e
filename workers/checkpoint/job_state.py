"""How far a job is: what resuming, and continuing without dead ranks, begin from."""

from dataclasses import dataclass, field
from typing import Any

from ps.metrics.epoch_sums import DoneBefore


@dataclass(slots=True)
class JobState:
    """The same on all ranks, but for ranks that have died in the middle of a step.

    ``epoch``: the present one, of which ``before`` was done by earlier jobs or with ranks that have died since.
    ``decision``: what was decided at its end, if that has been reached. ``last``: the same of the epoch before, and
    which that was. ``skipped``: epoch and step of the last step left out, and how many in a row that makes.
    ``offset``: steps that the run has taken besides those that its epochs would have with the present batch size.
    ``shares``: of the ranks in the rows of a step; (): equal.
    ``best_kept``: whether the best parameters are remembered. ``over``: whether all epochs are done. ``code``: the exit
    code, once everything is saved.
    """

    epoch: int = 1
    before: DoneBefore = field(default_factory=DoneBefore)
    decision: dict[str, Any] | None = None
    last: dict[str, Any] = field(default_factory=lambda: {"epoch": 0, "improved": False, "memory": {}})
    skipped: tuple[int, int, int] = (0, 0, 0)
    offset: int = 0
    shares: tuple[float, ...] = ()
    best_kept: bool = False
    over: bool = False
    code: int | None = None

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "JobState":
        """Make it from what ``dataclasses.asdict`` made of one, also if that came as a message."""
        of_lists = {name: tuple(plain[name]) for name in ("skipped", "shares")}
        return cls(**{**plain, "before": DoneBefore(**plain["before"]), **of_lists})

    def begin(self, epoch: int, before: DoneBefore | None = None) -> None:
        """Be in an epoch, of which ``before`` is done."""
        if self.decision is not None:
            self.last = {**self.decision, "epoch": self.epoch}
        self.epoch, self.before, self.decision = epoch, before or DoneBefore(), None
