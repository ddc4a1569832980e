"""Which signals ask a job to stop, and which ones the watchdog and its ranks use among themselves."""

import signal

REPEATED_SIGNALS = (signal.SIGXCPU, signal.SIGURG, signal.SIGHUP)
"""Signals that ask for a stop, and no more than that when they come again: the kernel sends SIGXCPU every second that a
rank computes beyond its limit, and a terminal that closes may send several SIGHUP."""
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, *REPEATED_SIGNALS)
"""What terminals and batch systems send before they kill."""
_OWN = int(signal.SIGRTMIN) + 8 if hasattr(signal, "SIGRTMIN") else 0
"""Real-time signals, for any other may come from a batch system; 0 where there is no watchdog either."""
ABORT_SIGNAL = _OWN
"""Has a rank end the job with the exit code of an error (``workers/launch/signals.py``)."""
STACK_SIGNAL = _OWN and _OWN + 1
"""Has a rank write its Python stack to its memory (``workers/watchdog/spawn.py``)."""


def signal_name(number: int) -> str:
    """Return the name of a signal; most real-time signals have none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
