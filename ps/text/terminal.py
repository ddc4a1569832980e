"""Lines that reach a terminal or a pipe whole, and that training outlives."""

import contextlib
import os
import re
import sys

CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """Return a text with control characters written out: what a log holds must not steer a terminal."""
    return CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def say(line: str) -> None:
    """Print one line in one write: a launcher's stdout is a pipe, where halves of lines interleave.

    Training continues when nobody reads any more (``| head``, a closed terminal): the log has it all.
    """
    encoding = sys.stdout.encoding or "utf-8"
    line = line.encode(encoding, "backslashreplace").decode(encoding)
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # also for what Python flushes when it ends
    except OSError:
        return  # a full disk may have space again


def warn(line: str) -> None:
    """Print one warning line to stderr in one write, if it can be written: it may be on the disk that is full."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"rankwise: warning: {line}\n")
        sys.stderr.flush()
