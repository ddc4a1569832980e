"""TODO."""

from ps.findings.verdict import Detector, Verdict
from ps.logfile.records import Record

SLIGHT = 0.01
"""A change of a loss by less than this share of it is none."""


class LocalLossMisleads(Detector):
    """The loss of rank 0's fixed rows went the other way than that over all ranks, from first epoch to last."""

    def __init__(self) -> None:
        self.first: tuple[float, float] | None = None
        self.last: tuple[float, float] | None = None
        self.known = True

    def add(self, epoch: Record) -> Verdict | None:
        """See Rule."""
        own = epoch["loss_by_rank"][0]
        if own is None:  # it had no rows
            self.known = False
            return None
        self.last = epoch["loss"], own
        self.first = self.first or self.last
        return None

    def finish(self) -> Verdict | None:
        """See Rule."""
        if not self.known or self.first is None or self.last is None:
            return None
        (loss, local), (end_loss, end_local) = self.first, self.last
        change, local_change = end_loss - loss, end_local - local
        slight = abs(change) < SLIGHT * abs(loss) or abs(local_change) < SLIGHT * abs(local)
        if change * local_change >= 0 or slight:
            return None
        ways = ("falls", "rises")
        return Verdict(
            code="local-loss-misleads",
            severity="warning",
            ranks=[0],
            text=f"the loss of rank 0's rows alone {ways[local_change > 0]} from {local:.4g} to {end_local:.4g} while "
            f"the loss over all ranks {ways[change > 0]} from {loss:.4g} to {end_loss:.4g}; a program that prints rank "
            "0's loss shows the wrong trend",
            remedy="read the loss over all ranks (field loss), not that of one rank",
            evidence={"loss": [loss, end_loss], "rank_0_loss": [local, end_local]},
        )
