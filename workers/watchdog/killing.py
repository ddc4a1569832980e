"""How a watchdog ends what is left of its job on its node."""

import signal
from collections.abc import Callable, Mapping

from common.job_signals import ABORT_SIGNAL
from workers.watchdog.job_clock import JobClock
from workers.watchdog.rank_process import RankProcess

GRACE_S = 3.0
"""How long a launcher has to end the other ranks before the watchdog does."""
KILLED_S = 5.0
"""How long a killed process may take to be gone; longer takes only one that waits for a dead disk."""


class Killing:
    """Ends the ranks of this node, once that has begun. ``aborting``: through MPI."""

    def __init__(self, ranks: Mapping[int, RankProcess], clock: JobClock, tell: Callable[[], None]) -> None:
        """``tell``: says to other watchdogs that this has begun."""
        self._ranks, self._clock, self._tell = ranks, clock, tell
        self._at: float | None = None
        self.aborting = False

    @property
    def live(self) -> list[RankProcess]:
        """The ranks of this node whose processes have not ended."""
        return [rank for rank in self._ranks.values() if not rank.ended]

    @property
    def begun(self) -> bool:
        """Whether the ranks are to end, soon if not now."""
        return self._at is not None

    def soon(self) -> None:
        """Kill the ranks unless the launcher does so first."""
        self._at = self._at or self._clock.now() + GRACE_S
        self._tell()

    def at_once(self) -> None:
        """Kill the ranks."""
        self._at = self._clock.now()
        self._kill()
        self._tell()

    def abort(self) -> None:
        """End the job through MPI in one rank of this node, if one still can; other watchdogs see that and do so."""
        self.aborting = True
        for rank in self._ranks.values():
            rank.look_for_stop()
        if live := self.live:
            one = max(live, key=lambda rank: (rank.row.is_waiting, not rank.stopped, rank.rank))
            one.send(ABORT_SIGNAL)
            one.send(signal.SIGCONT)
        self.soon()

    def act(self, now: float) -> bool:
        """Kill the ranks if it is time; return whether there is more to wait for."""
        if self._at is not None and now > self._at:
            self._kill()
            return now <= self._at + KILLED_S
        return True

    def _kill(self) -> None:
        for rank in self.live:
            rank.send(signal.SIGKILL)
