"""Signals that ask for a stop: the handler only sets a flag, and all ranks stop after the same step."""

import os
import signal
import time
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
ECHO_S = 1.0
"""A launcher forwards Ctrl-C while the terminal sends it too: the same wish, not a second one."""


class StopFlag:
    """Remembers the first signal; a later one ends the process at once, as without us."""

    def __init__(self) -> None:
        self.signal = 0
        self._at = 0.0
        for number in SIGNALS:
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if not self.signal:
            self.signal, self._at = number, time.monotonic()
        elif time.monotonic() - self._at > ECHO_S:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def over(self) -> None:
        """Ignore signals from here on: ``srun -K1`` ends all ranks at the first bad exit code, which must stay ours."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def name(number: int) -> str:
    """Return SIGTERM for 15, and so on."""
    return signal.Signals(number).name
