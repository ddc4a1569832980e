"""Verdict ``drift``: between averages ranks move so far apart that the loss does not fall."""

import math
from collections import deque
from statistics import fmean

from ps.findings.verdict import Detector, Verdict
from ps.logfile.records import Record

FAR = 0.1
"""Of the length of the parameters, what ranks move in a round; usual are 0.01 to 0.07, and more in the first epoch."""
RECENT, OFTEN = 5, 3


class Drift(Detector):
    """In 3 of the last 5 epochs ranks were far from what they had in common, and the loss was not the lowest so far."""

    code = "drift"

    def __init__(self, header: Record) -> None:
        super().__init__(header)
        self.recent: deque[bool] = deque(maxlen=RECENT)
        self.lowest = math.inf
        self.every = header["config"].get("sync_every", 0)

    def add(self, epoch: Record) -> Verdict | None:
        """See Detector."""
        known = [drift for drift in epoch.get("drift") or () if drift is not None]
        self.recent.append(bool(known) and fmean(known) >= FAR and epoch["loss"] >= self.lowest)
        lowest, self.lowest = self.lowest, min(self.lowest, epoch["loss"])
        if not self.recent[-1] or sum(self.recent) < OFTEN:
            return None
        drift = fmean(known)
        return Verdict(
            code=self.code,
            ranks=[],
            text=f"between two averages ranks move {drift:.2g} times the length of the parameters away from what they "
            "have in common, and the loss does not fall: the average of places so far apart need not be a good one",
            remedy=f"a smaller --sync-every than {self.every}, or a lower --learning-rate",
            evidence={"epoch": epoch["epoch"], "drift": drift, "loss": epoch["loss"], "lowest_loss": lowest},
        )
