"""Jobs that come to a bad end in tests, and whether all that belongs to one is gone."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ps.logfile.records import Record
from tests.ranks import MPIRUN, PROGRAMS, Result, environment, finish, popen, records

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


def wait_until(done: Callable[[], object], what: str, seconds: float = 20) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def events(folder: Path, what: str) -> list[Record]:
    """Return the events of a kind in the log of a folder's job."""
    return [record for record in records(folder / "run") if record.get("what") == what]
