"""Wait and transfer blame the right rank."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ps.metrics import preemption
from ps.metrics.preemption import Preemption
from tests.ranks import PROGRAMS, epochs, mpirun, program
from workers.launch.blas_threads import share_cores


def test_clocks_of_nodes_are_aligned_and_the_late_rank_waits_least() -> None:
    assert program(4, "times.py").out == "ok\n"


def test_a_slow_rank_makes_the_others_wait(tmp_path: Path) -> None:
    """In the calmest of five epochs: other processes only ever add time."""
    command = [str(PROGRAMS / "faulty.py"), "slow", "2", "0", "0", "--epochs", "5", "--hidden", "8"]
    result = mpirun(3, *command, "--batch-size", "160", "--output", str(tmp_path / "run"))
    assert result.code == 0, result.err
    wait, compute = (np.array([e[name] for e in epochs(tmp_path / "run")]) for name in ("wait_s", "compute_s"))
    slowed_s = 0.02 * epochs(tmp_path / "run")[0]["steps"]
    assert compute[:, 2].min() > slowed_s > 2 * compute[:, :2].min(axis=0).max()
    assert wait[:, :2].max() > 0.75 * slowed_s > 5 * wait[:, 2].min()


SPIN = "print('spinning', flush=True)\nwhile True: pass"


def test_time_in_a_cores_queue_is_counted() -> None:
    """Two busy processes on one core have half of it each: what one has not, it waited for in the core's queue."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    other = subprocess.Popen([sys.executable, "-c", SPIN], stdout=subprocess.PIPE)
    try:
        assert other.stdout
        other.stdout.readline()
        before, start, computed = Preemption.now(), time.monotonic(), time.thread_time()
        while time.thread_time() < computed + 0.25:
            pass
        shared = Preemption.now() - before
        without_core = time.monotonic() - start - (time.thread_time() - computed)
    finally:
        other.kill()
        other.communicate()
        os.sched_setaffinity(0, cores)
    assert 0.05 < shared.seconds <= without_core + 0.01
    assert shared.times > 0


def test_without_the_systems_count_it_is_the_time_that_is_not_spent_on_a_core(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for content in (None, b"", b"1 x 3"):
        if content is not None:
            (tmp_path / "schedstat").write_bytes(content)
        monkeypatch.setattr(preemption, "QUEUE", tmp_path / "schedstat")
        before, start = Preemption.now(), time.monotonic()
        time.sleep(0.2)
        assert 0.15 < (Preemption.now() - before).seconds <= time.monotonic() - start + 0.01
    assert (Preemption(3, 1.0) - Preemption(1, 2.0)) == Preemption(2, 0.0)


def test_cores_are_shared_without_oversubscription() -> None:
    both = [0, 1]
    assert [share_cores([both], 0), share_cores([both] * 2, 1), share_cores([both] * 4, 0)] == [2, 1, 1]
    assert [share_cores([[0], [1]], r) for r in (0, 1)] == [1, 1]
    assert share_cores([list(range(8))] * 2, 0) == 4
    assert [share_cores([list(range(8)), list(range(8, 16))], r) for r in (0, 1)] == [8, 8]
