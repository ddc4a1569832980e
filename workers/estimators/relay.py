"""What a job prints while an estimator waits for it: shown as ``verbose`` says, its warnings and errors kept apart."""

import contextlib
import os
import selectors
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import IO

PATIENCE_S = 2.0
"""Trainings that take longer show how far they are, where somebody looks on."""
READ_BYTES = 1 << 16
OWN, WARNING = "rankwise: ", "rankwise: warning: "
MOST_LINES = 50


class Progress:
    """Shows the lines of a job: all of them, the newest epoch in one that is redrawn, or none."""

    def __init__(self, verbose: int | None) -> None:
        self.verbose = verbose
        self._began, self._width = time.monotonic(), 0
        self._draws = verbose is None and (sys.stderr.isatty() or "ipykernel" in sys.modules)

    def line(self, text: str) -> None:
        """Take a line."""
        if self.verbose:
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()
        elif self._draws and text.startswith("Epoch ") and time.monotonic() - self._began > PATIENCE_S:
            sys.stderr.write(f"\r{text.ljust(self._width)}")
            sys.stderr.flush()
            self._width = len(text)

    def close(self) -> None:
        """Remove what is drawn."""
        if self._width:
            sys.stderr.write(f"\r{' ' * self._width}\r")
            sys.stderr.flush()
            self._width = 0


class Output:
    """Takes both streams of a job apart into lines, and keeps the end of what it complained of."""

    def __init__(self, verbose: int | None) -> None:
        self.progress, self.complaints = Progress(verbose), list[str]()
        self.warnings: list[str] = []
        self._rest = {"out": "", "err": ""}

    def feed(self, stream: str, text: str) -> None:
        """Take what came from a stream."""
        *lines, self._rest[stream] = (self._rest[stream] + text).split("\n")
        for line in lines:
            self._take(stream, line)

    def _take(self, stream: str, line: str) -> None:
        if stream == "out":
            self.progress.line(line)
        elif line.startswith(WARNING):
            self.warnings.append(line.removeprefix(WARNING))
        elif line.strip():
            self.complaints = [*self.complaints, line][-MOST_LINES:]

    def take(self, line: str, is_warning: bool) -> None:
        """Take lines of a job in this process."""
        for one in line.split("\n"):
            self._take("err" if is_warning else "out", f"{WARNING}{one}" if is_warning else one)

    def close(self) -> None:
        """End: give warnings to Python's."""
        for stream, rest in self._rest.items():
            if rest:
                self._take(stream, rest)
        self._rest = {"out": "", "err": ""}
        self.progress.close()
        given, self.warnings = self.warnings, []
        for text in given:
            warnings.warn(text, UserWarning, stacklevel=2)

    def message(self) -> str:
        """Return what the job said was wrong: its own message, or else the end of what it complained of."""
        own = [line for line in self.complaints if line.startswith(OWN)]
        return own[-1].removeprefix(OWN) if own else "; ".join(self.complaints[-3:])


def follow(process: "subprocess.Popen[bytes]", over: int, output: Output, interrupt: Callable[[], object]) -> None:
    """Hand on what a process prints until the file ``over`` can be read; ``interrupt`` is called for each Ctrl-C."""
    assert process.stdout is not None
    assert process.stderr is not None
    with selectors.DefaultSelector() as selector:
        for stream, name in ((process.stdout, "out"), (process.stderr, "err")):
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, selectors.EVENT_READ, name)
        selector.register(over, selectors.EVENT_READ, "")
        ended = False
        while not ended:
            try:
                for key, _ in selector.select():
                    ended = ended or not key.data
                    if key.data and not _read(key.fileobj, key.data, output):  # type: ignore[arg-type]
                        selector.unregister(key.fileobj)
            except KeyboardInterrupt:
                interrupt()
    for stream, name in ((process.stdout, "out"), (process.stderr, "err")):
        while _read(stream, name, output):
            pass


def _read(stream: IO[bytes], name: str, output: Output) -> bool:
    """Read what is there; return whether there was something."""
    data = b""
    with contextlib.suppress(BlockingIOError):
        data = os.read(stream.fileno(), READ_BYTES)
    output.feed(name, data.decode("utf-8", "replace"))
    return bool(data)
