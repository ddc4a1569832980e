"""The watchdog's clock: it stands still while the whole job is suspended."""

import time
from typing import Any

LATE_S = 1.0
"""A busy machine may wake the watchdog so much late."""
NOTED_S = 5.0
"""A suspension so long is reported."""


class JobClock:
    """Seconds on a clock that counts only while something of the job runs.

    Ctrl-Z, ``scontrol suspend``, a frozen container: nobody makes progress then, and nobody is to blame for it. Either
    the watchdog is stopped too, and sees that it slept for much longer than it wanted to, or it sees all ranks stopped.
    """

    def __init__(self) -> None:
        self._stood_s = self._suspended_s = 0.0
        self._looked_at = self.now()

    def now(self) -> float:
        """Return the time on this clock."""
        return time.monotonic() - self._stood_s

    def poll(self, epoll: Any, until: float) -> list[tuple[int, int]]:
        """Return the events of an epoll object that come until a time on this clock, but time asleep does not count."""
        timeout = max(0.0, until - self.now())
        before = time.monotonic()
        events: list[tuple[int, int]] = epoll.poll(timeout)
        late = time.monotonic() - before - timeout
        if late > LATE_S:
            self._stand_still(late)
        return events

    def look(self, *, all_stopped: bool) -> float:
        """Take note of what was seen; return for how long the job was suspended if that is over, and worth telling."""
        if all_stopped:
            self._stand_still(self.now() - self._looked_at)
        self._looked_at = self.now()
        if all_stopped:
            return 0.0
        seconds, self._suspended_s = self._suspended_s, 0.0
        return seconds if seconds >= NOTED_S else 0.0

    def _stand_still(self, seconds: float) -> None:
        self._stood_s += seconds
        self._suspended_s += seconds
