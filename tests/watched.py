"""Jobs that come to a bad end in tests, and whether all that belongs to one is gone."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ps.logfile.records import Record
from tests.ranks import MPIRUN, PROGRAMS, WAIT_S, Result, environment, finish, popen, records, wait_until
from workers.launch.signals import ECHO_S

SHORT = ("--epochs", "4", "--hidden", "8", "--output", "run")


def run_job(folder: Path, n: int, program: str, *arguments: object, launcher: tuple[str, ...] = ()) -> Result:
    """Run one of tests/programs in a folder; once its launcher is gone, all of its processes must be, soon."""
    command = [MPIRUN, *launcher, "-np", str(n), sys.executable, str(PROGRAMS / program), *map(str, arguments), *SHORT]
    result = finish(popen(command, cwd=folder, env=environment(TEST_JOB=str(folder))))
    wait_until(lambda: not list(processes(folder)), f"processes are left: {list(processes(folder))}")
    return result


def processes(folder: Path) -> Iterator[str]:
    """Yield ids and command lines of the processes of a folder's job: launcher, ranks and watchdogs."""
    mark = f"TEST_JOB={folder}".encode()
    for process in Path("/proc").iterdir():
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                yield f"{process.name}: {(process / 'cmdline').read_bytes()!r}"
        except OSError:
            continue


def insist(process: "subprocess.Popen[str]", ask: Callable[[], object]) -> Result:
    """Ask a job to stop that cannot, until it ends: which once does not do, and asking again after a while does."""
    ask()
    time.sleep(1.5 * ECHO_S)
    assert process.poll() is None
    deadline = time.monotonic() + WAIT_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(ProcessLookupError):
            ask()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1.5 * ECHO_S)
    return finish(process, 1)


def events(folder: Path, what: str) -> list[Record]:
    """Return the events of a kind in the log of a folder's job."""
    return [record for record in records(folder / "run") if record.get("what") == what]
