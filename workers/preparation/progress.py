"""Says how far a preparation is that takes longer than a moment: in a line on a terminal, else in few lines."""

import time
from collections.abc import Callable

from common.status_line import StatusLine, launcher_terminal
from ps.text.formatting import time_left
from ps.text.terminal import is_heard, say, set_status_line

QUIET_S = 2.0
"""So long nothing is said."""
REDRAW_S, FIRST_PAUSE_S = 0.5, 10.0
"""Between two drawings of the line; between the first two lines where there is no terminal, each later pause is twice
the one before."""
LEAST = 0.01
"""Part from which on the time that is left is estimated."""


class Progress:
    """Shows which part of something is done, from 0 to 1, and how long the rest takes, once it is no longer quiet."""

    def __init__(self, quiet_s: float = QUIET_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._what, self._began, self._done = "", clock(), 0.0
        self._due = self._began + quiet_s
        self._pause = FIRST_PAUSE_S
        self._line: StatusLine | None = None

    def begin(self, what: str) -> None:
        """Begin something, of which nothing is done yet."""
        self._what, self._began, self._done = what, self._clock(), 0.0

    def show(self, done: float) -> None:
        """Take which part is done, and show it if it is time to."""
        self._done = max(self._done, min(1.0, done))
        now = self._clock()
        if now < self._due:
            return
        text = self.text(now)
        if self._line is None and not is_heard() and (path := launcher_terminal()):
            self._line = _line(path)
            set_status_line(self._line)
        if self._line is not None:
            self._line.draw(text[: self._line.width])
            self._due = now + REDRAW_S
        else:
            say(text)
            self._due, self._pause = now + self._pause, 2 * self._pause

    def text(self, now: float) -> str:
        """Return what is shown."""
        left = ""
        if LEAST <= self._done < 1:
            left = f", {time_left((now - self._began) * (1 - self._done) / self._done)} left"
        return f"{self._what}: {100 * self._done:.0f} %{left}"

    def close(self) -> None:
        """Remove the line."""
        if self._line is not None:
            set_status_line(None)
        self._line = None


def _line(path: str) -> StatusLine | None:
    try:
        return StatusLine(path)
    except OSError:  # it cannot be written to
        return None
