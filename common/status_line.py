"""The line that shows a job's progress, on the terminal that its launcher was started in.

A launcher hands on what ranks print, some of them only whole lines. So rank 0 finds that terminal and writes to it
directly. The cursor stays at the line's beginning: whatever others print replaces the line.
"""

import contextlib
import functools
import os
import sys
import threading
import time

from common.host import eldest_launcher
from common.process_table import stat_fields

ERASE = "\r\x1b[K"
USUAL_WIDTH = 80
"""Of a terminal that does not say, and of what is no terminal."""
HOLD_S = 0.3
"""How long a launcher may take to print what it was given: so long nothing is drawn."""
STAT_GROUP, STAT_FOREGROUND = 2, 5
"""Fields of /proc/PID/stat, from the third on: the process's group, and the one that its terminal listens to."""

NO_TERMINAL = "-1"
"""In place of the latter for a process without a terminal that starts jobs, which may print to one all the same."""


@functools.cache
def launcher_terminal() -> str:
    """Return the terminal that the launcher of this process, or the process itself, prints to; empty if to no terminal.

    Nor is it one that cannot move its cursor, that belongs to another job meanwhile, or that is on another host. It is
    looked up once: who outlives the rank that started it cannot find it later.
    """
    if os.environ.get("TERM", "dumb") == "dumb":
        return ""
    pid, _ = eldest_launcher()
    try:
        path = os.readlink(f"/proc/{pid}/fd/1")
        handle = os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK) if path.startswith("/dev/") else -1
    except OSError:
        return ""
    if handle < 0:
        return ""
    try:
        return path if os.isatty(handle) and in_foreground(pid) else ""
    finally:
        os.close(handle)


def launcher_width() -> int:
    """Return how many columns the launcher's terminal has; 0 if there is none, or it does not say."""
    path = launcher_terminal()
    try:
        handle = os.open(path, os.O_WRONLY | os.O_NOCTTY) if path else -1
    except OSError:
        return 0
    try:
        return os.get_terminal_size(handle).columns if path else 0
    except OSError:
        return 0
    finally:
        if path:
            os.close(handle)


def in_foreground(pid: int) -> bool:
    """Say whether a process may write to its terminal without disturbing what else runs there."""
    fields = stat_fields(pid)
    return len(fields) > STAT_FOREGROUND and fields[STAT_FOREGROUND] in (fields[STAT_GROUP], NO_TERMINAL)


def erase() -> None:
    """Erase the line from any process of the job that is about to print a message, if there may be one."""
    path = launcher_terminal()
    if path:
        with contextlib.suppress(OSError):
            StatusLine(path).erase()


class StatusLine:
    """The line on a terminal, drawn again and again. It may be used from several threads."""

    def __init__(self, path: str) -> None:
        """Raises OSError if the terminal cannot be written to."""
        self.path = path
        self._handle = os.open(path, os.O_WRONLY | os.O_NOCTTY)
        self._lock = threading.Lock()
        self._shown, self._erased_at = True, -HOLD_S  # shown by a process that is gone, perhaps

    @property
    def width(self) -> int:
        """How many columns it may have: one less than the terminal, which else begins another line."""
        try:
            return (os.get_terminal_size(self._handle).columns or USUAL_WIDTH) - 1
        except OSError:  # it is closed
            return 0

    def draw(self, text: str) -> None:
        """Show a text of at most ``width`` columns, unless something is being printed."""
        with self._lock:
            if time.monotonic() - self._erased_at >= HOLD_S:
                self._write(f"{ERASE}{text}\r")
                self._shown = True

    def erase(self) -> None:
        """Make place for what is about to be printed."""
        with self._lock:
            if self._shown:
                self._write(ERASE)
            self._shown, self._erased_at = False, time.monotonic()

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):  # the terminal may be closed by now
            os.write(self._handle, text.encode(sys.stdout.encoding or "utf-8", "replace"))
