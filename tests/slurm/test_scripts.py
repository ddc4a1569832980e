"""The batch scripts on a real Slurm: start, options, signals, ends."""

import os
import re
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT, need
from tests.doc_commands import commands
from tests.ranks import epochs, finish, popen, records
from tests.slurm.batch import SCRIPTS, SUPERVISE, TRAIN, Batch, Cluster
from tests.slurm.conftest import REQUEUED
from tests.test_resume import same_bits

SHORT = ("--mode", "send-recv", "--epochs", "2", "--hidden", "8")
LONG = ("--mode", "send-recv", "--epochs", "100000", "--hidden", "8")


def activate(folder: Path) -> None:
    """Make what ``python -m venv .venv`` leaves in a folder, as far as the scripts need it."""
    script = folder / ".venv" / "bin" / "activate"
    script.parent.mkdir(parents=True)
    variables = f'export PATH="{sys.prefix}/bin:$PATH" PYTHONPATH="{ROOT}"'
    script.write_text(f"{variables}\necho activated\n")


def test_send_recv_over_two_nodes(cluster: Cluster, tmp_path: Path) -> None:
    activate(tmp_path)
    plain = Cluster(cluster.environment["SLURM_CONF"], apart=cluster.apart)
    plain.environment["PATH"] = os.environ["PATH"].replace(f"{sys.prefix}/bin:", "")
    del plain.environment["VIRTUAL_ENV"]
    batch = plain.submit(tmp_path, *SHORT)
    assert batch.wait() == ("COMPLETED", 0, 0), batch.output()
    assert batch.output().startswith(
        "activated\nStarting: srun -K1 --mpi=pmi2 --cpus-per-task=1 python -m workers.run "
    )
    assert "\nEpoch 1/2: loss" in batch.output()
    header, *rest = records(batch.run)
    assert sorted(node["host"] for node in header["nodes"]) == ["n1", "n2"]
    assert [len(node["ranks"]) for node in header["nodes"]] == [2, 2]
    assert header["world"] == 4
    assert header["config"]["mode"] == "send-recv"
    assert header["threads"] == {"per_rank": [1, 1, 1, 1], "set_by": "OMP_NUM_THREADS"}
    kinds = [r["kind"] for r in rest if r["kind"] not in ("balance", "verdict")]
    assert kinds == ["epoch", "steps", "epoch", "steps", "event", "end"]
    assert rest[-2]["what"] == "checkpoint"
    assert rest[-1]["status"] == "ok"


def test_options_of_sbatch_win_over_the_script(cluster: Cluster, tmp_path: Path) -> None:
    options = ("--nodes=1", "--ntasks-per-node=1", "--cpus-per-task=2", "--export=NONE")
    activate(tmp_path)  # with --export=NONE the script finds Python by this alone, and its ranks must find it, too
    batch = cluster.submit(tmp_path, *SHORT, options=options)
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
@pytest.mark.parametrize(("name", "script"), [("TERM", TRAIN), ("HUP", SUPERVISE)], ids=["train", "supervise"])
def test_a_signal_to_the_script_alone_stops_the_job(cluster: Cluster, tmp_path: Path, name: str, script: Path) -> None:
    batch = cluster.submit(tmp_path, *LONG, script=script)
    batch.wait_for_epochs(2)
    assert cluster.run("scancel", "--batch", f"--signal={name}", batch.number).code == 0
    assert batch.wait() == ("FAILED", 75, 0), batch.output()
    assert records(batch.run)[-1]["status"] == "stopped"


@pytest.mark.slow
def test_a_stop_that_mpirun_keeps_to_itself_is_told_to_slurm(any_mpi: Cluster, mpi: str, tmp_path: Path) -> None:
    if mpi != "openmpi":
        pytest.skip("srun starts MPICH's ranks, and tells how they end")
    batch = any_mpi.submit(tmp_path, *LONG, options=("--ntasks-per-node=1",))
    batch.wait_for_epochs(2)
    assert any_mpi.run("scancel", "--signal=USR1", batch.number).code == 0  # to mpirun's daemon on the other node, too
    assert batch.wait() == ("FAILED", 75, 0), batch.output()
    assert records(batch.run)[-1]["status"] == "stopped"


@pytest.mark.slow
def test_a_killed_rank_ends_the_job(cluster: Cluster, tmp_path: Path) -> None:
    batch = cluster.submit(tmp_path, *LONG)
    header = batch.wait_for_epochs(1)
    os.kill(header["pid"], signal.SIGKILL)
    assert batch.wait() == ("FAILED", 128 + signal.SIGKILL, 0)
    assert records(batch.run)[-1]["kind"] in ("epoch", "steps", "event")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "script"), [("USR1", TRAIN), ("USR2", SUPERVISE)], ids=["train", "supervise"])
def test_a_job_near_its_time_limit_is_queued_again(
    any_mpi: Cluster, mpi: str, tmp_path: Path, undisturbed: Path, name: str, script: Path
) -> None:
    """What Slurm sends to the script two minutes before, ``scancel --batch`` sends at once."""
    if script == TRAIN and mpi != "mpich":
        pytest.skip("mpirun starts Open MPI's ranks from either script: one of them is enough")
    # one rank a core: Open MPI's wait busily; and more work a message
    batch = any_mpi.submit(tmp_path, *REQUEUED, script=script, options=("--ntasks-per-node=1",))
    batch.wait_for_epochs(2)
    assert any_mpi.run("scancel", "--batch", f"--signal={name}", batch.number).code == 0
    assert batch.wait() == ("COMPLETED", 0, 0), batch.output()
    assert sorted(node["host"] for node in records(batch.run)[0]["nodes"]) == ["n1", "n2"]
    assert len(batch.events("resume")) == 1
    assert [r["status"] for r in records(batch.run) if r["kind"] == "end"] == ["stopped", "ok"]
    assert sorted(r["epoch"] for r in epochs(batch.run)) == list(range(1, 81))
    assert same_bits(undisturbed, batch.run)


@pytest.mark.parametrize("ends", [("-K1",), pytest.param((), marks=pytest.mark.slow)], ids=["K1", "plain"])
def test_ranks_that_do_not_find_each_other_are_told_once(
    any_mpi: Cluster, mpi: str, tmp_path: Path, ends: tuple[str, ...]
) -> None:
    wrong, right = ("none", "pmi2") if mpi == "mpich" else ("pmi2", "pmix")
    command = ["srun", *ends, f"--mpi={wrong}", "-N2", "-n4", "python", "-m", "workers.run"]
    # -K1 ends a rank that is still loading Python with 143
    result = next(r for k in range(3) if (r := any_mpi.run(*command, folder=tmp_path)).code == 2 or k == 2)
    assert result.code == 2, result.err
    assert result.err.count("rankwise:") == 1
    assert "rankwise: the launcher started 4 processes" in result.err
    assert f"each is rank 0 of 1; start with srun --mpi={right} " in result.err
    assert list(tmp_path.iterdir()) == []


def test_mpirun_in_a_batch_script_takes_all_nodes(any_mpi: Cluster, tmp_path: Path) -> None:
    command = "mpirun python -m workers.run --epochs 2 --hidden 8 --output run"
    options = ["--nodes=2", "--ntasks-per-node=2", "--output=rankwise-%j.out"]
    result = any_mpi.run("sbatch", "--parsable", *options, "--wrap", command, folder=tmp_path)
    batch = Batch(any_mpi, result.out.strip(), tmp_path, tmp_path / "run")
    assert batch.wait() == ("COMPLETED", 0, 0), batch.output()
    header = records(batch.run)[0]
    assert [(node["host"], len(node["ranks"])) for node in header["nodes"]] == [("n1", 2), ("n2", 2)]


def test_batch_scripts_pass_shellcheck() -> None:
    need(shutil.which("shellcheck"), "shellcheck")
    scripts = sorted(str(path) for path in SCRIPTS.glob("*.sbatch"))
    result = finish(popen(["shellcheck", *scripts]))
    assert result.code == 0, result.out


@pytest.mark.slow
def test_the_commands_of_the_page_run_as_written(any_mpi: Cluster, tmp_path: Path) -> None:
    (tmp_path / "slurm").symlink_to(SCRIPTS)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 3))
    np.savez(tmp_path / "own.npz", X=x, y=(x[:, 0] > 0).astype(np.int64))
    page = commands(ROOT / "docs" / "slurm.md")
    submitted: list[tuple[str, Batch]] = []
    for command in page:
        if not re.match(r"sbatch |printf ", command.text):
            continue
        result = any_mpi.run("bash", "-c", command.text, folder=tmp_path)
        assert result.code == 0, f"{command.label}\n{result.err}"
        number = (result.out.split() or [""])[-1]
        numbers = [f"{number}_{task}" for task in (1, 2)] if "--array" in command.text else [number]
        submitted += [(command.label, Batch(any_mpi, n, tmp_path, tmp_path)) for n in numbers if n]
    assert len(submitted) == 7
    for label, batch in submitted:
        end = batch.wait()
        other = tmp_path / f"slurm-{batch.number}.out"  # of --wrap
        printed = batch.output() or other.read_text()
        assert end == ("COMPLETED", 0, 0), f"{label}\n{printed}"
        assert "Saved in runs/" in printed
    reading = [command for command in page if command.text.startswith("python -m ps.log")]
    for command in reading:
        assert any_mpi.run("bash", "-c", command.text, folder=tmp_path).code == 0, command.label
    assert reading
