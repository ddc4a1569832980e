"""Lines that reach a terminal or a pipe whole, and that training outlives."""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from common.launcher_output import NO_READER, output_fault
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


_listener: ContextVar[Callable[[str, bool], object] | None] = ContextVar("listener", default=None)
"""Takes lines in place of the terminal, in a process that is not a job's own; with whether one is a warning."""


@contextlib.contextmanager
def heard_by(listener: Callable[[str, bool], object]) -> Iterator[None]:
    """Give lines of this context to ``listener``, with whether one is a warning, and print none."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def is_heard() -> bool:
    """Say whether somebody else takes the lines."""
    return _listener.get() is not None


def say(line: str) -> None:
    """Print one line, or lines that belong together, in one write.

    A launcher's stdout is a pipe, where halves of lines interleave; and a reader that leaves after a line (``| head``)
    has left before the next write.

    Training continues when nobody reads any more (``| head``, a closed terminal) or the disk is full: the log has it
    all. A launcher that would not get over that is not given the line.
    """
    if listener := _listener.get():
        listener(line, False)
        return
    _give_way()
    encoding = sys.stdout.encoding or "utf-8"
    line = printable(line, MOST_CHARACTERS)
    line = line.encode(encoding, "backslashreplace").decode(encoding) + "\n"
    if fault := output_fault(1, line):
        if fault != NO_READER:
            _warn_once(f"standard output: cannot be written ({fault}); training continues, and the log has it all")
        return
    try:
        sys.stdout.write(line)
        sys.stdout.flush()
    except BrokenPipeError:
        drop(sys.stdout)
    except OSError:
        return  # a full disk may have space again


def warn(line: str) -> None:
    """Print one warning line to stderr in one write, if it can be written: it may be on the disk that is full."""
    if listener := _listener.get():
        listener(line, True)
        return
    _give_way()
    complain(f"rankwise: warning: {line}")


@functools.cache
def _warn_once(line: str) -> None:
    warn(line)


def _give_way() -> None:
    for line in _status_lines:
        line.erase()
