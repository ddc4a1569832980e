"""Job arrays: each task is a run of its own, stopped and queued again by itself; sweeps over lines of options."""

from pathlib import Path

import pytest

from tests.ranks import epochs, records
from tests.slurm.batch import SWEEP, Batch, Cluster
from tests.slurm.conftest import REQUEUED
from tests.test_resume import same_bits

pytestmark = [pytest.mark.slow, pytest.mark.any_mpi]


def tasks(batch: Batch, *numbers: int) -> list[Batch]:
    """Return the tasks of a sweep, which have their run folders in its own."""
    return [Batch(batch.cluster, f"{batch.number}_{n}", batch.folder, batch.run / str(n)) for n in numbers]


def test_one_task_at_its_time_limit_is_queued_again_by_itself(
    any_mpi: Cluster, tmp_path: Path, undisturbed: Path
) -> None:
    (tmp_path / "options.txt").write_text("# wide\n--hidden 300\n\n--hidden '300' --seed 1\n")
    options = ("--array=1-2", "--nodes=1", "--ntasks-per-node=2")
    batch = any_mpi.submit(tmp_path, "options.txt", *REQUEUED, script=SWEEP, options=options)
    first, other = tasks(batch, 1, 2)
    first.wait_for_epochs(2)
    # the script asks for its signal two minutes before the limit: that is now, when Slurm looks next, twice a minute
    any_mpi.do("scontrol", "update", f"JobId={first.number}", "TimeLimit=1")
    for task in (first, other):
        assert task.wait() == ("COMPLETED", 0, 0), task.output()
        assert sorted(r["epoch"] for r in epochs(task.run)) == list(range(1, 81))
    assert (len(first.events("resume")), len(other.events("resume"))) == (1, 0)
    assert [r["status"] for r in records(first.run) if r["kind"] == "end"] == ["stopped", "ok"]
    assert same_bits(undisturbed, first.run)
    assert records(other.run)[0]["config"]["seed"] == 1


def test_a_task_without_a_line_is_told_so(any_mpi: Cluster, tmp_path: Path) -> None:
    (tmp_path / "options.txt").write_text("--hidden 8; touch hacked\n--epochs $(touch hacked)\n")
    batch = any_mpi.submit(tmp_path, "options.txt", script=SWEEP, options=("--array=1-3", "--nodes=1"))
    messages = ["Unexpected word 'touch'", 'got "$(touch"; allowed is a whole number', "none for task 3"]
    for task, message in zip(tasks(batch, 1, 2, 3), messages, strict=True):
        assert task.wait() == ("FAILED", 2, 0), task.output()
        assert message in task.output()
    assert not (tmp_path / "hacked").exists()
