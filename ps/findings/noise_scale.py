"""TODO."""

from collections import deque

from ps.findings.verdict import Detector, Verdict
from ps.logfile.records import Record

NOISE_EPOCHS = 5


NOISE_FROM = 10


NOISE_TIMES = 4.0


class NoiseScaleExceeded(Detector):
    """The batch is far above the gradient noise scale, so more rows a step, and more ranks for them, gain little.

    Not said where a step takes all rows: that is plain gradient descent by choice, without noise.
    """

    def __init__(self) -> None:
        self.recent: deque[float | None] = deque(maxlen=NOISE_EPOCHS)
        self.said = False

    def add(self, epoch: Record) -> Verdict | None:
        """See Rule."""
        batch, scale = sum(epoch["rows"]) / max(epoch["steps"], 1), epoch["noise_scale"]
        beyond = scale is not None and epoch["steps"] > 1 and batch > NOISE_TIMES * scale
        self.recent.append(scale if beyond else None)
        if self.said or epoch["epoch"] < NOISE_FROM or len(self.recent) < NOISE_EPOCHS or None in self.recent:
            return None
        self.said = True
        return Verdict(
            code="noise-scale-exceeded",
            severity="info",
            ranks=[],
            text=f"a step takes {batch:.4g} rows, {batch / scale:.2g} times the gradient noise scale: beyond about "
            f"{scale:.3g} rows a step more ranks stop paying",
            remedy=f"try a smaller --batch-size, down to about {max(round(scale), 1)}, or fewer ranks",
            evidence={"epoch": epoch["epoch"], "batch": batch, "noise_scale": scale},
        )
