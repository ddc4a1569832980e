"""Shared memory: how slices are dealt, what is left behind, and what happens when there is no room."""

import contextlib
import itertools
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.run_files import LOG_NAME
from ps.sync.slices import cut
from tests.ranks import MPIRUN, Result, finish, popen, records, wait_until
from tests.shared_memory import SHM, mapped

Job = Callable[..., Result]
SHORT = ("--epochs", "2", "--hidden", "8")


@given(start=st.integers(0, 100), n=st.integers(0, 5000), unit=st.integers(1, 300), largest=st.integers(1, 9),
       smaller=st.integers(1, 9))  # fmt: skip
def test_slices_cover_the_vector_and_all_nodes_cut_alike(
    start: int, n: int, unit: int, largest: int, smaller: int
) -> None:
    size = min(smaller, largest)
    large, small = cut(start, start + n, unit, largest, largest), cut(start, start + n, unit, largest, size)
    assert [s.owner for s in large] == list(range(largest))
    assert [(s.start, s.stop, s.number) for s in large] == [(s.start, s.stop, s.number) for s in small]
    assert large[0].start == start
    assert large[-1].stop == start + n
    for before, after in itertools.pairwise(large):
        assert before.stop == after.start
        assert (after.start - start) % unit == 0 or after.start == start + n
    owners = [s.owner for s in small]
    assert owners == sorted(owners)
    assert set(owners) == set(range(size))
    lengths = [s.stop - s.start for s in large]
    assert max(lengths) - min(lengths) < 2 * unit


@pytest.mark.parametrize("mode", ["shared", "factors"])
def test_ranks_cannot_start_apart_in_one_memory(job: Job, tmp_path: Path, mode: str) -> None:
    result = job(2, *SHORT, "--mode", mode, "--init", "per-rank")
    assert result.code == 2
    assert result.err.count("rankwise:") == 1
    assert "keeps one copy of the parameters a node" in result.err
    assert not (tmp_path / "run").exists()


def test_too_little_shared_memory_is_told_with_the_size(job: Job) -> None:
    if not SHM.is_dir():
        pytest.skip("no /dev/shm here")
    numbers = shutil.disk_usage(SHM).free // 4  # float32: as many as there is room for, and the gradients on top
    width = int(numbers**0.5)
    result = job(2, "--mode", "shared", "--hidden", str(width), str(width))
    assert result.code == 1
    assert result.err.count("rankwise:") == 1
    assert "shared memory: this node needs" in result.err
    assert "MB in /dev/shm" in result.err


def large(paths: set[Path]) -> list[Path]:
    """Return which files are large, of those that are still there."""
    found = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            found += [path] * (path.stat().st_size > 17 << 20)
    return found


def left_over() -> set[Path]:
    """Return the files in shared memory that no process uses; those of other jobs on this machine are in use."""
    maps = mapped()
    return {path for path in SHM.iterdir() if str(path) not in maps}


@pytest.mark.parametrize("mode", ["shared", "factors"])
@pytest.mark.parametrize("end", ["good", "bad"])
def test_nothing_is_left_in_shared_memory(job: Job, mode: str, end: str) -> None:
    before = left_over()
    rate = ["--optimizer", "sgd", "--learning-rate", "1e30"] if end == "bad" else []
    result = job(3, *SHORT, "--mode", mode, "--ranks-per-node", "2", *rate)
    assert result.code == (1 if rate else 0), result.err
    assert left_over() - before == set()


def test_a_killed_rank_leaves_no_window(tmp_path: Path) -> None:
    """MPICH's own few megabytes stay behind; the windows would be 20 MB and more."""
    before, run = left_over(), tmp_path / "run"
    options = ["--mode", "shared", "--hidden", "2000", "2000", "--epochs", "1000", "--output", str(run)]
    process = popen([MPIRUN, "-np", "2", sys.executable, "-m", "workers.run", *options], cwd=tmp_path)
    log = run / LOG_NAME
    wait_until(lambda: log.exists() and any(r["kind"] == "balance" for r in records(run)), "no step", process)
    os.kill(records(run)[0]["pid"], signal.SIGKILL)
    assert finish(process).code != 0
    wait_until(lambda: not large(left_over() - before), "windows are left")
