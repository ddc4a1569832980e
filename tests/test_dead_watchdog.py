"""A watchdog that is killed is replaced, and the next dead rank is named all the same."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from common.rank_status import RankStatus
from ps.coordinator.seat import CoordinatorSeat
from tests.ranks import MPIRUN, environment, epochs, finish, popen, wait_until
from tests.watched import events, processes
from workers.watchdog import spawn

HOST = os.uname().nodename
WARNING = f"rankwise: warning: the watchdog of {HOST} was gone, killed perhaps; another one watches its ranks now\n"


def pids(folder: Path, text: str) -> list[int]:
    """Return the processes of a job with a text in their command lines, but for the launcher."""
    found = [line.partition(": ") for line in processes(folder)]
    return sorted(int(pid) for pid, _, command in found if text in command and "-np" not in command)


def start(folder: Path, n: int, *more: str) -> "subprocess.Popen[str]":
    launcher = ["--with-ft", "ulfm"] if "--elastic" in more else []
    command = [
        MPIRUN,
        *launcher,
        "-np",
        str(n),
        sys.executable,
        "-m",
        "workers.run",
        "--hidden",
        "8",
        "--output",
        "run",
    ]
    process = popen([*command, "--epochs", "100000", *more], cwd=folder, env=environment(TEST_JOB=str(folder)))
    wait_until(lambda: (folder / "run" / "coordinator.msgpack").exists() and epochs(folder / "run"), "no epoch")
    return process


def replace_watchdogs(folder: Path, n: int) -> None:
    """Kill the watchdogs, and wait until there are others."""
    before = pids(folder, "watchdog")
    assert len(before) == n
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(set(pids(folder, "watchdog")) - set(before)) == n, "no other watchdog")
    wait_until(lambda: len(events(folder, "watchdog")) >= n, "no event of it")


@pytest.mark.parametrize(("n", "rank", "more"), [(2, 0, ()), (3, 1, ()), (4, 3, ("--ranks-per-node", "2"))])
def test_the_next_dead_rank_is_named(tmp_path: Path, n: int, rank: int, more: tuple[str, ...]) -> None:
    process = start(tmp_path, n, *more)
    n_watchdogs = 2 if more else 1
    replace_watchdogs(tmp_path, n_watchdogs)
    os.kill(rank_process(tmp_path, rank), signal.SIGKILL)
    result = finish(process)
    assert result.code not in (0, 75)
    assert result.err.count(WARNING) == n_watchdogs
    wait_until(lambda: not list(processes(tmp_path)), "processes are left")
    (death,) = events(tmp_path, "death")
    assert death["rank"] == rank
    assert [event["host"] for event in events(tmp_path, "watchdog")] == [HOST] * n_watchdogs
    assert f"rank {rank} on {HOST} died" in (tmp_path / "run" / "failure.txt").read_text()


def rank_process(folder: Path, rank: int) -> int:
    """Return the process of a rank, which its launcher has told it by a variable."""
    for pid in pids(folder, "workers.run"):
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        if {f"PMI_RANK={rank}".encode(), f"OMPI_COMM_WORLD_RANK={rank}".encode()} & set(variables):
            return pid
    raise AssertionError(f"no rank {rank} in {list(processes(folder))}")


def test_ranks_that_continue_without_a_dead_one_are_watched_again(tmp_path: Path, mpi: str) -> None:
    """The rank that had started the first watchdog is gone when the next one is needed."""
    if mpi != "openmpi":
        pytest.skip("--elastic needs Open MPI")
    process = start(tmp_path, 3, "--elastic")
    os.kill(rank_process(tmp_path, 0), signal.SIGKILL)
    wait_until(lambda: events(tmp_path, "death"), "no death in the log")
    replace_watchdogs(tmp_path, 1)
    os.kill(rank_process(tmp_path, 2), signal.SIGKILL)
    wait_until(lambda: len(events(tmp_path, "death")) == 2, "no second death in the log")
    assert [event["rank"] for event in events(tmp_path, "death")] == [0, 2]
    os.kill(rank_process(tmp_path, 1), signal.SIGUSR1)
    finish(process)
    assert events(tmp_path, "stop")


def test_who_cannot_start_another_says_so_once(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    status = RankStatus()
    handle = spawn.WatchdogHandle(status, CoordinatorSeat())
    handle._orders = {"ranks": [[0, os.getpid(), status.handle, status.pipe, status.copy]], "hosts": [HOST],
                      "elastic": False, "gone": [], "lost": []}  # fmt: skip
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    handle._watch_watchdog()
    err = capfd.readouterr().err
    assert err.count("rankwise: warning: ") == 1
    assert f"ranks on {HOST} are not watched" in err
    assert "No such file or directory: '/nowhere/python'" in err
    assert status.new_watchdogs() == 0


def test_who_ends_every_watchdog_means_it(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    status = RankStatus()
    handle = spawn.WatchdogHandle(status, CoordinatorSeat())
    handle._orders = {"ranks": [[0, os.getpid(), status.handle, status.pipe, status.copy]], "hosts": [HOST],
                      "elastic": False, "gone": [], "lost": []}  # fmt: skip
    monkeypatch.setattr(handle, "_start", lambda: "")
    handle._watch_watchdog()
    err = capfd.readouterr().err
    assert err.count("another one watches its ranks now") == status.new_watchdogs() == spawn.MOST_ENDED
    assert err.count("are not watched") == 1
