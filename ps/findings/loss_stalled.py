"""TODO."""

import math
from collections import deque

from ps.findings.verdict import Detector, Verdict
from ps.logfile.records import Record

STALL_EPOCHS = 10


STALL_FROM = 20


STALL_FALL = 0.999


class LossStalled(Detector):
    """The training loss has not fallen for ten epochs: its least is no more than 0.1 % below that of all before."""

    def __init__(self) -> None:
        self.recent: deque[float] = deque(maxlen=STALL_EPOCHS)
        self.before = math.inf
        self.count = 0
        self.said = False

    def add(self, epoch: Record) -> Verdict | None:
        """See Rule."""
        if len(self.recent) == STALL_EPOCHS:
            self.before = min(self.before, self.recent[0])
        self.recent.append(epoch["loss"])
        self.count += 1
        least = min(self.recent)
        if self.said or self.count < STALL_FROM or least < STALL_FALL * self.before:
            return None
        self.said = True
        return Verdict(
            code="loss-stalled",
            severity="info",
            ranks=[],
            text=f"the loss no longer falls: its least of epochs {epoch['epoch'] - STALL_EPOCHS + 1} to "
            f"{epoch['epoch']} is {least:.4g}, that of all epochs before {self.before:.4g}",
            remedy="stop here (--patience does so by the validation loss), or lower the learning rate "
            "(--schedule cosine)",
            evidence={"epoch": epoch["epoch"], "least_recent": least, "least_before": self.before},
        )
