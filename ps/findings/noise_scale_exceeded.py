"""Verdict ``noise-scale-exceeded``: the batch is far larger than the gradient noise scale."""

from ps.findings.verdict import Detector, Verdict
from ps.logfile.records import Record

IN_A_ROW = 5
MIN_EPOCH = 10
TIMES = 4.0


class NoiseScaleExceeded(Detector):
    """The batch is far above the gradient noise scale, so more rows a step, and more ranks for them, gain little.

    Not where a step takes all rows: that is plain gradient descent by choice, without noise.
    """

    in_a_row = 0

    def add(self, epoch: Record) -> Verdict | None:
        """See Detector."""
        batch, scale = sum(epoch["rows"]) / max(epoch["steps"], 1), epoch["noise_scale"]
        beyond = scale is not None and epoch["steps"] > 1 and batch > TIMES * scale
        self.in_a_row = self.in_a_row + 1 if beyond else 0
        if self.in_a_row < IN_A_ROW or epoch["epoch"] < MIN_EPOCH:
            return None
        return Verdict(
            code="noise-scale-exceeded",
            severity="info",
            ranks=[],
            text=f"a step takes {batch:.4g} rows, {batch / scale:.2g} times the gradient noise scale: beyond about "
            f"{scale:.3g} rows a step more ranks stop paying",
            remedy=f"try a smaller --batch-size, down to about {max(round(scale), 1)}, or fewer ranks",
            evidence={"epoch": epoch["epoch"], "batch": batch, "noise_scale": scale},
        )
