"""Verdict ``noise-scale-exceeded``: the batch is far larger than the gradient noise scale."""

from common.wording import about
from ps.findings.verdict import Detector, Verdict
from ps.logfile.records import Record

IN_A_ROW = 5
MIN_EPOCH = 10
TIMES = 4.0


class NoiseScaleExceeded(Detector):
    """The batch is far above the gradient noise scale, so more rows a step, and more ranks for them, gain little.

    Not where a step takes all rows: that is plain gradient descent by choice, without noise.
    """

    code = "noise-scale-exceeded"
    in_a_row = 0
    n_epochs, steps, known = 0, 0, False

    def add(self, epoch: Record) -> Verdict | None:
        """See Detector."""
        self.n_epochs, self.steps, self.known = epoch["epoch"], epoch["steps"], epoch["noise_scale"] is not None
        batch, scale = sum(epoch["rows"]) / max(epoch["steps"], 1), epoch["noise_scale"]
        beyond = scale is not None and epoch["steps"] > 1 and batch > TIMES * scale
        self.in_a_row = self.in_a_row + 1 if beyond else 0
        if self.in_a_row < IN_A_ROW or epoch["epoch"] < MIN_EPOCH:
            return None
        return Verdict(
            code=self.code,
            severity="info",
            ranks=[],
            text=f"a step takes {batch:.4g} rows, {batch / scale:.2g} times the gradient noise scale: batches above "
            f"about {about(scale)} rows gain little (estimate)",
            remedy=f"try a smaller --batch-size, down to about {about(max(scale, 1.0))}"
            + ", or fewer ranks" * (self.n_ranks > 1),
            evidence={"epoch": epoch["epoch"], "batch": batch, "noise_scale": scale},
        )

    def not_judged(self) -> str:
        """See Detector."""
        if self.n_ranks < 2 or self.steps == 1:
            return ""
        if self.n_epochs < MIN_EPOCH:
            return f"fewer than {MIN_EPOCH} epochs"
        return "" if self.known else "the noise scale is not known"
