"""What may stand where a regular file is expected, and acts that must not hang or take much memory on it."""

import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

GIANT = 1 << 40
"""Bytes of a file without blocks: none are on the disk."""
MORE_MEMORY = 1 << 30
"""What an act may take besides what this process has."""
NOBODY = 65534


def _socket(path: Path) -> None:
    before = os.getcwd()
    os.chdir(path.parent)  # the whole path may be longer than a socket's name
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(before)


def giant(path: Path, head: bytes = b"") -> None:
    """Make a file of a terabyte of zeros, after a few other bytes."""
    with path.open("wb") as file:
        file.write(head)
        file.truncate(GIANT)


OTHERS: dict[str, Callable[[Path], object]] = {
    "a named pipe": os.mkfifo,
    "a socket": _socket,
    "a folder": Path.mkdir,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "Too many levels": lambda path: path.symlink_to(path.name),
}
"""How to make what is no regular file, by what a message says of it."""


class Outcome(NamedTuple):
    """``code``: negative if a signal has ended it: -SIGALRM after a minute."""

    code: int
    out: str
    err: str


def limited(act: Callable[[], object], folder: Path, *, user: int | None = None) -> Outcome:
    """Do something in a process that is ended after a minute, and gets little memory; its result is the exit code.

    ``folder``: where its output is kept. ``user``: as whom to do it, if this process may choose.
    """
    out, err = folder / "out.txt", folder / "err.txt"
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            for number, path in ((1, out), (2, err)):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            sys.stdout, sys.stderr = (
                open(number, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
                for number in (1, 2)
            )
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(60)
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            limit = pages * os.sysconf("SC_PAGE_SIZE") + MORE_MEMORY
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            if user is not None:
                os.setuid(user)
            result = act()
            code = result if isinstance(result, int) else 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return Outcome(code, out.read_text(), err.read_text())
