"""The doctor on the ranks that srun starts on two nodes."""

import json
import sys
from pathlib import Path

import pytest

from tests.slurm.batch import Cluster

DOCTOR = (sys.executable, "-P", "-m", "workers.doctor")


@pytest.mark.slow
def test_ranks_that_srun_starts_are_examined(cluster: Cluster, tmp_path: Path) -> None:
    started = ("srun", "--mpi=pmi2", "-N2", "-n4", *DOCTOR, "--json", "--output", str(tmp_path))
    result = cluster.run(*started, folder=tmp_path)
    found = json.loads(next(line for line in result.out.splitlines() if line.startswith("{")))
    assert [host["ranks"] for host in found["job"]["hosts"]] == [[0, 1], [2, 3]]
    assert found["job"]["launcher"] == "srun"
    assert result.code == (0 if found["ok"] else 1)
    assert {"messages", "sums", "clocks", "binding"} <= {one["check"] for one in found["findings"]}


@pytest.mark.slow
def test_srun_without_the_librarys_start_is_told_once(cluster: Cluster, tmp_path: Path) -> None:
    result = cluster.run("srun", "--mpi=none", "-n2", *DOCTOR, folder=tmp_path)
    assert result.code == 2, "the other task was killed"
    assert result.err.count("rankwise: ") == 1
    assert "each is rank 0 of 1" in result.err
