"""Runs a command of a case under limits of time, memory and output, and sees that nothing of it stays."""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tests.ranks import environment
from tests.watched import processes

LIMIT_S = 60.0
GONE_S = 15.0
"""How long processes of a job may stay when its launcher is gone."""
ADDRESS_BYTES = 12 << 30
"""Address space of each process: what asks for more fails, instead of taking the machine's memory."""
FILE_BYTES = 2 << 30
MOST_OUTPUT = 4 << 20
"""Characters of an output that are kept."""
Strike = Callable[[int], object]


@dataclass(slots=True)
class Outcome:
    """How a command ended.

    ``lines``: of stderr, with the time of each; ``left``: processes that stayed behind; ``peak_bytes``: of the largest
    process that was waited for.
    """

    code: int
    began: float
    ended: float
    in_time: bool
    out: str
    lines: list[tuple[float, str]]
    left: list[str] = field(default_factory=list)
    struck: float = 0.0
    """When; 0 if it was not."""
    first_step: float = 0.0
    peak_bytes: int = 0
    command: str = ""

    @property
    def err(self) -> str:
        """All of stderr."""
        return "".join(line for _, line in self.lines)

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.began


def watch(
    command: list[str], folder: Path, *, strike: Strike | None = None, limit_s: float = LIMIT_S,
    address_bytes: int = ADDRESS_BYTES, stdout: int | IO[Any] | None = None, **changes: str,
) -> Outcome:  # fmt: skip
    """Run a command up to its end or the time limit, and end what is left of it then.

    It runs in the folder. ``strike`` is called with the id of its process, in a thread. ``changes``: to its environment
    variables.
    """
    began = time.time()
    streams: dict[str, list[tuple[float, str]]] = {"stdout": [], "stderr": []}
    # a thread a rank: two that wait for each other on a machine with other work take forever
    env = environment(**{"TEST_JOB": str(folder), "OMP_NUM_THREADS": "1", **changes})
    with contextlib.suppress(OSError):  # a process that is started inherits the peak of memory, which begins anew here
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    process = subprocess.Popen(
        [*limits(address_bytes), *command], cwd=folder, env=env, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE if stdout is None else stdout, stderr=subprocess.PIPE,
    )  # fmt: skip
    threads = [
        threading.Thread(target=_read, args=(stream, streams[name]))
        for name in streams
        if (stream := getattr(process, name)) is not None
    ]
    failed: list[BaseException] = []
    if strike is not None:
        threads.append(threading.Thread(target=_struck, args=(strike, process.pid, failed)))
    for thread in threads:
        thread.start()
    peak = _wait(process, limit_s)
    ended, in_time = time.time(), peak is not None
    left = wait_gone(folder) if in_time else []
    end_all(folder, process)
    for thread in threads:
        thread.join()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    if failed:
        raise failed[0]
    out = "".join(line for _, line in streams["stdout"])
    outcome = Outcome(process.returncode, began, ended, in_time, out, streams["stderr"], left)
    outcome.peak_bytes, outcome.command = peak or 0, shlex.join(command)
    return outcome


def limits(address_bytes: int) -> list[str]:
    """Return what has a command run with limits on its address space, on the size of files, and without a core file."""
    own = [f"--as={address_bytes}", f"--fsize={FILE_BYTES}", "--core=0"]
    return ["prlimit", *own] if shutil.which("prlimit") else []


def _wait(process: "subprocess.Popen[bytes]", limit_s: float) -> int | None:
    """Wait for a process; return the memory that it or one of those it waited for took, None if it did not end."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return usage.ru_maxrss << 10
        time.sleep(0.01)
    return None


def _struck(strike: Strike, pid: int, failed: list[BaseException]) -> None:
    try:
        strike(pid)
    except BaseException as error:
        failed.append(error)


def _read(stream: IO[bytes], into: list[tuple[float, str]]) -> None:
    """Keep lines up to a limit, and read on, so that nobody waits for room in the pipe."""
    left = MOST_OUTPUT
    while line := stream.readline(MOST_OUTPUT):
        if left > 0:
            into.append((time.time(), line[:left].decode("utf-8", "surrogateescape")))
        left -= len(line)


def wait_gone(folder: Path) -> list[str]:
    """Return what processes of the folder's job stay when it has ended."""
    until = time.monotonic() + GONE_S
    while (left := list(processes(folder))) and time.monotonic() < until:
        time.sleep(0.05)
    return left


def end_all(folder: Path, process: "subprocess.Popen[bytes] | None" = None) -> None:
    """Kill the processes of the folder's job, each by its number, until none is left."""
    deadline = time.monotonic() + GONE_S
    while (left := list(processes(folder))) and time.monotonic() < deadline:
        for line in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(line.partition(":")[0]), signal.SIGKILL)
        if process is not None:
            process.poll()
        time.sleep(0.02)
    if process is not None and process.returncode is None:
        process.kill()
        process.wait()


def job_processes(folder: Path, part: str) -> list[int]:
    """Return the ids of the folder's processes that have ``part`` in their command line, the lowest first."""
    found = [line.partition(":") for line in processes(folder)]
    return sorted(int(pid) for pid, _, command in found if part in command)


def send(pid: int, number: int) -> None:
    """Send a signal to a process, which may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def until(condition: Callable[[], object], seconds: float = 30.0) -> bool:
    """Wait until something holds; return whether it came to that."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
