"""The job's processes: none outlives the supervisor, and none of an attempt is there when the next one begins."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from common.process_table import processes
from common.start_words import ALL_STARTED

LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
GRACE_S = 15.0
"""For what is left when the launcher has ended: watchdogs that write to the log, ranks that have not noticed yet."""
LOOK_S, END_S = 1.0, 5.0
"""Between two looks at whether a job is overdue; for a launcher that is asked to end."""
TAIL_BYTES = 1 << 16
OWN_MESSAGE = b"rankwise: "
WARNING = b"rankwise: warning: "


def adopt_orphans() -> None:
    """Become the parent of processes whose own parent ends, so that they can be found. Linux only."""
    if LIBC:
        LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1)


def _tie_to(parent: int) -> None:
    """Have this new process killed when its parent dies, however that happens. Linux only.

    A launcher that is killed takes its ranks along: they, or those that started them, see their connection end.
    """
    if LIBC:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(128 + signal.SIGKILL)


class Attempt:
    """One start of the job. Its standard error passes through here, for its last message is kept.

    ``started``: rank 0 has said there that all ranks have.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start it in a process group of its own: a terminal's Ctrl-C is for the supervisor. Raises OSError."""
        self._tail = b""
        self.started = False
        self._grace_s = GRACE_S
        # nothing else runs in this process now that could hold a lock, which is what makes preexec_fn a danger
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, start_new_session=True,
            preexec_fn=partial(_tie_to, os.getpid()),  # noqa: PLW1509
        )  # fmt: skip
        self._thread = threading.Thread(target=self._pass_on, name="stderr", daemon=True)
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Ask for an agreed stop: SIGUSR1, which every launcher forwards; after other signals some kill at once."""
        self.process.send_signal(signal.SIGUSR1)

    def kill(self) -> None:
        """End all of it now; may be called while another frame waits."""
        self._grace_s = 0.0
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def wait(self, overdue: Callable[[float], bool] | None = None) -> int:
        """Wait for the end of the launcher and all it started here; return its exit code, 128 + n for a signal.

        ``overdue``: called once a second with the time since the last call; says whether to end the job.
        """
        code: int | None = None
        while code is None:
            begin = time.monotonic()
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self.process.wait(LOOK_S)
            # a supervisor that was stopped, with its job, has not waited meanwhile
            if code is None and overdue and overdue(min(time.monotonic() - begin, 2 * LOOK_S)):
                code = self._end()
        end_children(self._grace_s)
        self._thread.join(1.0)
        return code if code >= 0 else 128 - code

    def _end(self) -> int:
        """End the launcher: it is asked before it is killed, so that it can end what it has started elsewhere."""
        self._grace_s = END_S
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(END_S)
        self.kill()
        return self.process.wait()

    def message(self) -> str:
        """Return the last message of rankwise's own on standard error, if any."""
        own = [
            line for line in self._tail.splitlines() if line.startswith(OWN_MESSAGE) and not line.startswith(WARNING)
        ]
        return own[-1].removeprefix(OWN_MESSAGE).decode("utf-8", "replace") if own else ""

    def _pass_on(self) -> None:
        assert self.process.stderr is not None
        source = self.process.stderr.fileno()
        while data := os.read(source, TAIL_BYTES):
            if ALL_STARTED in self._tail[-len(ALL_STARTED) :] + data:
                self.started, data = True, data.replace(ALL_STARTED, b"")
            self._tail = (self._tail + data)[-TAIL_BYTES:]
            with contextlib.suppress(OSError):  # nobody reads it any more
                os.write(2, data)


def end_children(grace_s: float) -> None:
    """Wait for all children and adopted orphans of this process, but kill those that are there after ``grace_s``.

    The children of a child that is killed are adopted, and killed in their turn.
    """
    deadline = time.monotonic() + grace_s
    with contextlib.suppress(ChildProcessError):  # none is left
        while True:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
            if time.monotonic() > deadline:
                for child in (process for process in processes().values() if process.parent == os.getpid()):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(child.pid, signal.SIGKILL)
            time.sleep(0.02)
