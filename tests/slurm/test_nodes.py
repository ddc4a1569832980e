"""A node is set down in the middle of a job, which finishes on the others with fewer ranks."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ranks import epochs, records, wait_until
from tests.slurm.batch import SUPERVISE, TRAIN, Batch, Cluster
from tests.slurm.conftest import REQUEUED
from tests.test_resume import close

pytestmark = [pytest.mark.slow, pytest.mark.any_mpi]
OPTIONS = (*REQUEUED, "--checkpoint-every", "5")


@contextlib.contextmanager
def down(cluster: Cluster, node: str) -> Iterator[None]:
    """Hold a node down: Slurm ends what runs there and starts nothing, but the machine answers."""
    cluster.do("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
    try:
        yield
    finally:
        cluster.do("scontrol", "update", f"NodeName={node}", "State=RESUME")
        wait_until(lambda: cluster.run("sinfo", "-hn", node, "-o%t").out.strip() == "idle", f"{node} stays down")


def test_a_job_is_queued_again_without_the_node(any_mpi: Cluster, tmp_path: Path, undisturbed: Path) -> None:
    options = ("--nodes=2-3", "--ntasks-per-node=2")
    batch = any_mpi.submit(tmp_path, *OPTIONS, script=TRAIN, options=options)
    batch.wait_for_epochs(6)
    with down(any_mpi, "n3"):
        assert batch.wait() == ("COMPLETED", 0, 0), batch.output()
    assert [ranks for ranks, _ in batch.starts()] == [6, 4]
    assert batch.starts()[1][1] == ["n1", "n2"]
    assert records(batch.run)[-1]["status"] == "ok"
    assert {r["epoch"] for r in epochs(batch.run)} == set(range(1, 81))
    close(undisturbed, batch.run)


def test_the_supervisor_goes_on_without_the_node(any_mpi: Cluster, tmp_path: Path, undisturbed: Path) -> None:
    options = ("--nodes=3", "--ntasks-per-node=1")
    batch = any_mpi.submit(tmp_path, *OPTIONS, script=SUPERVISE, options=options)
    batch.wait_for_epochs(6)
    with down(any_mpi, "n3"):
        assert batch.wait() == ("COMPLETED", 0, 0), batch.output()
    assert "2 ranks (3 before) without n3" in batch.output()
    assert batch.starts()[-1] == (2, ["n1", "n2"])
    close(undisturbed, batch.run)


def test_a_launcher_that_waits_for_the_node_is_ended(any_mpi: Cluster, tmp_path: Path) -> None:
    """MPICH's waits for ever after "Requested node configuration is not available", where it is down from the start."""
    down_first = "scontrol update NodeName=n3 State=DOWN Reason=test; sleep 1"
    supervise = "exec python -m workers.supervise -np 3 --hosts n1,n2,n3 -- --epochs 2 --hidden 8 --output run"
    options = ["--nodes=3", "--ntasks-per-node=1", "--no-kill", "--output=rankwise-%j.out"]
    wrapped = ["--wrap", f"{down_first}; {supervise}"]
    result = any_mpi.run("sbatch", "--parsable", *options, *wrapped, folder=tmp_path)
    batch = Batch(any_mpi, result.out.strip(), tmp_path, tmp_path / "run")
    try:
        assert batch.wait() == ("COMPLETED", 0, 0), batch.output()
    finally:
        with down(any_mpi, "n3"):  # and up again
            pass
    assert "n3: down, or does not answer any more, and no rank has started; 2 ranks (3 before)" in batch.output()
    assert batch.starts() == [(2, ["n1", "n2"])]
