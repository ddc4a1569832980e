"""The Slurm that all tests of this folder use."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import need
from tests.hosts import machines
from tests.ranks import held, mpirun
from tests.slurm.batch import Cluster
from tests.slurm.cluster import NODES, missing

REQUEUED = ("--epochs", "80", "--hidden", "300", "--dtype", "float64")
"""A job that takes long enough to be interrupted, and is the same on any number of ranks."""


@contextlib.contextmanager
def started(*options: str) -> Iterator[Cluster]:
    """Start a Slurm, over hosts of their own where this machine lets us make them; no process of it outlives us."""
    need(not missing(), f"Slurm and munge: {', '.join(missing())}")
    with contextlib.ExitStack() as stack:
        places: list[str] = []
        if not machines.missing():
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="hosts-", ignore_cleanup_errors=True))
            hosts = stack.enter_context(machines.running(Path(folder), NODES))
            places = [folder, str(hosts.number), *options]
        ready = stack.enter_context(held("tests.slurm.cluster", *places))
        yield Cluster(ready.removeprefix("export SLURM_CONF="), apart=bool(places))


@pytest.fixture(scope="package")
def any_mpi() -> Iterator[Cluster]:
    """Start the Slurm."""
    with started() as cluster:
        yield cluster


@pytest.fixture
def cluster(any_mpi: Cluster, mpi: str) -> Cluster:
    """Return the Slurm for a test whose ranks srun starts."""
    if mpi != "mpich":
        pytest.skip("srun starts Open MPI's ranks through PMIx, which Debian's Slurm lacks")
    return any_mpi


@pytest.fixture(scope="package")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run that a job which is queued again must end like; on two ranks, as that."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    result = mpirun(2, "-m", "workers.run", *REQUEUED, "--output", str(run))
    assert result.code == 0, result.err
    return run
