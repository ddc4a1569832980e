"""Verdict ``local-loss-misleads``: rank 0's loss and the loss over all ranks went opposite ways."""

from ps.findings.verdict import Detector, Verdict
from ps.logfile.records import Record

SLIGHT = 0.01
"""A change of a loss by less than this fraction of it does not count."""


class LocalLossMisleads(Detector):
    """From first epoch to last, the loss of rank 0's rows went the other way than that over all ranks.

    Only where rank 0 has the same rows in every epoch.
    """

    code = "local-loss-misleads"

    def __init__(self, header: Record) -> None:
        super().__init__(header)
        self.comparable = header["config"].get("rows") == "shard"
        self.ends: list[tuple[float, float]] = []
        """Both losses of the first and of the last epoch."""

    def add(self, epoch: Record) -> Verdict | None:
        """See Detector."""
        local = epoch["loss_by_rank"][0]
        if local is None:  # rank 0 had no rows
            self.comparable = False
        self.ends[1:] = [(epoch["loss"], local)]
        return None

    def not_judged(self) -> str:
        """See Detector. Only fixed rows have a trend of their own."""
        return self.too_few(2) if self.comparable and len(self.ends) < 2 and self.n_ranks > 1 else ""

    def finish(self) -> Verdict | None:
        """See Detector."""
        if not self.comparable or len(self.ends) < 2:
            return None
        (loss, local), (end_loss, end_local) = self.ends[0], self.ends[-1]
        change, local_change = end_loss - loss, end_local - local
        slight = abs(change) < SLIGHT * abs(loss) or abs(local_change) < SLIGHT * abs(local)
        if change * local_change >= 0 or slight:
            return None
        ways = ("falls", "rises")
        return Verdict(
            code=self.code,
            ranks=[0],
            text=f"the loss on rank 0's rows alone {ways[local_change > 0]} from {local:.4g} to {end_local:.4g} while "
            f"the loss over all ranks {ways[change > 0]} from {loss:.4g} to {end_loss:.4g}: a program that prints rank "
            "0's loss shows the wrong trend",
            remedy="read the loss over all ranks (field loss), not that of one rank",
            evidence={"loss": [loss, end_loss], "rank_0_loss": [local, end_local]},
        )
