"""Jobs of a Slurm that the tests have started: submitted, watched through their run folders, and seen to their end."""

import re
import sys
import time
from pathlib import Path

import pytest

from ps.logfile.records import Record
from tests.conftest import ROOT
from tests.ranks import WAIT_S, Result, environment, epochs, finish, popen, records

SCRIPTS = ROOT / "slurm"
TRAIN, SUPERVISE, COMPARE, SWEEP = (SCRIPTS / f"{name}.sbatch" for name in ("train", "supervise", "compare", "sweep"))
TORN = "error: mpi/pmi2: invalid client request"
OVER = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE")
OURS = ("SLURM", "SBATCH_", "SRUN_", "SQUEUE_", "PMI", "HYDRA_", "PRTE_")
"""Variables a job must not see: of a Slurm job that the tests run in, and the leave to put all ranks on one node."""


class Cluster:
    """A running Slurm of nodes n1, n2 and n3. Jobs find Python as ``python``, in the environment the tests run in.

    ``apart``: whether the nodes are hosts of their own, or three daemons on one host.
    """

    def __init__(self, configuration: str, *, apart: bool) -> None:
        kept = {k: v for k, v in environment().items() if not k.startswith(OURS)}
        kept.update(SLURM_CONF=configuration, VIRTUAL_ENV=sys.prefix, PATH=f"{sys.prefix}/bin:{kept['PATH']}")
        if apart:  # Open MPI shall take the network that there is, and not look for others
            kept.update(OMPI_MCA_pml="ob1", OMPI_MCA_btl="tcp,self,sm")
        self.environment = kept
        self.folder = Path(configuration).parent
        self.apart = apart

    def run(self, *command: str, folder: Path | None = None) -> Result:
        """Run one of Slurm's commands."""
        return finish(popen(list(command), env=self.environment, cwd=folder))

    def do(self, *command: str) -> None:
        """Run one that must succeed."""
        result = self.run(*command)
        assert result.code == 0, f"{command}: {result.err}"

    def submit(
        self, folder: Path, *arguments: str, options: tuple[str, ...] = (), script: Path = TRAIN, output: str = "run"
    ) -> "Batch":
        """Submit a batch script from ``folder`` with ``options`` of sbatch; the run folder is ``folder / output``."""
        named = ("--output", output) if output else ()
        command = ["sbatch", "--parsable", *options, str(script), *arguments, *named]
        result = self.run(*command, folder=folder)
        assert result.code == 0, result.err
        return Batch(self, result.out.strip(), folder, folder / output)


class Batch:
    """A submitted job, or a task of an array: ``number`` is 7 or 7_2. ``run``: its run folder."""

    def __init__(self, cluster: Cluster, number: str, folder: Path, run: Path | None = None) -> None:
        self.cluster, self.number, self.folder = cluster, number, folder
        self.run = run or folder / "run"

    def output(self) -> str:
        """Return what the job has printed."""
        path = self.folder / f"rankwise-{self.number}.out"
        return path.read_text() if path.exists() else ""

    def shown(self) -> str:
        """Return what Slurm says of the job, in a line."""
        return self.cluster.run("scontrol", "--oneliner", "show", "job", self.number).out

    def ended(self) -> tuple[str, int, int] | None:
        """Return (state, exit code, signal) of a job that is over."""
        shown = self.shown()
        found = re.search(r"JobState=(\w+) .* ExitCode=(\d+):(\d+) ", shown)
        assert found, shown
        return (found[1], int(found[2]), int(found[3])) if found[1] in OVER else None

    def look_for_torn_message(self) -> None:
        """Skip where Slurm 22.05's PMI2 tears a long message of MPICH's: ranks then never leave MPI_Init."""
        log = self.cluster.folder / "slurmd-n1.log"
        if TORN in self.output() or (log.exists() and f"[{self.number}.0] {TORN}" in log.read_text(errors="replace")):
            self.cluster.run("scancel", self.number)
            pytest.skip(f"before anything of ours ran, Slurm said {TORN!r}")

    def wait(self, timeout: float = WAIT_S) -> tuple[str, int, int]:
        """Wait for the job's end."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            self.look_for_torn_message()
            if end := self.ended():
                return end
            time.sleep(0.1)
        shown = self.shown()
        self.cluster.run("scancel", self.number)  # the next one needs the nodes
        raise AssertionError(f"not over after {timeout} s\n{shown}\n{self.output()}")

    def wait_for_epochs(self, n: int, timeout: float = WAIT_S) -> Record:
        """Wait until n epochs are in the log; return its header."""
        deadline = time.monotonic() + timeout
        log = self.run / "coordinator.msgpack"
        while time.monotonic() < deadline:
            if log.exists() and len(epochs(self.run)) >= n:
                return records(self.run)[0]
            self.look_for_torn_message()
            assert not self.ended(), self.output()
            time.sleep(0.1)
        self.cluster.run("scancel", self.number)
        raise AssertionError(f"no {n} epochs after {timeout} s\n{self.output()}")

    def events(self, what: str) -> list[Record]:
        """Return the events of a kind in the log."""
        return [r for r in records(self.run) if r["kind"] == "event" and r["what"] == what]

    def starts(self) -> list[tuple[int, list[str]]]:
        """Return of each start in the log the number of ranks, and the hosts."""
        headers = [r for r in records(self.run) if r["kind"] == "header" or r.get("what") == "resume"]
        return [(r["world"], sorted(node["host"] for node in r["nodes"])) for r in headers]
