"""What a watchdog prints."""

import contextlib
import os

from common.launcher_output import output_fault
from common.status_line import erase


def say(message: str) -> None:
    """Print a message to stderr in one write, if anybody still reads it, and if the launcher can write it."""
    erase()
    text = f"rankwise: {message}\n"
    if not output_fault(2, text):
        with contextlib.suppress(OSError):
            os.write(2, text.encode(errors="replace"))


def release_output() -> None:
    """Print nothing more: who reads this process's stderr, as the launcher does, need not wait for its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
