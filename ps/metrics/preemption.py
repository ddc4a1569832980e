"""How long the system kept this rank from a core while it wanted one."""

import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path

QUEUE = Path("/proc/self/schedstat")
"""Linux: nanoseconds on a core, nanoseconds in a core's queue, and how often it got one (the main thread's)."""


@dataclass(frozen=True, slots=True)
class Preemption:
    """Counts since the process began; their difference is what happened between two looks.

    ``times``: how often the system took the core away. Giving it up while waiting for other ranks counts as well, so
    this says little. ``seconds``: spent in a core's queue, runnable but not running.
    """

    times: int = 0
    seconds: float = 0.0

    @classmethod
    def now(cls) -> "Preemption":
        """Look."""
        return cls(resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw, queued_s())

    def __sub__(self, before: "Preemption") -> "Preemption":
        return Preemption(self.times - before.times, max(0.0, self.seconds - before.seconds))


def queued_s() -> float:
    """Return the seconds this process has waited for a core; where Linux does not tell, the wall less the CPU time.

    The latter also counts sleeping, which ranks do not do in the training loop.
    """
    try:
        return int(QUEUE.read_bytes().split()[1]) * 1e-9
    except (OSError, IndexError, ValueError):
        times = os.times()
        return time.perf_counter() - times.user - times.system
