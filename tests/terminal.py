"""A terminal for a command that draws, and what then stands in it."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
from collections.abc import Callable
from pathlib import Path

from tests.ranks import WAIT_S, environment, wait_until


def until(condition: Callable[[], object]) -> None:
    """Wait until something holds."""
    wait_until(condition)


class Terminal:
    """A command in a terminal of 30 lines, and what it has drawn there."""

    def __init__(self, command: list[str], columns: int = 100, cwd: Path | None = None, **changes: str) -> None:
        self.ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        env = environment(**{"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **changes})
        self.process = subprocess.Popen(command, stdout=theirs, stderr=theirs, env=env, start_new_session=True, cwd=cwd)
        os.close(theirs)
        self.data = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            while data := os.read(self.ours, 1 << 16):
                self.data += data
        except OSError:  # Linux: nobody has the other end open any more
            pass

    @property
    def text(self) -> str:
        return self.data.decode("utf-8", "replace")

    def finish(self) -> int:
        code = self.process.wait(WAIT_S)
        self._reader.join(WAIT_S)
        os.close(self.ours)
        return code

    @property
    def lines(self) -> list[str]:
        """What stands in the terminal: lines that were erased or written over do not."""
        shown, at = [""], 0
        for part in re.findall(r"\x1b\[[\d;?]*[a-zA-Z]|[\r\n]|[^\x1b\r\n]+", self.text):
            if part == "\n":
                shown, at = [*shown, ""], 0
            elif part == "\r":
                at = 0
            elif part == "\x1b[K":
                shown[-1] = shown[-1][:at]
            elif not part.startswith("\x1b"):
                shown[-1] = shown[-1][:at].ljust(at) + part + shown[-1][at + len(part) :]
                at += len(part)
        return [line.rstrip() for line in shown]
