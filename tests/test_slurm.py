"""The batch script on a real Slurm: two nodes, both on this machine."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ps.logfile.records import Record
from tests.conftest import ROOT, need
from tests.doc_commands import commands
from tests.ranks import WAIT_S, Result, environment, epochs, finish, mpirun, popen, records
from tests.slurm_cluster import missing
from tests.test_resume import same_bits

SCRIPT = ROOT / "slurm" / "train.sbatch"
TORN = "error: mpi/pmi2: invalid client request"
SUPERVISED = ROOT / "slurm" / "supervise.sbatch"
SHORT = ("--mode", "send-recv", "--epochs", "2", "--hidden", "8")
LONG = ("--mode", "send-recv", "--epochs", "100000", "--hidden", "8")
OVER = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE")
OURS = ("SLURM", "SBATCH_", "SRUN_", "SQUEUE_", "PMI", "HYDRA_", "PRTE_")
"""Variables a job must not see: of a Slurm job that the tests run in, and the leave to put all ranks on one node."""


class Cluster:
    """A running Slurm. Jobs find Python as ``python``, in the environment the tests run in."""

    def __init__(self, configuration: str) -> None:
        kept = {k: v for k, v in environment().items() if not k.startswith(OURS)}
        kept.update(SLURM_CONF=configuration, VIRTUAL_ENV=sys.prefix, PATH=f"{sys.prefix}/bin:{kept['PATH']}")
        self.environment = kept
        self.folder = Path(configuration).parent

    def run(self, *command: str, folder: Path | None = None) -> Result:
        """Run one of Slurm's commands."""
        return finish(popen(list(command), env=self.environment, cwd=folder))

    def submit(self, folder: Path, *arguments: str, options: tuple[str, ...] = (), script: Path = SCRIPT) -> "Batch":
        """Submit a batch script from ``folder`` with ``options`` of sbatch; the run folder is ``folder / "run"``."""
        command = ["sbatch", "--parsable", *options, str(script), *arguments, "--output", "run"]
        result = self.run(*command, folder=folder)
        assert result.code == 0, result.err
        return Batch(self, result.out.strip(), folder)


class Batch:
    """A submitted job."""

    def __init__(self, cluster: Cluster, number: str, folder: Path) -> None:
        self.cluster = cluster
        self.number = number
        self.folder = folder
        self.run = folder / "run"

    def output(self) -> str:
        """Return what the job has printed."""
        path = self.folder / f"rankwise-{self.number}.out"
        return path.read_text() if path.exists() else ""

    def ended(self) -> tuple[str, int, int] | None:
        """Return (state, exit code, signal) of a job that is over."""
        shown = self.cluster.run("scontrol", "--oneliner", "show", "job", self.number).out
        found = re.search(r"JobState=(\w+) .* ExitCode=(\d+):(\d+) ", shown)
        assert found, shown
        return (found[1], int(found[2]), int(found[3])) if found[1] in OVER else None

    def look_for_torn_message(self) -> None:
        """Skip where Slurm 22.05's PMI2 tears a long message of MPICH's: ranks then never leave MPI_Init."""
        log = self.cluster.folder / "slurmd-s1.log"
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
        shown = self.cluster.run("scontrol", "show", "job", self.number).out
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


@pytest.fixture(scope="module")
def any_mpi() -> Iterator[Cluster]:
    """Start a Slurm for this file's tests; no process of it outlives them, nor us."""
    need(not missing(), f"Slurm and munge: {', '.join(missing())}")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.slurm_cluster"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )
    assert process.stdin
    assert process.stdout
    try:
        ready = process.stdout.readline().strip()
        assert ready, process.communicate()[1]
        yield Cluster(ready.removeprefix("export SLURM_CONF="))
    finally:
        try:
            out, err = process.communicate(timeout=WAIT_S)  # closes its input, so it ends
        except subprocess.TimeoutExpired:
            process.terminate()
            out, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, out, err) == (0, "", "")


@pytest.fixture
def cluster(any_mpi: Cluster, mpi: str) -> Cluster:
    """Return the Slurm for a test whose ranks srun starts."""
    if mpi != "mpich":
        pytest.skip("srun starts Open MPI's ranks through PMIx, which Debian's Slurm lacks")
    return any_mpi


def test_send_recv_over_two_nodes(cluster: Cluster, tmp_path: Path) -> None:
    # as after `python -m venv .venv` in the folder, and with no environment active
    activate = tmp_path / ".venv" / "bin" / "activate"
    activate.parent.mkdir(parents=True)
    activate.write_text(f'PATH="{sys.prefix}/bin:$PATH"\necho activated\n')
    plain = Cluster(cluster.environment["SLURM_CONF"])
    plain.environment["PATH"] = os.environ["PATH"].replace(f"{sys.prefix}/bin:", "")
    del plain.environment["VIRTUAL_ENV"]
    batch = plain.submit(tmp_path, *SHORT)
    assert batch.wait() == ("COMPLETED", 0, 0), batch.output()
    assert batch.output().startswith(
        "activated\nStarting: srun -K1 --mpi=pmi2 --cpus-per-task=1 python -m workers.run "
    )
    assert "\nEpoch 1/2: loss" in batch.output()
    header, *rest = records(batch.run)
    assert sorted(node["host"] for node in header["nodes"]) == ["s1", "s2"]
    assert [len(node["ranks"]) for node in header["nodes"]] == [2, 2]
    assert header["world"] == 4
    assert header["config"]["mode"] == "send-recv"
    assert header["threads"] == {"per_rank": [1, 1, 1, 1], "set_by": "OMP_NUM_THREADS"}
    kinds = [r["kind"] for r in rest if r["kind"] not in ("balance", "verdict")]
    assert kinds == ["epoch", "steps", "epoch", "steps", "event", "end"]
    assert rest[-2]["what"] == "checkpoint"
    assert rest[-1]["status"] == "ok"


def test_options_of_sbatch_win_over_the_script(cluster: Cluster, tmp_path: Path) -> None:
    batch = cluster.submit(tmp_path, *SHORT, options=("--nodes=1", "--ntasks-per-node=1", "--cpus-per-task=2"))
    assert batch.wait() == ("COMPLETED", 0, 0), batch.output()
    header = records(batch.run)[0]
    assert header["world"] == 1
    assert header["threads"]["per_rank"] == [2]


def test_a_wrong_option_ends_with_one_message(cluster: Cluster, tmp_path: Path) -> None:
    batch = cluster.submit(tmp_path, "--mode", "send-receive")
    assert batch.wait() == ("FAILED", 2, 0), batch.output()
    assert batch.output().count("rankwise:") == 1
    assert "rankwise: mode: unknown value 'send-receive' (did you mean 'send-recv'?)" in batch.output()
    assert "Traceback" not in batch.output()
    assert not batch.run.exists()


@pytest.mark.parametrize("options", [("--signal=TERM",), ()], ids=["signal", "cancel"])
def test_scancel_stops_all_ranks_after_the_same_step(
    cluster: Cluster, tmp_path: Path, options: tuple[str, ...]
) -> None:
    batch = cluster.submit(tmp_path, *LONG)
    batch.wait_for_epochs(2)
    assert cluster.run("scancel", *options, batch.number).code == 0
    end = batch.wait()
    *_, event, last = records(batch.run)
    assert (event["kind"], event["what"], last["kind"], last["status"]) == ("event", "stop", "end", "stopped")
    assert set(event["signals"].values()) <= {"SIGTERM", "SIGUSR1"}  # the script hears of it, too, and passes it on
    assert (batch.run / "model.npz").exists()
    assert end == ("FAILED" if options else "CANCELLED", 75, 0), batch.output()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "script"), [("TERM", SCRIPT), ("HUP", SUPERVISED)], ids=["train", "supervise"])
def test_a_signal_to_the_script_alone_stops_the_job(cluster: Cluster, tmp_path: Path, name: str, script: Path) -> None:
    batch = cluster.submit(tmp_path, *LONG, script=script)
    batch.wait_for_epochs(2)
    assert cluster.run("scancel", "--batch", f"--signal={name}", batch.number).code == 0
    assert batch.wait() == ("FAILED", 75, 0), batch.output()
    assert records(batch.run)[-1]["status"] == "stopped"


@pytest.mark.slow
def test_a_killed_rank_ends_the_job(cluster: Cluster, tmp_path: Path) -> None:
    batch = cluster.submit(tmp_path, *LONG)
    header = batch.wait_for_epochs(1)
    os.kill(header["pid"], signal.SIGKILL)
    assert batch.wait() == ("FAILED", 128 + signal.SIGKILL, 0)
    assert records(batch.run)[-1]["kind"] in ("epoch", "steps", "event")


def resumes(run: Path) -> list[Record]:
    return [r for r in records(run) if r["kind"] == "event" and r["what"] == "resume"]


REQUEUED = ("--epochs", "80", "--hidden", "300", "--dtype", "float64")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run that a job which is queued again must end like; on two ranks, as that."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    result = mpirun(2, "-m", "workers.run", *REQUEUED, "--output", str(run))
    assert result.code == 0, result.err
    return run


@pytest.mark.slow
@pytest.mark.parametrize(("name", "script"), [("USR1", SCRIPT), ("USR2", SUPERVISED)], ids=["train", "supervise"])
def test_a_job_near_its_time_limit_is_queued_again(
    any_mpi: Cluster, mpi: str, tmp_path: Path, undisturbed: Path, name: str, script: Path
) -> None:
    """What Slurm sends to the script two minutes before, ``scancel --batch`` sends at once."""
    if script == SCRIPT and mpi != "mpich":
        pytest.skip("srun starts Open MPI's ranks through PMIx, which Debian's Slurm lacks")
    # one rank a core: Open MPI's wait busily; and more work a message
    batch = any_mpi.submit(tmp_path, *REQUEUED, script=script, options=("--ntasks-per-node=1",))
    batch.wait_for_epochs(2)
    assert any_mpi.run("scancel", "--batch", f"--signal={name}", batch.number).code == 0
    assert batch.wait() == ("COMPLETED", 0, 0), batch.output()
    assert sorted(node["host"] for node in records(batch.run)[0]["nodes"]) == ["s1", "s2"]
    assert len(resumes(batch.run)) == 1
    assert [r["status"] for r in records(batch.run) if r["kind"] == "end"] == ["stopped", "ok"]
    assert sorted(r["epoch"] for r in epochs(batch.run)) == list(range(1, 81))
    assert same_bits(undisturbed, batch.run)


def test_ranks_that_do_not_find_each_other_are_told_once(cluster: Cluster, tmp_path: Path) -> None:
    result = cluster.run("srun", "--mpi=none", "-n2", "python", "-m", "workers.run", folder=tmp_path)
    assert result.code in (2, 137)  # that of a rank that was killed, since the guard on the other node spoke first
    assert result.err.count("rankwise:") == 1
    assert "rankwise: the launcher started 2 processes" in result.err
    assert "each is rank 0 of 1; start with srun --mpi=pmi2" in result.err
    assert list(tmp_path.iterdir()) == []


def test_mpirun_in_a_batch_script_takes_all_nodes(any_mpi: Cluster, tmp_path: Path) -> None:
    command = "mpirun python -m workers.run --epochs 2 --hidden 8 --output run"
    options = ["--nodes=2", "--ntasks-per-node=2", "--output=rankwise-%j.out"]
    result = any_mpi.run("sbatch", "--parsable", *options, "--wrap", command, folder=tmp_path)
    batch = Batch(any_mpi, result.out.strip(), tmp_path)
    assert batch.wait() == ("COMPLETED", 0, 0), batch.output()
    header = records(batch.run)[0]
    assert [(node["host"], len(node["ranks"])) for node in header["nodes"]] == [("s1", 2), ("s2", 2)]


def test_batch_scripts_pass_shellcheck() -> None:
    need(shutil.which("shellcheck"), "shellcheck")
    scripts = sorted(str(path) for path in SCRIPT.parent.glob("*.sbatch"))
    result = finish(popen(["shellcheck", *scripts]))
    assert result.code == 0, result.out


@pytest.mark.slow
def test_the_commands_of_the_page_run_as_written(any_mpi: Cluster, mpi: str, tmp_path: Path) -> None:
    (tmp_path / "slurm").symlink_to(SCRIPT.parent)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 3))
    np.savez(tmp_path / "own.npz", X=x, y=(x[:, 0] > 0).astype(np.int64))
    page = commands(ROOT / "docs" / "slurm.md")
    batches = [command for command in page if command.text.startswith("sbatch ")]
    assert len(batches) == 4
    for command in batches:
        if "train.sbatch" in command.text and mpi != "mpich":
            continue  # srun starts Open MPI's ranks through PMIx, which Debian's Slurm lacks
        result = any_mpi.run("bash", "-c", command.text, folder=tmp_path)
        assert result.code == 0, f"{command.label}\n{result.err}"
        batch = Batch(any_mpi, result.out.split()[-1], tmp_path)
        end = batch.wait()
        other = tmp_path / f"slurm-{batch.number}.out"  # of --wrap
        printed = batch.output() or other.read_text()
        assert end == ("COMPLETED", 0, 0), f"{command.label}\n{printed}"
        assert "Saved in runs/" in printed
    reading = [command for command in page if command.text.startswith("python -m ps.log")]
    for command in reading:
        assert any_mpi.run("bash", "-c", command.text, folder=tmp_path).code == 0, command.label
    assert reading
