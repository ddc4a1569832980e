"""Lines that reach a terminal or a pipe whole, and that training outlives."""

import sys

from common.standard_streams import complain, drop
from common.status_line import StatusLine
from common.wording import printable

MOST_CHARACTERS = 100_000
"""Of a line: one may name every parameter."""

_status_lines: list[StatusLine] = []
"""What this process draws on the terminal: at most one, which gives way to other lines."""


def set_status_line(line: StatusLine | None) -> None:
    """Let lines that are printed erase this one first."""
    for old in _status_lines:
        old.erase()
    _status_lines[:] = filter(None, [line])


def say(line: str) -> None:
    """Print one line in one write: a launcher's stdout is a pipe, where halves of lines interleave.

    Training continues when nobody reads any more (``| head``, a closed terminal): the log has it all.
    """
    _give_way()
    encoding = sys.stdout.encoding or "utf-8"
    line = printable(line, MOST_CHARACTERS)
    line = line.encode(encoding, "backslashreplace").decode(encoding)
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        drop(sys.stdout)
    except OSError:
        return  # a full disk may have space again


def warn(line: str) -> None:
    """Print one warning line to stderr in one write, if it can be written: it may be on the disk that is full."""
    _give_way()
    complain(f"rankwise: warning: {line}")


def _give_way() -> None:
    for line in _status_lines:
        line.erase()
