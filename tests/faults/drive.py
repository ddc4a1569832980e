"""Starts the jobs of a case, strikes them, and sees that they end."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tests.faults.plan import Case, Fault
from tests.ranks import MPIRUN, PROGRAMS, environment
from tests.watched import processes

LIMIT_S = 60.0
GONE_S = 15.0
"""How long processes of a job may stay when its launcher is gone."""
DISK_BYTES = 4 << 20
STRUCK, FIRST_STEP, DISK = "struck", "first-step", "disk"


@dataclass(slots=True)
class Outcome:
    """How a job ended. ``lines``: of stderr, with the time of each; ``left``: processes that stayed behind."""

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

    @property
    def err(self) -> str:
        """All of stderr."""
        return "".join(line for _, line in self.lines)


class Folder:
    """The folder of a case; the run folder in it lies on a small disk of its own, where the case fills one up."""

    def __init__(self, path: Path, case: Case) -> None:
        self.path, self.case = path, case
        self.run = path / DISK / "run"
        (path / DISK).mkdir(parents=True)

    @contextlib.contextmanager
    def disk(self) -> Iterator[None]:
        """Have the small disk, if root may mount one."""
        if self.case.fault.stage != "full":
            yield
            return
        disk = str(self.path / DISK)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", disk], check=True)
        try:
            yield
        finally:
            subprocess.run(["umount", disk], check=True)

    def start(self, fault: Fault) -> Outcome:
        """Run the job, and have it struck."""
        return self._job(fault, (*self.case.arguments, "--output", str(self.run)))

    def resume(self, fault: Fault) -> Outcome:
        """Go on with it."""
        (self.path / DISK / "ballast").unlink(missing_ok=True)
        return self._job(fault, ("--resume", str(self.run)))

    def _job(self, fault: Fault, arguments: tuple[str, ...]) -> Outcome:
        for name in (STRUCK, FIRST_STEP):
            (self.path / name).unlink(missing_ok=True)
        program = [sys.executable, str(PROGRAMS / "struck.py"), fault.to_json(), *arguments]
        outcome = watch([MPIRUN, "-np", str(self.case.ranks), *program], self.path)
        outcome.struck, outcome.first_step = self._time(STRUCK), self._time(FIRST_STEP)
        return outcome

    def _time(self, name: str) -> float:
        try:
            return (self.path / name).stat().st_mtime
        except OSError:
            return 0.0


def watch(command: list[str], folder: Path) -> Outcome:
    """Run a command up to its end or the time limit, and end what is left of it then."""
    began = time.time()
    out: list[tuple[float, str]] = []
    err: list[tuple[float, str]] = []
    left: list[str] = []
    with subprocess.Popen(
        command, cwd=folder, env=environment(TEST_JOB=str(folder)), start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        readers = [threading.Thread(target=_read, args=pair) for pair in ((process.stdout, out), (process.stderr, err))]
        for reader in readers:
            reader.start()
        try:
            process.wait(LIMIT_S)
            ended, in_time = time.time(), True
            left = wait_gone(folder)
        except subprocess.TimeoutExpired:
            ended, in_time = time.time(), False
        end_all(folder)
        for reader in readers:
            reader.join()
    return Outcome(process.returncode, began, ended, in_time, "".join(line for _, line in out), err, left)


def _read(stream: IO[str], into: list[tuple[float, str]]) -> None:
    for line in stream:
        into.append((time.time(), line))  # noqa: PERF401


def wait_gone(folder: Path) -> list[str]:
    """Return what processes of the folder's job stay when it has ended."""
    until = time.monotonic() + GONE_S
    while (left := list(processes(folder))) and time.monotonic() < until:
        time.sleep(0.05)
    return left


def end_all(folder: Path) -> None:
    """Kill the processes of the folder's job, each by its number."""
    for line in list(processes(folder)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(line.partition(":")[0]), signal.SIGKILL)


class References:
    """Undisturbed runs, one for each set of arguments and number of ranks, kept for the whole campaign."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.done: dict[tuple[object, ...], Path] = {}

    def of(self, case: Case) -> Path:
        """Return the run folder. Raises RuntimeError if the run fails."""
        key = (case.ranks, case.arguments)
        if key not in self.done:
            place = self.folder / f"undisturbed-{len(self.done)}"
            place.mkdir(parents=True)
            job = [sys.executable, "-m", "workers.run", *case.arguments, "--output", str(place / "run")]
            outcome = watch([MPIRUN, "-np", str(case.ranks), *job], place)
            if outcome.code or not outcome.in_time:
                raise RuntimeError(f"the undisturbed run failed: {' '.join(job)}\n{outcome.err}")
            self.done[key] = place / "run"
        return self.done[key]


def may_mount(folder: Path) -> bool:
    """Say whether this user may mount a small disk."""
    tried = folder / "tried"
    tried.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tried)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        return False
    subprocess.run(["umount", str(tried)], check=True)
    return True
