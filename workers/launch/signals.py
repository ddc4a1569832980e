"""Signals that ask for a stop: the handler only sets a flag, and all ranks stop after the same step."""

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

from common.errors import EXIT_ERROR
from common.rank_status import ABORT_SIGNAL, SIGNAL

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
ECHO_S = 1.0
"""A launcher forwards Ctrl-C while the terminal sends it too: that is one request, not two."""


class StopFlag:
    """Remembers the first signal; a second one ends the process at once, with 128 + its number.

    Python runs handlers between two of its own instructions, so not while this rank waits in MPI for one that never
    comes. A thread that reads the interpreter's wake-up pipe notices every signal at once, also the one by which the
    watchdog of this node asks for the end of the job, with ``abort``. In ``cells`` the watchdog reads why this process
    ended.
    """

    def __init__(self, cells: "memoryview[int]", abort: Callable[[int], object]) -> None:
        self.signal = 0
        self._cells, self._abort = cells, abort
        self._pipe, end = os.pipe()
        os.set_blocking(end, False)
        signal.set_wakeup_fd(end, warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, self._handle)
        signal.signal(ABORT_SIGNAL, lambda *_: None)  # left to the thread
        threading.Thread(target=self._watch, name="signals", daemon=True).start()

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.signal = self.signal or number

    def _watch(self) -> None:
        first = 0.0
        while True:
            number = os.read(self._pipe, 1)[0]
            if number == ABORT_SIGNAL:
                self._abort(EXIT_ERROR)
                os._exit(EXIT_ERROR)  # abort may return
            if number not in SIGNALS:
                continue
            first = first or time.monotonic()
            if time.monotonic() - first > ECHO_S:
                self._cells[SIGNAL] = number
                os._exit(128 + number)

    def over(self) -> None:
        """Ignore signals from here on: ``srun -K1`` ends all ranks at the first bad exit code, which must stay ours."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
