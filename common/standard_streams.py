"""Standard input, output and error as a process may find them: closed, on a full disk, read by nobody any more."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO

from common.errors import RankwiseError
from common.wording import MOST_CHARACTERS, MOST_LINES, printable

MODES = ("r", "w", "w")
TRACE_CHARACTERS = 20_000


def open_closed() -> None:
    """Open those of the three that are closed (``>&-``) on /dev/null: the first thing that a command does.

    Otherwise the next file that the process opens, its log for instance, would get the number of standard output, and
    with it whatever a library prints. Python has None in place of such a stream.
    """
    for number, (name, mode) in enumerate(zip(("stdin", "stdout", "stderr"), MODES, strict=True)):
        try:
            os.fstat(number)
        except OSError:
            _to_null(number)
        if getattr(sys, name) is None:
            stream = open(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # the terminal may lack characters of a folder's name


def complain(text: str, trace: str = "") -> None:
    """Write a message to standard error, in one write, if that can be written; before it, how Python came there.

    It may quote a log, a file or a library: what would steer the terminal is written out, and of a very long one the
    middle is left out.
    """
    text = printable(text.removesuffix("\n"), MOST_CHARACTERS, MOST_LINES)
    trace = printable(trace, TRACE_CHARACTERS)
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"{trace}{text}\n")
        sys.stderr.flush()


def flush() -> None:
    """Write out what is waiting; drop what cannot be written, or Python's own flush would fail when it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            drop(stream)


def drop(stream: TextIO) -> None:
    """Send what is written to a stream from here on, and what still waits, to nobody."""
    with contextlib.suppress(OSError, ValueError):
        _to_null(stream.fileno())
        stream.flush()


@contextlib.contextmanager
def as_result() -> Iterator[None]:
    """Write to standard output in this context what a command is for. That its reader has seen enough is no fault.

    Raises RankwiseError if it cannot be written; an OSError about a file passes through.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        drop(sys.stdout)
    except OSError as error:
        if error.filename is not None:
            raise
        drop(sys.stdout)
        raise RankwiseError(f"output: cannot be written ({error.strerror or error})") from error


def _to_null(number: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    if null == number:
        os.set_inheritable(number, True)  # processes started from here have the three, too
    else:
        os.dup2(null, number)
        os.close(null)
