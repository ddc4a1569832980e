"""The guard of a rank's start: a small process that ends the job, and says why, unless all ranks come into MPI.

Before MPI has started a launcher may not care who ends (MPICH's does not), and the others wait in ``MPI_Init``, in C,
where neither Python's handlers nor its threads run. So each rank forks its guard first of all. The guard hears
through a pipe how far its rank is, of the signals that come and of its end. ``common/start_watch.py`` is what it does.
"""

import os
import signal
import sys
import time
from contextlib import suppress
from types import FrameType, TracebackType
from typing import NoReturn

from common.job_signals import STOP_SIGNALS
from common.launcher_place import LauncherPlace
from common.start_words import FAILED, FAILING, MESSAGE_FIRST_S, MOST_BYTES, WAITS

DOORS = frozenset(("workers.run", "workers.bench", "workers.compare", "workers.prepare", "workers.doctor"))
"""Modules that ranks run."""
GUARD_S = 20.0
"""How long a rank that failed waits for its guard to end the job."""
MOST_REASON = 500
"""Characters of an error that are shown."""
_pipe, _guard, _place = -1, 0, LauncherPlace({})
_code = 0
"""With what this rank is about to end, because it cannot start."""
_told = False
"""Whether its guard knows why."""


def begin() -> None:
    """Have this process watched until ``over`` if a launcher started it as a rank; first of all, before imports.

    Signals end it with 128 + their number from here on, without a traceback.
    """
    global _place  # noqa: PLW0603 - one guard a process
    words = (word.removeprefix("-m") for word in sys.orig_argv)
    if next((word for word in words if word.startswith("workers.")), "") not in DOORS:
        _set(signal.SIGINT)  # the others end it quietly by themselves
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    _place = LauncherPlace(os.environ)
    if _place.size and hasattr(os, "pidfd_open"):
        _fork()
    for number in STOP_SIGNALS:
        _set(number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    sys.excepthook = _uncaught


def _fork() -> None:
    """Start the guard; without it, if the system lets no more processes start, the job starts all the same."""
    global _pipe, _guard  # noqa: PLW0603
    from common import start_watch  # here, for each of the two would else load what the other has

    opened: list[int] = []
    try:
        opened += os.pipe2(os.O_DIRECT | os.O_CLOEXEC)  # each message by itself
        opened.append(os.pidfd_open(os.getpid()))
        _guard = os.fork()
    except OSError:
        for handle in opened:
            os.close(handle)
        return
    end, _pipe, rank = opened
    if not _guard:
        code = 1
        try:
            os.close(_pipe)
            start_watch.run(end, rank, _place)
            code = 0
        finally:
            os._exit(code)
    os.close(end)
    os.close(rank)
    os.set_blocking(_pipe, False)
    signal.set_wakeup_fd(_pipe, warn_on_full_buffer=False)


def _set(number: int) -> None:
    if signal.getsignal(number) != signal.SIG_IGN:
        signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    if _code and _place.step:  # srun -K1, since another rank said first why none can start: its code must not be 143
        if not _told:
            over()
        os._exit(_code)
    if _guard and _place.pmi >= 0:
        time.sleep(MESSAGE_FIRST_S)  # the guard ends the whole job meanwhile, with this code
    os._exit(128 + number)


def _tell(message: bytes) -> None:
    if _guard:
        try:
            os.write(_pipe, message)
        except OSError:
            return  # the guard is gone


def waits() -> None:
    """Say that this rank is ready: the next thing it does is to meet the others in MPI."""
    _tell(WAITS)


def failing(code: int) -> None:
    """Say that this rank cannot start, and is about to call ``fail`` with a code: nobody need tell of its end."""
    global _code  # noqa: PLW0603
    _code = code
    if _guard and _place.step:
        signal.set_wakeup_fd(-1)  # the guard would take a signal for the end of the job
    _tell(FAILING)


def over() -> None:
    """Send the guard away: all ranks have met, or this one ends as it should. What is no rank has its imports."""
    global _guard
    guard, _guard = _guard, 0
    if guard:
        with suppress(ProcessLookupError, ChildProcessError):  # where SIGCHLD is ignored, nobody is left to wait for
            os.kill(guard, signal.SIGKILL)  # works also on one that is stopped
            os.waitpid(guard, 0)
        os.close(_pipe)
    sys.excepthook = sys.__excepthook__
    if not _place.size and signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # there may be something to tidy up from here on


def fail(message: str, code: int, *, alone: bool = False) -> NoReturn:
    """End the job with a message, once for all ranks of a node that fail at the same time; without guards, by rank 0.

    The message names the rank where it is not the first one, or where the fault is most likely its own (``alone``).
    """
    global _told  # noqa: PLW0603
    if _place.rank or (alone and _place.size > 1):
        message = f"rank {_place.rank} on {_place.host} cannot start: {message}"
    if not _guard:
        if _place.rank:
            time.sleep(MESSAGE_FIRST_S)
        else:
            _say(message)
        _leave(code)
    signal.set_wakeup_fd(-1)  # it ends already
    _told = True
    _tell(FAILED + bytes([code]) + message.encode(errors="replace")[:MOST_BYTES])
    until = time.monotonic() + GUARD_S
    while time.monotonic() < until and _is_heard():
        time.sleep(0.02)
    _leave(code)


def _is_heard() -> bool:
    """Say whether the guard still listens; when it has done what is to do, it does not."""
    try:
        os.write(_pipe, FAILING)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return True


def _leave(code: int) -> NoReturn:
    with suppress(AttributeError, OSError, ValueError):  # it is closed, or on a full disk
        sys.stdout.flush()
    os._exit(code)


def _say(message: str) -> None:
    with suppress(OSError):
        os.write(2, f"rankwise: {message}\n".encode(errors="replace"))


def failed(error: BaseException) -> NoReturn:
    """End the job because this rank has met an error before MPI: the reason in a line, and a traceback with --debug."""
    failing(1)
    if os.environ.get("RANKWISE_DEBUG", "").lower() in ("1", "true", "yes") or "--debug" in sys.argv:
        sys.__excepthook__(type(error), error, error.__traceback__)
    hint = f"; its Python is {sys.executable}, and all ranks need the same packages"
    fail(f"{reason(error)}{hint if isinstance(error, ImportError) else ''}", 1, alone=True)


def reason(error: BaseException) -> str:
    """Return what is wrong, and in which file, in one line."""
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(str(error).split()))
    cut = text if len(text) <= MOST_REASON else f"{text[:MOST_REASON]} ..."
    place, trace = "", error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        place = place if name.startswith("<frozen") else f" ({name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return f"{type(error).__name__}{f': {cut}' if cut else ''}{place}"


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:  # noqa: ARG001
    failed(error)
