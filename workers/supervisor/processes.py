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
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
GRACE_S = 15.0
"""Given to what is left when the launcher has ended: writers of last words, ranks that have not noticed yet."""
TAIL_BYTES = 1 << 16
OWN_MESSAGE = b"rankwise: "
NO_MESSAGE = b"rankwise: warning: "


def adopt_orphans() -> None:
    """Become the parent of what leaves its own behind, so that it can be found. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def _tied_to_us() -> Callable[[], None] | None:
    """Return what a new process calls so that it is killed when this one dies, however it dies. Linux only.

    A launcher that is killed takes its ranks along: they, or those that started them, see their connection end.
    """
    if sys.platform != "linux":
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def tie() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(128 + signal.SIGKILL)

    return tie


class Attempt:
    """One start of the job. Its standard error passes through here, for its last message is kept."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start it in a process group of its own: a terminal's Ctrl-C is for the supervisor. Raises OSError."""
        self._tail = b""
        self._grace_s = GRACE_S
        # nothing else runs in this process now that could hold a lock, which is what makes preexec_fn a danger
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
            preexec_fn=_tied_to_us(),  # noqa: PLW1509
        )
        self._pump = threading.Thread(target=self._pass_on, name="stderr", daemon=True)
        self._pump.start()

    def ask_to_stop(self) -> None:
        """Ask for an agreed stop: SIGUSR1, which every launcher forwards; after others some kill at once."""
        self.process.send_signal(signal.SIGUSR1)

    def kill(self) -> None:
        """End all of it now; may be called while another frame waits."""
        self._grace_s = 0.0
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Wait for the end of the launcher and all it started here; return its exit code, 128 + n for a signal."""
        code = self.process.wait()
        end_children(self._grace_s)
        self._pump.join(1.0)
        return code if code >= 0 else 128 - code

    def message(self) -> str:
        """Return the last message of rankwise's own on standard error, if any."""
        lines = [line for line in self._tail.splitlines() if line.startswith(OWN_MESSAGE)]
        own = [line for line in lines if not line.startswith(NO_MESSAGE)]
        return own[-1].removeprefix(OWN_MESSAGE).decode("utf-8", "replace") if own else ""

    def _pass_on(self) -> None:
        assert self.process.stderr is not None
        source = self.process.stderr.fileno()
        while data := os.read(source, TAIL_BYTES):
            self._tail = (self._tail + data)[-TAIL_BYTES:]
            with contextlib.suppress(OSError):  # nobody reads it any more
                os.write(2, data)


def end_children(grace_s: float) -> None:
    """Wait for all processes that come from this one, but kill those that are there after ``grace_s``."""
    deadline = time.monotonic() + grace_s
    while _reap():
        if time.monotonic() > deadline:
            for process in descendants(os.getpid()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
        time.sleep(0.02)


def _reap() -> bool:
    """Take notice of ended children; return whether there are others."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def descendants(ancestor: int) -> list[int]:
    """Return the processes that come from one, as /proc tells."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # proc(5): field 4; the second is the program's name in brackets, which may hold anything
            parent = int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
        except (OSError, IndexError):  # gone meanwhile
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found: list[int] = []
    new = children.get(ancestor, [])
    while new:
        found += new
        new = [child for process in new for child in children.get(process, [])]
    return found
