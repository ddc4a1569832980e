"""TODO."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Before:
    """What earlier jobs did of the present epoch: steps, and rows and sum of losses of all ranks."""

    steps: int = 0
    rows: int = 0
    loss_sum: float = 0.0


@dataclass(slots=True)
class EpochSums:
    """This rank's part of an epoch."""

    first: int = 0
    """Steps of the epoch that were done before, by the job this one goes on with."""
    rows: int = 0
    loss_sum: float = 0.0
    begin_s: float = 0.0
    """On the clock of ``time.perf_counter``."""
    loop_s: float = 0.0
    preemptions: int = 0
    """How often the system gave this process's core to another one in that time."""
    steps: int = 0
    """Of the epoch, those done before included."""
    learning_rate: float = 0.0
    stopped: bool = False
    skipped: int = 0
    """Steps that were left out."""
