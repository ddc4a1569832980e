"""Verdict ``loss-stalled``: the training loss no longer falls."""

import math
from collections import deque

from ps.findings.verdict import Detector, Verdict
from ps.logfile.header import rows_of
from ps.logfile.records import Record

RECENT = 10
MIN_EPOCHS = 20
LEAST_FALL = 0.999
"""Of the least loss before: where the recent epochs do not get below that, it has not fallen."""


class LossStalled(Detector):
    """The training loss has not fallen for ten epochs: its least is no more than 0.1 % below that of all before."""

    code = "loss-stalled"

    def __init__(self, header: Record) -> None:
        super().__init__(header)
        # of targets of several scales, the loss is that of the largest almost alone, and others may still be learned
        self.mixed = len(set(header.get("data", {}).get("target_scale") or ())) > 1
        self.recent: deque[float] = deque(maxlen=RECENT)
        self.before = math.inf
        self.count = 0
        config = header["config"]
        self.patience = bool(config.get("patience")) or not rows_of(header, "validation")
        self.constant = config.get("schedule", "constant") == "constant"
        """Whether ``--patience`` or another schedule is no help: it is in use already, or cannot be."""

    def add(self, epoch: Record) -> Verdict | None:
        """See Detector."""
        if len(self.recent) == RECENT:
            self.before = min(self.before, self.recent[0])
        self.recent.append(epoch["loss"])
        self.count += 1
        least, last = min(self.recent), epoch["epoch"]
        if self.mixed or self.count < MIN_EPOCHS or least < LEAST_FALL * self.before:
            return None
        return Verdict(
            code=self.code,
            severity="info",
            ranks=[],
            text=f"the loss no longer falls: its least of epochs {last - RECENT + 1} to {last} is {least:.4g}, that of "
            f"all epochs before {self.before:.4g}",
            remedy="stop here"
            + " (--patience does so by the validation loss)" * (not self.patience)
            + ", or lower the learning rate"
            + " (--schedule cosine)" * self.constant,
            evidence={"epoch": last, "least_recent": least, "least_before": self.before},
        )

    def not_judged(self) -> str:
        """See Detector."""
        if self.mixed:
            return "targets of different scales, of which the largest makes nearly all of the loss"
        return self.too_few(MIN_EPOCHS) if self.count < MIN_EPOCHS else ""
