"""Jobs that the submitting command hands to a real Slurm, and what a job says of its time limit."""

import re
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.ranks import Result, environment, finish, popen, records
from tests.slurm.batch import Batch, Cluster


def on(slurm: Cluster, folder: Path, *arguments: str) -> Result:
    return finish(
        popen([sys.executable, "-m", "slurm.submit", *arguments], env=with_modules(slurm), cwd=folder), timeout=120
    )


def with_modules(slurm: Cluster) -> dict[str, str]:
    return {**slurm.environment, "PYTHONPATH": str(ROOT)}


@pytest.mark.slow
@pytest.mark.any_mpi
def test_a_real_slurm_takes_the_job_and_is_watched_through_a_requeue(any_mpi: Cluster, tmp_path: Path) -> None:
    hostile = "r; touch hacked $(touch hacked) `touch hacked`"
    refused = on(any_mpi, tmp_path, "--partition", "gpu", "--nodes", "9")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith("rankwise: submit: partition: there is no 'gpu'; nodes: got 9; allowed is at most 3")
    assert "debug (default): 3 nodes (3 x 2 CPUs" in refused.err
    refused = on(any_mpi, tmp_path, "--sbatch-args=--constraint=nope")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith(
        "rankwise: submit: sbatch does not take the job: Batch job submission failed: Invalid feat"
    )

    size = ("--nodes", "2", "--ntasks-per-node", "1", "--job-name", 'a "b\\c # d', "--time", "10")
    train = ("--epochs", "40", "--hidden", "300", "--dtype", "float64", "--output", hostile)
    process = popen(
        [sys.executable, "-m", "slurm.submit", *size, "--watch", "--", *train], env=with_modules(any_mpi), cwd=tmp_path
    )
    assert process.stdout
    first = process.stdout.readline()
    assert first.startswith("Submitted job "), process.communicate()[1]
    batch = Batch(any_mpi, first.split()[2].rstrip(":."), tmp_path)
    batch.run = tmp_path / hostile
    batch.wait_for_epochs(2)
    assert any_mpi.run("squeue", "-h", "-o%j").out.strip() == 'a "b\\c # d'
    assert any_mpi.run("scancel", "--batch", "--signal=USR1", batch.number).code == 0
    result = finish(process, timeout=120)
    assert result.code == 0, result.err
    assert f"Job {batch.number}: pending (" in result.out
    assert ", restart 1\n" in result.out
    assert "\nEpoch 40/40: loss" in result.out
    assert result.out.endswith(", exit code 0\n")
    assert records(batch.run)[-1]["status"] == "ok"
    assert not (tmp_path / "hacked").exists()


@pytest.mark.slow
@pytest.mark.any_mpi
def test_an_array_is_submitted_and_watched(any_mpi: Cluster, tmp_path: Path) -> None:
    size = ("--nodes", "1", "--ntasks-per-node", "1", "--array", "1-2", "--watch")
    result = on(any_mpi, tmp_path, *size, "--", "--epochs", "1", "--hidden", "8", "--seed", "%a", "-o", "run-%a")
    assert result.code == 0, result.out + result.err
    assert [records(tmp_path / f"run-{task}" / str(task))[0]["config"]["seed"] for task in (1, 2)] == [1, 2]
    assert f"Log of the first task: {tmp_path / 'run-1' / '1' / 'coordinator.msgpack'}\n" in result.out
    for task in (1, 2):
        assert f"\n{task}: Epoch 1/1: loss" in result.out
        assert f" task {task}: completed after" in result.out


@pytest.mark.slow
@pytest.mark.any_mpi
def test_a_job_of_slurm_says_so_in_log_console_show_and_report(any_mpi: Cluster, tmp_path: Path) -> None:
    train = ("--epochs", "100000", "--hidden", "64")
    batch = any_mpi.submit(tmp_path, *train, options=("--ntasks-per-node=1", "--time=5"))
    batch.wait_for_epochs(5)
    assert any_mpi.run("scancel", "--batch", "--signal=TERM", batch.number).code == 0
    assert batch.wait() == ("FAILED", 75, 0), batch.output()
    header = records(batch.run)[0]
    assert header["time_limit"] | {"ends": 0.0} == {
        "ends": 0.0, "limit_s": 300.0, "requeues": 100, "stop_before_s": None, "restarts": 0,
        "source": "squeue",
    }  # fmt: skip
    assert header["t"] < header["time_limit"]["ends"] < header["t"] + 310
    (found,) = [r for r in records(batch.run) if r["kind"] == "verdict" and r["code"] == "time-limit"]
    said = re.compile(r"Needs \d+ (d|h|min).* more, limit in [45] min.*: (will|would have to) be requeued \d+ times?.*")
    assert said.fullmatch(found["text"])
    assert said.search(batch.output())
    for command in (("show", "run"), ("report", "run", "-o", "page.html")):
        read = finish(popen([sys.executable, "-m", "ps.log", *command], env=environment(), cwd=tmp_path))
        assert read.code == 0, read.err
        if command[0] == "show":
            assert said.search(" ".join(read.out.split()))
    assert found["text"] in (tmp_path / "page.html").read_text()
