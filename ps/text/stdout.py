"""Lines that rank 0 prints, which training outlives whoever reads them."""

import contextlib
import os
import sys


def say(line: str) -> None:
    """Print one line in one write: a launcher's stdout is a pipe, where halves of lines interleave.

    Training goes on when nobody reads any more (``| head``, a closed terminal): the log has it all.
    """
    encoding = sys.stdout.encoding or "utf-8"
    line = line.encode(encoding, "backslashreplace").decode(encoding)
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # also for what Python flushes at its end
    except OSError:
        return  # a full disk may have room again


def warn(line: str) -> None:
    """Print one warning line to stderr in one write, if it can be written: it may be on the disk that is full."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"rankwise: warning: {line}\n")
        sys.stderr.flush()
