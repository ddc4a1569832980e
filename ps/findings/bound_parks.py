"""Verdict ``bound-parks``: a staleness bound makes the ranks wait for one that is always slower."""

from collections import deque
from statistics import fmean

import numpy as np

from common.flat import Array
from common.ranges import named_ranks
from ps.findings.stale_momentum import bound_of
from ps.findings.verdict import Detector, Verdict
from ps.logfile.records import Record
from ps.metrics.epoch_metrics import RUN_TIME
from ps.text.loose import known

EPOCHS, ENOUGH = 5, 3
"""Reported where it is so in so many of the last epochs."""
PARKED = 0.2
"""Of the other ranks' time, what they spend waiting."""


class BoundParks(Detector):
    """Ranks that may be S steps ahead reach that bound, and then wait at each step for the slowest.

    A bound helps where ranks are slow in turn. One that is always slower holds all to its pace once they are S steps
    ahead, whatever S is; and they have the old gradients besides.
    """

    code = "bound-parks"

    def __init__(self, header: Record) -> None:
        super().__init__(header)
        config = header["config"]
        self.bound = bound_of(config)
        self.applies = self.n_ranks > 1 and config.get("mode") == "async" and 0 < self.bound < float("inf")
        self.can_balance = config.get("balance", "off") == "off" and config.get("rows") != "shard"
        self.recent: deque[tuple[int, int, float] | None] = deque(maxlen=EPOCHS)
        """Number of an epoch, the rank that waited least, the share of time that others waited; None: they did not."""

    def add(self, epoch: Record) -> Verdict | None:
        """See Detector."""
        if not self.applies:
            return None
        wait = np.array(epoch["wait_s"])
        run: Array = np.sum([epoch[name] for name in RUN_TIME], axis=0)
        slow, gaps = int(wait.argmin()), known(epoch, "clock_gap")
        share = float(np.delete(wait, slow).sum() / max(np.delete(run, slow).sum(), 1e-9))
        reached = not gaps or max(gaps) >= self.bound
        self.recent.append((epoch["epoch"], slow, share) if reached and share >= PARKED else None)
        parked = [one for one in self.recent if one]
        if len(parked) < ENOUGH or len({slow for _, slow, _ in parked}) > 1:
            return None
        epochs, (slow, *_), shares = zip(*parked, strict=True)
        return Verdict(
            code=self.code,
            ranks=[slow],
            text=f"ranks reach the bound of {self.bound:g} steps and then wait for {named_ranks([slow])} at each step, "
            f"{100 * fmean(shares):.0f} % of their time: a bound does not help against a rank that is always slower",
            remedy="wait for fewer ranks (--mode k-of-n)"
            + ", or give faster ranks more rows (--mode allreduce --balance speed)" * self.can_balance,
            evidence={"epochs": list(epochs), "bound": self.bound, "waiting_share": list(shares)},
        )

    def not_judged(self) -> str:
        """See Detector."""
        return self.too_few(ENOUGH) if self.applies and len(self.recent) < ENOUGH else ""
