"""Starts ranks for a test: mpirun of the environment the tests run in, with a time-out that leaves nothing behind."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.run_files import LOG_NAME
from ps.logfile.reader import read
from ps.logfile.records import Record

MPIRUN = str(Path(sys.prefix) / "bin" / "mpirun")
PROGRAMS = Path(__file__).parent / "programs"
ENVIRONMENT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    # it looks for a network for a second at each start, to find that there is none
    "OMPI_MCA_btl": "^ofi",
}

OTHERS = re.compile(
    r"RANKWISE_|OMP_|OPENBLAS_|GOTO_|MKL_|BLIS_|"  # options and threads
    r"SLURM|SBATCH_|SALLOC_|SRUN_|SQUEUE_|SCANCEL_|PMI|HYDRA_|HYDI_|MPIEXEC_|MPIR_|MPI_LOCAL|OMPI_(?!MCA_)|PRTE_(?!MCA_)|"
    r"PYTHON(?!HOME|USERBASE|NOUSERSITE|PLATLIBDIR|PYCACHEPREFIX)|BASH_ENV$|ENV$|"
    r"(COLUMNS|LINES|NO_COLOR|FORCE_COLOR|CLICOLOR|CLICOLOR_FORCE|COLORTERM|TTY_COMPATIBLE|TTY_INTERACTIVE)$"
)
"""Variables that a test must not see: a user's own options, and those of a job or terminal that the tests run in."""
WAIT_S = 120.0
"""Seconds that anything may take: a test that waits for it must not fail because the machine is busy."""


@dataclass(slots=True)
class Result:
    """How a command ended: exit code, output, seconds."""

    code: int
    out: str
    err: str
    seconds: float


def environment(**changes: str) -> dict[str, str]:
    """Return the environment of a started job: ours without what a test must not see."""
    kept = {name: value for name, value in os.environ.items() if not OTHERS.match(name)}
    return {**kept, **ENVIRONMENT, "PYTHONPATH": str(PROGRAMS.parent.parent), **changes}


def popen(command: list[str], **options: Any) -> "subprocess.Popen[str]":
    """Start a command in a process group of its own."""
    options.setdefault("env", environment())
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **options
    )


def finish(process: "subprocess.Popen[str]", timeout: float = WAIT_S) -> Result:
    """Wait for a started command; on time-out kill its group and fail."""
    start = time.monotonic()
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"still running after {timeout} s\n{out}\n{err}") from None
    return Result(process.returncode, out, err, time.monotonic() - start)


def mpirun(n: int, *arguments: str, timeout: float = WAIT_S, **options: Any) -> Result:
    """Run ``python <arguments>`` on n ranks and wait for its end."""
    return finish(popen([MPIRUN, "-np", str(n), sys.executable, *arguments], **options), timeout)


def program(n: int, name: str, *arguments: str, timeout: float = 4 * WAIT_S) -> Result:
    """Run one of tests/programs on n ranks, with a BLAS thread each as in a job; it must succeed."""
    env = environment(OMP_NUM_THREADS="1")
    result = mpirun(n, str(PROGRAMS / name), *arguments, timeout=timeout, env=env)
    assert result.code == 0, result.out + result.err
    return result


def wait_until(done: Callable[[], object], what: str = "it has not happened", process: Any = None) -> None:
    """Wait until a condition holds, and fail after ``WAIT_S``, or as soon as a process that it needs has ended.

    In a failure the process is killed with its group, lest it disturb the tests behind.
    """
    deadline = time.monotonic() + WAIT_S
    try:
        while not done():
            assert process is None or process.poll() is None, f"{what}: {finish(process)}"
            assert time.monotonic() < deadline, what
            time.sleep(0.02)
    except BaseException:
        if process is not None and process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        raise


def wait_for_epochs(process: "subprocess.Popen[Any]", run: Path, n: int) -> None:
    """Wait until the log of a running job holds so many epochs."""
    wait_until(lambda: (run / LOG_NAME).exists() and len(epochs(run)) >= n, f"no {n} epochs in {run}", process)


def kill_all(text: str) -> int:
    """Send SIGKILL to every process with a text in its command line but this one: launcher, ranks, watchdogs.

    First all are looked for, then all are killed: nobody is left to tell of it. Return how many there were.
    """
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            if text.encode() in place.read_bytes() and int(place.parent.name) != os.getpid():
                found.append(int(place.parent.name))
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(found)


def jobs(n: int, folder: Path, named: Mapping[str, Sequence[str]], timeout: float = 2 * WAIT_S) -> dict[str, Result]:
    """Run several jobs on the same n ranks, one after the other, and return how each of them ended.

    A start costs more than most jobs. Each is given like the arguments of ``mpirun``. One of workers.run without
    ``--output`` has its run folder ``folder / name``; others say where they write, or print ``--json``. A job that ends
    all ranks ends those behind it too: they get its code and words.
    """
    folder.mkdir(parents=True, exist_ok=True)
    given = {}
    for name, arguments in named.items():
        output = () if {"--output", "--resume", "--json"} & set(arguments) else ("--output", str(folder / name))
        given[name] = [*arguments, *output]
    (folder / "jobs.json").write_text(json.dumps(given))
    try:
        whole = mpirun(n, str(PROGRAMS / "jobs.py"), str(folder), timeout=timeout, cwd=folder)
    except AssertionError as error:
        whole = Result(-1, "", str(error), timeout)
    texts = {path.name: path.read_text() for path in folder.glob("*.*") if path.suffix in (".out", ".err", ".code")}
    ended = {}
    for name in named:
        out, err, code = (texts.get(f"{name}.{ending}", "") for ending in ("out", "err", "code"))
        if not code or (whole.code and name == list(named)[-1]):  # the last one: they could not leave MPI
            code, err = str(whole.code or -1), f"{err}{whole.out}{whole.err}"
        ended[name] = Result(int(code), out, err, whole.seconds)
    return ended


class SharedStart:
    """Jobs of several tests, by name, with a start for each number of ranks, when the first of them is asked for."""

    def __init__(self, folder: Path, named: Mapping[str, tuple[int, Sequence[str]]]) -> None:
        self.folder, self.named = folder, named
        self.ended: dict[str, Result] = {}

    def __getitem__(self, name: str) -> Result:
        """Return how a job ended."""
        if name not in self.ended:
            n = self.named[name][0]
            same = {other: arguments for other, (ranks, arguments) in self.named.items() if ranks == n}
            self.ended |= jobs(n, self.folder / str(n), same)
        return self.ended[name]

    def run(self, name: str) -> Path:
        """Return the run folder of a job, which must have ended well."""
        result = self[name]
        assert result.code == 0, result.out + result.err
        return self.folder / str(self.named[name][0]) / name


def records(run: Path) -> list[Record]:
    """Return all records of a run's log."""
    return list(read(run / "coordinator.msgpack"))


def epochs(run: Path) -> list[Record]:
    """Return the epoch records of a run's log."""
    return [r for r in records(run) if r["kind"] == "epoch"]


@contextlib.contextmanager
def held(module: str, *arguments: str) -> Iterator[str]:
    """Hold what a module of the tests starts until this ends, or we do; give the line it prints when all is there.

    Raises RuntimeError with what it says if it prints none.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=PROGRAMS.parent.parent,
        start_new_session=True,
    )
    assert process.stdout
    try:
        if not (ready := process.stdout.readline().strip()):
            raise RuntimeError(process.communicate()[1])
        yield ready
    finally:
        try:
            out, err = process.communicate(timeout=WAIT_S)  # closes its input, so it ends
        except subprocess.TimeoutExpired:
            process.terminate()
            out, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, out, err) == (0, "", "")
