"""What a run shows of its progress: a line on a terminal, else a line for each epoch, thinned where there are many."""

import io
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from common.status_line import StatusLine, launcher_terminal
from ps.text.formatting import time_left
from ps.text.terminal import is_heard, say, set_status_line

ALL_UP_TO = 50
"""Of more epochs than this, not every one gets a line."""
FIRST = 10
"""The first ones do."""
SILENCE_S = 300.0
"""After so long without a line, the next epoch gets one."""
REDRAW_S = 0.5
BAR_CELLS = 20
NARROWEST = 40
"""A narrower terminal gets lines."""

Place = Callable[[], tuple[int, int]]
"""Says the epoch that is being trained, and how many of its steps are done."""


class Ended(NamedTuple):
    """An epoch that has ended: what it came to, in a line and in short. ``marked``: something happened in it."""

    number: int
    line: str
    short: str
    marked: bool


class Display:
    """Shows nothing of an epoch but what it is told to print."""

    def open(self) -> None:
        """Begin: training does."""

    def epoch(self, ended: Ended) -> None:
        """Take an epoch that has ended."""

    def close(self) -> None:
        """End: what comes now is the result."""


class Lines(Display):
    """A line for each epoch; of many epochs the first, then one in several, the last, and those that are marked."""

    def __init__(self, epochs: int, *, every: bool) -> None:
        """``every``: thin none."""
        later = max(1, ALL_UP_TO - FIRST - 1)
        self.stride = 1 if every or epochs <= ALL_UP_TO else -(-(epochs - FIRST) // later)
        self.epochs = epochs
        self._first = 0
        self._held = ""
        self._said_at = time.monotonic()

    def epoch(self, ended: Ended) -> None:
        """Print the line, or hold it in case it is the last."""
        number = ended.number
        self._first = self._first or number
        nth = number - self._first
        late = time.monotonic() - self._said_at > SILENCE_S
        if self.stride == 1 or nth < FIRST or nth % self.stride == 0 or number == self.epochs or ended.marked or late:
            say(ended.line)
            self._held, self._said_at = "", time.monotonic()
        else:
            self._held = ended.line
        if self.stride > 1 and nth == FIRST - 1 and number < self.epochs:
            say(f"From here on, one epoch in {self.stride} gets a line; --verbose prints all.")

    def close(self) -> None:
        """Print the last epoch."""
        if self._held:
            say(self._held)
        self._held = ""


class Progress(Display):
    """One line on the terminal, redrawn by a thread: epoch, bar, what the last epoch came to, the time left.

    The step loop knows nothing of it: the thread looks where the loop is.
    """

    def __init__(self, line: StatusLine, place: Place, epochs: int, steps: int) -> None:
        """``steps``: of an epoch."""
        self.line, self.place, self.epochs, self.steps = line, place, epochs, steps
        self._last = self._short = ""
        self._began = (0.0, 0.0)
        self._reached = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._redraw, name="progress", daemon=True)

    def open(self) -> None:
        """Begin to draw."""
        if not self._thread.is_alive() and not self._over.is_set():
            self._began = time.monotonic(), self._done()
            self._bar = Bar()
            set_status_line(self.line)
            self._thread.start()

    def epoch(self, ended: Ended) -> None:
        """Take what is to be shown next."""
        self._last, self._short = ended.line, ended.short

    def close(self) -> None:
        """Remove the line, and print what the last epoch came to."""
        self._over.set()
        set_status_line(None)
        if self._last:
            say(self._last)
        self._last = ""

    def _redraw(self) -> None:
        while not self._over.wait(REDRAW_S):
            width = self.line.width
            if width >= NARROWEST:
                text = self.text(time.monotonic(), width)
                if not self._over.is_set():
                    self.line.draw(text)

    def _done(self) -> float:
        """Return which part of the training is done."""
        epoch, step = self.place()
        done = (epoch - 1 + step / max(1, self.steps)) / max(1, self.epochs)
        self._reached = min(1.0, max(self._reached, done))  # after the last epoch there is none
        return self._reached

    def text(self, now: float, width: int) -> str:
        """Return the line for a terminal of this width."""
        epoch, done = min(max(1, self.place()[0]), self.epochs), self._done()
        began, before = self._began
        gained = done - before
        left = f"{time_left((now - began) * (1 - done) / gained)} left" if gained > 0 else ""
        parts = [f"Epoch {epoch:,}/{self.epochs:,}", self._short, left]
        rest = width - sum(len(part) + 1 for part in parts if part)
        if rest < 0:  # the figures give way first
            parts[1], rest = "", rest + len(self._short) + 1
        bar = self._bar.draw(done, min(rest, BAR_CELLS)) if rest >= 8 else ""
        return " ".join(filter(None, [parts[0], bar, *parts[1:]]))[: None if bar else width]


class Bar:
    """A progress bar as text; of rich where that is installed."""

    def __init__(self) -> None:
        try:
            from rich.console import Console
            from rich.progress_bar import ProgressBar
        except ImportError:
            self._console: Any = None
            return
        self._kind = ProgressBar
        file = io.TextIOWrapper(io.BytesIO(), encoding=sys.stdout.encoding or "utf-8")  # which says what it can draw
        self._console = Console(file=file, force_terminal=True, legacy_windows=False)

    def draw(self, done: float, cells: int) -> str:
        """Return the bar, of so many columns."""
        if self._console is None:
            full = round(done * (cells - 2))
            return f"[{'#' * full}{'.' * (cells - 2 - full)}]"
        with self._console.capture() as drawn:
            self._console.print(self._kind(1.0, done, cells, complete_style="green"), end="")
        return str(drawn.get()).rstrip("\n")


def make(epochs: int, verbose: bool, place: Place, steps: int) -> Display:
    """Return what suits where the output goes: a terminal, unless every line is asked for, or something else."""
    path = "" if verbose or is_heard() else launcher_terminal()
    try:
        return Progress(StatusLine(path), place, epochs, steps) if path else Lines(epochs, every=verbose)
    except OSError:
        return Lines(epochs, every=verbose)
