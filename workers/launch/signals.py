"""Signals that ask for a stop: the handler only sets a flag, and all ranks stop after the same step."""

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

from common import start_guard
from common.errors import EXIT_ERROR
from common.files import do_nothing
from common.job_signals import ABORT_SIGNAL, REPEATED_SIGNALS, STOP_SIGNALS
from common.rank_status import ASKED, SIGNAL

ECHO_S = 1.0
"""A launcher forwards Ctrl-C while the terminal sends it too: that is one request, not two."""
_NOHUP = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
"""Whether whoever started this process, ``nohup`` say, wants it to outlive its terminal."""
OUR_STOP_SIGNALS = tuple(number for number in STOP_SIGNALS if not (_NOHUP and number == signal.SIGHUP))
"""The signals that ask this process for a stop."""


class StopRequests:
    """Tells who insists on the end from who asks once more.

    The same signal a second time insists. A batch system that sends one signal after the other (USR1 before the time
    limit and TERM at the limit; INT, TERM and KILL, ten seconds apart) leaves that time for saving.
    """

    def __init__(self) -> None:
        self._first: dict[int, float] = {}

    def insist(self, number: int, now: float) -> bool:
        """Note a signal; return whether it came a second time, later than an echo does."""
        return now - self._first.setdefault(number, now) > ECHO_S and number not in REPEATED_SIGNALS


class StopRequest:
    """Whether a stop is asked for: the number of the signal, 0 if none came. Whoever makes it sets that."""

    signal = 0

    def asked(self) -> bool:
        """Say whether a stop is asked for."""
        return self.signal != 0

    def listen(self, listener: Callable[[int], object]) -> None:
        """Call this with each signal that comes, where signals come here."""

    def over(self) -> None:
        """Ignore signals from here on, where they came here."""


class StopFlag(StopRequest):
    """Remembers the first signal; the same one again ends the process at once, with 128 + its number.

    Python runs handlers between two of its own instructions, so not while this rank waits in MPI for one that never
    comes. A thread that reads the interpreter's wake-up pipe notices every signal at once, also the one by which the
    watchdog of this node asks for the end of the job, with ``abort``. In ``cells`` the watchdog reads why this process
    ended.
    """

    def __init__(self, cells: "memoryview[int]", abort: Callable[[int], object]) -> None:
        self.signal = 0
        self._listener: Callable[[int], object] = do_nothing
        self._cells, self._abort = cells, abort
        self._pipe, end = os.pipe()
        os.set_blocking(end, False)
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # from one to the other none gets lost
        signal.set_wakeup_fd(end, warn_on_full_buffer=False)
        for number in OUR_STOP_SIGNALS:
            signal.signal(number, self._handle)
        if ABORT_SIGNAL:
            signal.signal(ABORT_SIGNAL, lambda *_: None)  # left to the thread
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        threading.Thread(target=self._watch, name="signals", daemon=True).start()

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.signal = self.signal or number

    def listen(self, listener: Callable[[int], object]) -> None:
        """Call this with each signal that comes, also with SIGCONT, at once and in another thread."""
        self._listener = listener
        signal.signal(signal.SIGCONT, lambda *_: None)

    def _watch(self) -> None:
        requests = StopRequests()
        while True:
            number = os.read(self._pipe, 1)[0]
            if number == ABORT_SIGNAL:
                self._abort(EXIT_ERROR)
                os._exit(EXIT_ERROR)  # abort may return
            if number in STOP_SIGNALS:
                self._cells[ASKED] = int(1000 * time.monotonic())
            self._listener(number)
            if number in STOP_SIGNALS and requests.insist(number, time.monotonic()):
                self._cells[SIGNAL] = number
                start_guard.over()
                os._exit(128 + number)

    def over(self) -> None:
        """Ignore signals from here on: ``srun -K1`` ends all ranks at the first bad exit code, which must stay ours."""
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
