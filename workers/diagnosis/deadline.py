"""Ends the job when nothing has moved for too long, and says in which step of the examination, and what may mend it.

A message that a library sends over the wrong interface never comes, and nothing of MPI tells so. So each rank has a
thread that looks at a clock; mpi4py lets it run while the rank waits.
"""

import os
import threading
import time
from collections.abc import Callable

from common.standard_streams import flush

LOOK_S = 0.25
MOST_S = 1.0
"""A look counts for no more: meanwhile the process was suspended, or in ``MPI_Init``, where no thread of Python runs.
There the guard of the start watches."""
OTHERS_S = 3.0
"""Rank 0 speaks first. The others end themselves so much later, if no launcher has ended them."""


class Deadline:
    """A clock that ``tick`` sets back."""

    def __init__(self, rank: int, limit_s: float, late: Callable[[int, str, float], None]) -> None:
        """``late``: called with rank, step and limit, at rank 0, or at others if that has not ended the job."""
        self._rank, self._late, self.limit_s = rank, late, limit_s
        self._step, self._more_s, self._waited_s = "the first messages", 0.0, 0.0
        self._over = threading.Event()
        threading.Thread(target=self._look, daemon=True).start()

    def tick(self, step: str, more_s: float = 0.0) -> None:
        """Say what begins now. ``more_s``: what it may take besides, without anything being wrong."""
        self._step, self._more_s, self._waited_s = step, more_s, 0.0

    def over(self) -> None:
        """Look no more."""
        self._over.set()

    def _look(self) -> None:
        before = time.monotonic()
        while not self._over.wait(LOOK_S):
            now = time.monotonic()
            self._waited_s += min(now - before, MOST_S)
            before = now
            limit_s = self.limit_s + self._more_s
            if self._waited_s > limit_s + (OTHERS_S if self._rank else 0):
                try:
                    self._late(self._rank, self._step, limit_s)
                    flush()
                finally:
                    os._exit(1)
