"""What a rank adds up in the training loop of an epoch."""

from dataclasses import dataclass, field
from typing import Any

from ps.metrics.preemption import Preemption


@dataclass(frozen=True, slots=True)
class DoneBefore:
    """What earlier jobs did of the present epoch: steps, and rows and sum of losses of all ranks.

    Of an epoch that was begun with a smaller batch size there may be rows, but no whole step.
    """

    steps: int = 0
    rows: int = 0
    loss_sum: float = 0.0


@dataclass(slots=True)
class EpochSums:
    """This rank's part of an epoch."""

    first: int = 0
    """Steps of the epoch that an earlier job did."""
    rows: int = 0
    weight: float = 0.0
    """Of these rows; their number where all count 1."""
    loss_sum: float = 0.0
    begin_s: float = 0.0
    """On the clock of ``time.perf_counter``."""
    loop_s: float = 0.0
    preemption: Preemption = field(default_factory=Preemption)
    """How often and how long the system gave this process's core to another one in that time."""
    steps: int = 0
    """Of the epoch, including those that an earlier job did."""
    learning_rate: float = 0.0
    stopped: bool = False
    skipped: int = 0
    """Steps that were left out."""

    def figures(self) -> dict[str, Any]:
        """Return what this rank hands in at the epoch's end."""
        of_core = {"preemptions": self.preemption.times, "preempted_s": self.preemption.seconds}
        return {"rows": self.rows, "weight": self.weight, "loss_sum": self.loss_sum, "loop_s": self.loop_s, **of_core}
