"""A run's figures in memory that does not grow with its epochs: to compare runs, and for the report."""

import math
from dataclasses import dataclass, field

from common.limits import ITEMS
from ps.logfile.records import Record
from ps.reader.downsample import Downsampler
from ps.reader.run_view import mean

MEDIANS = ("sync", "wait", "transfer")


@dataclass(slots=True)
class Summary:
    """What is compared of one run.

    ``lows``: elapsed seconds and loss of the epochs whose loss was the least so far, evenly spread ones of very many.
    ``shared_epochs``: how many epochs several jobs trained.
    """

    epochs: int = 0
    least_loss: float = math.inf
    lows: Downsampler[tuple[float, float]] = field(default_factory=lambda: Downsampler(ITEMS))
    medians: Downsampler[dict[str, float]] = field(default_factory=lambda: Downsampler(ITEMS))
    compute_s: float = 0.0
    sync_s: float = 0.0
    reduce_s: float = 0.0
    sent_bytes: int = 0
    shared_epochs: int = 0

    def add(self, record: Record) -> None:
        """Take the next record; only epochs matter."""
        if record["kind"] != "epoch":
            return
        self.epochs += 1
        if record["loss"] < self.least_loss:
            self.least_loss = record["loss"]
            self.lows.add((record["elapsed_s"], record["loss"]))
        self.medians.add({name: mean(record[f"{name}_median_s"]) for name in MEDIANS})
        self.compute_s += mean(record["compute_s"])
        self.sync_s += mean(record["sync_s"])
        self.reduce_s += mean(record["reduce_s"])
        self.sent_bytes += max(record["sent_bytes"])
        self.shared_epochs += record.get("before") is not None

    def time_to(self, loss: float) -> float | None:
        """Return the seconds until the training loss was at most ``loss``."""
        return next((elapsed_s for elapsed_s, own in self.lows.kept() if own <= loss), None)
