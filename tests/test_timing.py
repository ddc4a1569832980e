"""Wait and transfer blame the right rank."""

from pathlib import Path

import numpy as np

from tests.ranks import PROGRAMS, epochs, mpirun, program
from workers.launch.blas_threads import share_cores


def test_clocks_of_nodes_are_aligned_and_the_late_rank_waits_least() -> None:
    assert program(4, "times.py").out == "ok\n"


def test_a_slow_rank_makes_the_others_wait(tmp_path: Path) -> None:
    command = [str(PROGRAMS / "faulty.py"), "slow", "2", "0", "0", "--epochs", "2", "--hidden", "8"]
    result = mpirun(3, *command, "--output", str(tmp_path / "run"))
    assert result.code == 0, result.err
    epoch = epochs(tmp_path / "run")[1]
    wait, compute = np.array(epoch["wait_s"]), np.array(epoch["compute_s"])
    slowed = epoch["steps"]
    assert compute[2] > 0.02 * slowed > 2 * compute[:2].max()
    assert wait[:2].min() > 0.015 * slowed > 5 * wait[2]


def test_cores_are_shared_without_oversubscription() -> None:
    both = [0, 1]
    assert [share_cores([both], 0), share_cores([both] * 2, 1), share_cores([both] * 4, 0)] == [2, 1, 1]
    assert [share_cores([[0], [1]], r) for r in (0, 1)] == [1, 1]
    assert share_cores([list(range(8))] * 2, 0) == 4
    assert [share_cores([list(range(8)), list(range(8, 16))], r) for r in (0, 1)] == [8, 8]
