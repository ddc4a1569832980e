"""A rank hangs: the right one is named, and the job goes on or ends; nobody is blamed for being slow."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from common.rank_status import AT, COMPUTE, ENDED, EPOCH, EXCHANGE, INPUT, N_PHASES, STOPPED, RankStatus, StatusRow
from tests.ranks import (
    MPIRUN,
    PROGRAMS,
    WAIT_S,
    Result,
    environment,
    epochs,
    finish,
    popen,
    records,
    wait_for_epochs,
    wait_until,
)
from tests.watched import events, processes, run_job
from workers.checkpoint import checkpoint_file
from workers.watchdog import job_clock, rank_process
from workers.watchdog.job_clock import LATE_S, NOTED_S
from workers.watchdog.rank_process import LOOK_S
from workers.watchdog.stall import OUTSIDE_FACTOR, describe_hang, describe_stall, find_stall, who_hangs

HOST = os.uname().nodename
HOSTS = ["a", "a", "b", "b"]
LONG = ("--epochs", "100000", "--hidden", "8", "--output", "run", "--stall-seconds", "0.3")
ERROR_CODES = {"mpich": (1, 9), "openmpi": (1,)}
"""MPICH's launcher may give the code of a rank that it killed instead of that of MPI_Abort."""
QUICK = ("--stall-seconds", "2", "--abort-stall", "2", "--checkpoint-every", "1")
SOON = ("--stall-seconds", 0.3)
START_STALL_S = 0.8
JOBS: dict[str, tuple[object, ...]] = {
    "slow-disk": (3, "slow_disk.py", 0.045, *SOON, "--checkpoint-every", 1),
    "reading": (3, "at_phase.py", "hang", 1, 0, "reading data", *SOON, "--abort-stall", 1),
    "slow-scaling": (2, "slow_start.py", 5.5, 0, "--mode", "allreduce", "--stall-seconds", START_STALL_S),
    "slow-choice": (2, "slow_start.py", 0, 0.6, "--mode", "auto", "--stall-seconds", START_STALL_S),
    "stopped-0": (3, "faulty.py", "stop", 0, 3, 5, *QUICK),
    "stopped-3": (4, "faulty.py", "stop", 3, 3, 5, *QUICK, "--ranks-per-node", "2"),
    "stuck": (3, "faulty.py", "stuck", 1, 3, 5, *QUICK, "--mode", "allreduce"),
    "injected": (3, "faulty.py", "none", 0, 0, 0, *QUICK, "--inject", "hang:rank=1,step=45"),
    "hang": (3, "faulty.py", "hang", 1, 3, 5, *QUICK),
    "slow-log": (3, "at_phase.py", "nap", 0, 2, "writing the log", "--stall-seconds", 2),
    "slow-rank": (3, "faulty.py", "slow", 1, 1, 1, "--stall-seconds", 2),
}
"""By name: ranks, program and its arguments. They wait most of their time, so several run at once."""
SUSPENDED = {"suspended-all": (1, "all"), "suspended-ranks": (2, "ranks")}
"""Nodes, and what is stopped: the ranks, as by Ctrl-Z under Open MPI, or all processes, as in a freezer."""
AT_ONCE = 4
Ended = Callable[[str], tuple[Path, Result]]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ended]:
    """Return the folder of a job and how it ended, of all that are started when the first is asked for."""
    folders = {name: tmp_path_factory.mktemp(name) for name in (*SUSPENDED, *JOBS)}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        started = {name: pool.submit(suspend, folders[name], *given) for name, given in SUSPENDED.items()}
        started |= {name: pool.submit(run_job, folders[name], *given) for name, given in JOBS.items()}  # type: ignore[arg-type]
        yield lambda name: (folders[name], started[name].result())


def at(step: int, part: int, seconds: float = 60, epoch: int = 3) -> StatusRow:
    """Return the row of a rank in the loop that has not gone on for so long."""
    return StatusRow(epoch=epoch, at=(step - 1) * N_PHASES + part, age_ms=int(1000 * seconds), longest_ms=10)


def outside(phase: str, seconds: float = 60, epoch: int = 3) -> StatusRow:
    return StatusRow(epoch=epoch, phase_name=phase.encode(), age_ms=int(1000 * seconds), longest_ms=10)


def blamed(rows: list[StatusRow], stall_s: float = 60, silent: tuple[int, ...] = ()) -> tuple[int, ...] | None:
    found = find_stall(rows, stall_s, silent)
    return None if found is None else found.ranks


W = at(117, EXCHANGE)


@pytest.mark.parametrize(
    ("rows", "ranks"),
    [
        ([W, W, at(117, COMPUTE), W], (2,)),
        ([at(116, EXCHANGE), W, at(115, COMPUTE), W], (2,)),  # out of step: rank 0 waits as well
        ([W, W, at(117, INPUT), W], (2,)),
        ([W, at(117, INPUT), at(117, COMPUTE), W], (1, 2)),
        ([W, W, at(116, EXCHANGE), W], (2,)),  # has not come out of the last exchange
        ([W, W, at(1, EXCHANGE, epoch=4), W], (0, 1, 3)),
        ([W, W, W, W], ()),
        ([W, W, replace(W, state=STOPPED), W], (2,)),
        ([W, outside("end of epoch"), outside("end of epoch"), W], (0, 3)),
        ([outside("end of epoch", 300), outside("saving", 300), outside("closing", 300)], (0,)),
        ([at(5, COMPUTE), at(5, COMPUTE), at(5, COMPUTE), at(5, COMPUTE)], (0, 1, 2, 3)),
        ([*[outside("checkpoint", 300)] * 2, replace(outside("checkpoint", 300), state=STOPPED)], (2,)),
        ([W, W, replace(at(116, EXCHANGE), state=STOPPED), at(116, EXCHANGE)], (2,)),  # a node of two, in a barrier
    ],
)
def test_who_has_not_arrived_is_blamed(rows: list[StatusRow], ranks: tuple[int, ...]) -> None:
    assert blamed(rows) == ranks


@pytest.mark.parametrize(
    "rows",
    [
        [W, W, at(117, COMPUTE, 59), W],  # not long enough
        [W, W, at(117, COMPUTE), at(117, EXCHANGE, 5)],  # somebody goes on
        [W, W, replace(at(117, COMPUTE), longest_ms=6100), W],  # steps are slow
        [W, W, replace(at(1, COMPUTE), longest_ms=0), W],  # or may be: none has ended yet
        [outside("writing the log"), *[outside("end of epoch")] * 3],  # rank 0 is at work
        [outside("evaluation"), *[outside("end of epoch")] * 3],
        [outside("checkpoint"), W, W, W],
        [W, W, W, replace(W, state=ENDED)],  # that is a death
        [StatusRow(finished=1, state=ENDED, age_ms=10**6)] * 4,
    ],
)
def test_nobody_is_blamed(rows: list[StatusRow]) -> None:
    assert blamed(rows) is None


def test_outside_of_the_loop_takes_longer() -> None:
    rows = [outside("writing the log", OUTSIDE_FACTOR * 60), *[outside("end of epoch", OUTSIDE_FACTOR * 60)] * 3]
    assert blamed(rows) == (0,)


def test_silent_nodes_are_blamed_last() -> None:
    old = at(100, EXCHANGE)
    assert blamed([W, W, old, old], silent=(2, 3)) == (2, 3)
    assert blamed([at(117, COMPUTE), W, old, old], silent=(2, 3)) == (0,)


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (
            [W, W, at(117, INPUT, 63), W],
            "rank 2 on b has not arrived at step 117 of epoch 3, last phase: input, 63 s ago",
        ),
        ([W] * 4, "all ranks wait for each other at step 117 of epoch 3, for 60 s: the network, or a deadlock"),
        (
            [outside("evaluation", 400), *[outside("end of epoch", 399)] * 3],
            "rank 0 on a has not arrived at the end of epoch 3, last phase: evaluation, 400 s ago",
        ),
        ([at(5, COMPUTE)] * 2, "rank 0 on a, 1 on a have made no progress for 60 s, phase: compute"),
        (
            [W, replace(at(117, COMPUTE), state=STOPPED)],
            "rank 1 on a has not arrived at step 117 of epoch 3, last phase: compute, 60 s ago; the process of rank 1 "
            "is stopped by a signal (state T; kill -CONT continues it)",
        ),
    ],
)
def test_a_stall_in_words(rows: list[StatusRow], text: str) -> None:
    stall = find_stall(rows, 60)
    assert stall is not None
    assert describe_stall(stall, rows, HOSTS) == text


ALLREDUCE = """Stack (most recent call first):
  File "/site/ps/sync/allreduce.py", line 20 in sum
  File "/site/ps/sync/replicated.py", line 102 in step
  File "/site/workers/training/loop.py", line 90 in run_epoch"""
OWN_MODEL = """Stack (most recent call first):
  File "/home/me/my model.py", line 8 in predict
  File "/site/ps/sync/replicated.py", line 121 in step"""
NOT_PYTHON = "Stack (most recent call first):\n  <no Python frame>"


@pytest.mark.parametrize(
    ("stacks", "hangs"),
    [([ALLREDUCE, OWN_MODEL, ALLREDUCE], {1: "my model.py, line 8, predict"}),
     ([ALLREDUCE, OWN_MODEL, OWN_MODEL], dict.fromkeys((1, 2), "my model.py, line 8, predict")),
     ([ALLREDUCE] * 3, {}), ([OWN_MODEL] * 3, {}), ([ALLREDUCE, "", NOT_PYTHON], {}), ([], {})],
)  # fmt: skip
def test_who_hangs_is_seen_in_the_stacks(stacks: list[str], hangs: dict[int, str]) -> None:
    assert who_hangs(dict(enumerate(stacks))) == hangs


def test_a_hang_in_words() -> None:
    stall = find_stall([W] * 4, 60)
    assert stall is not None
    assert describe_hang(stall, HOSTS, {1: "my model.py, line 8, predict"}) == (
        "rank 1 on a hangs in my model.py, line 8, predict; the other ranks wait for it at step 117 of "
        "epoch 3, for 60 s"
    )


@pytest.mark.slow
def test_a_rank_that_hangs_within_the_exchange_is_named_by_its_stack(ended: Ended, mpi: str) -> None:
    """All ranks say that they are at the exchange; only what they do there tells them apart."""
    folder, result = ended("stuck")
    assert result.code in ERROR_CODES[mpi], result
    words = (
        rf"rank 1 on {re.escape(HOST)} hangs in faulty\.py, line \d+, stuck; the other ranks wait for it at step 5 of"
    )
    assert len(re.findall(words, result.err)) == 2, result.err
    assert "wait for each other" not in result.err
    (stall,), (abort,) = events(folder, "stall"), events(folder, "abort")
    assert (stall["ranks"], stall["hosts"], abort["ranks"]) == ([1], [HOST], [1])
    assert list(stall["stacks"]) == ["1"]


@pytest.mark.slow
def test_an_injected_hang_is_named(ended: Ended, mpi: str) -> None:
    folder, result = ended("injected")
    assert result.code in ERROR_CODES[mpi], result
    assert f"rank 1 on {HOST} has not arrived at step 5 of epoch 3, last phase: compute" in result.err
    assert "wait for each other" not in result.err
    assert [stall["ranks"] for stall in events(folder, "stall")] == [[1]]


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 3])
def test_a_stopped_rank_is_named_and_the_job_ended(ended: Ended, rank: int, mpi: str) -> None:
    folder, result = ended(f"stopped-{rank}")
    assert result.code in ERROR_CODES[mpi], result
    words = f"rank {rank} on {HOST} has not arrived at step 5 of epoch 3, last phase: compute"
    assert result.err.count(words) == 2, result.err  # the alarm, and the end
    assert f"the process of rank {rank} is stopped" in result.err
    assert words in (folder / "run" / "failure.txt").read_text()
    (stall,), (abort,) = events(folder, "stall"), events(folder, "abort")
    assert (stall["ranks"], stall["hosts"], stall["epoch"], stall["step"]) == ([rank], [HOST], 3, 5)
    assert (stall["phase"], abort["ranks"]) == ("compute", [rank])
    found, faults = checkpoint_file.newest(folder / "run")
    assert not faults
    assert found is not None
    assert found.about["position"]["epoch"] in (1, 2)  # that of epoch 2 may not have been written yet


def suspend(folder: Path, nodes: int, whom: str) -> Result:
    """Suspend a job for longer than --abort-stall allows, and stop it when it has gone on."""
    options = ["-m", "workers.run", *LONG, "--abort-stall", "0.5", "--ranks-per-node", str(2 // nodes)]
    command = [MPIRUN, "-np", "2", sys.executable, *options]
    process = popen(command, cwd=folder, env=environment(TEST_JOB=str(folder)))
    wait_for_epochs(process, folder / "run", 20)
    found = {int(line.partition(":")[0]): line for line in processes(folder)}
    ranks = [pid for pid, line in found.items() if "workers.run" in line and "-np" not in line]
    assert len(ranks) == 2
    stopped = ranks if whom == "ranks" else list(found)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    before = len(epochs(folder / "run"))
    time.sleep(NOTED_S + 2)
    assert len(epochs(folder / "run")) <= before + 1
    for pid in reversed(stopped):
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: events(folder, "suspended"), "no event", process)
    wait_for_epochs(process, folder / "run", before + 20)
    process.send_signal(signal.SIGUSR1)
    return finish(process)


@pytest.mark.slow
@pytest.mark.parametrize("name", SUSPENDED)
def test_a_suspended_job_is_not_ended(ended: Ended, name: str) -> None:
    folder, result = ended(name)
    assert result.code == 75, result.err
    assert not events(folder, "stall")
    (event,) = events(folder, "suspended")
    assert NOTED_S <= event["seconds"] <= event["t"] - records(folder / "run")[0]["t"]
    assert result.err.count("rankwise: the job was suspended for ") == 1


class Timer:
    """An epoll object and the time: each poll takes what is asked for, and what somebody adds to it."""

    def __init__(self, *more: float) -> None:
        self.time, self.more = 1000.0, list(more)

    def monotonic(self) -> float:
        return self.time

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        self.time += timeout + self.more.pop(0)
        return []


def test_the_clock_stands_still_while_all_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    timer = Timer(0.0, 0.9 * LATE_S, 90.0, 0.0, 0.0, 0.0)
    monkeypatch.setattr(job_clock, "time", timer)
    clock, told = job_clock.JobClock(), []
    for all_stopped in (False, False, False, True, True, False):
        clock.poll(timer, clock.now() + 1)
        told.append(clock.look(all_stopped=all_stopped))
    # a late poll counts; 90 s asleep do not, nor two looks that found all ranks stopped
    assert clock.now() == pytest.approx(1000 + 4 + 0.9 * LATE_S)
    assert told == [0, 0, pytest.approx(90), 0, 0, 0]


def test_a_suspension_does_not_stretch_the_longest_step(monkeypatch: pytest.MonkeyPatch) -> None:
    timer = Timer()
    monkeypatch.setattr(job_clock, "time", timer)
    monkeypatch.setattr(rank_process, "time", timer)
    status = RankStatus()
    rank = rank_process.RankProcess(0, os.getpid(), status.handle, status.pipe, status.copy)
    clock = job_clock.JobClock()

    def look(seconds: float, at: int, *, suspended: bool = False) -> StatusRow:
        timer.time += seconds
        status.cells[AT] = at
        clock.look(all_stopped=suspended)
        return rank.look(clock.now(), 1, aborting=False, stalled=False)

    status.cells[EPOCH] = 1
    look(1, 0)
    assert look(1, 2 * N_PHASES).longest_ms == 500
    assert look(300, 2 * N_PHASES + 1, suspended=True).age_ms == 0
    assert look(1, 3 * N_PHASES).longest_ms == 1000


@pytest.mark.slow
def test_the_stack_of_a_rank_that_hangs_is_shown(ended: Ended, mpi: str) -> None:
    folder, result = ended("hang")
    assert result.code in ERROR_CODES[mpi], result
    (stall,) = events(folder, "stall")
    assert "faulty.py" in stall["stacks"]["1"]
    assert "in faulty" in stall["stacks"]["1"]
    assert "in faulty" in result.err
    assert [record["kind"] for record in records(folder / "run")][-2:] == ["event", "event"]


@pytest.mark.slow
def test_a_rank_that_hangs_while_it_reads_data_is_named_and_the_job_ended(ended: Ended, mpi: str) -> None:
    folder, result = ended("reading")
    assert result.code in ERROR_CODES[mpi], result
    words = f"rank 1 on {HOST} has not arrived at the start of training, last phase: reading data"
    # the alarm, another if a rank came late in between, and the end
    assert result.err.count(f"rankwise: {words}") >= 2, result.err
    assert re.search(re.escape(words) + ".*the job is ended", result.err)
    assert "at_phase.py" in result.err
    assert "in enter" in result.err
    assert not (folder / "run").exists()


@pytest.mark.slow
def test_a_slow_disk_is_no_stall(ended: Ended) -> None:
    """Rank 0 waits for a checkpoint and writes the model for longer than a stall takes, but goes on all the time."""
    folder, result = ended("slow-disk")
    assert result.code == 0, result.err
    assert result.seconds > 2 * 2 * OUTSIDE_FACTOR * 0.3
    assert [e["phase"] for e in events(folder, "stall") if e["step"] == 0] == []
    assert checkpoint_file.newest(folder / "run")[0] is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["slow-scaling", "slow-choice"])
def test_a_slow_start_is_no_stall(ended: Ended, name: str) -> None:
    """Data are prepared, or a mode is chosen, for longer than a stall takes, and ranks go on all the time."""
    folder, result = ended(name)
    assert result.code == 0, result.err
    assert "rankwise" not in result.err
    assert not events(folder, "stall")
    _, _, scaling_s, step_s, *_ = JOBS[name]
    trials = records(folder / "run")[0]["sync"]["trials"] or ()
    took_s = float(str(scaling_s)) + float(str(step_s)) * sum(trial["steps"] + 1 for trial in trials)
    assert took_s > OUTSIDE_FACTOR * START_STALL_S + LOOK_S  # seen at the latest then


@pytest.mark.slow
def test_a_stall_that_passes_is_reported_and_training_continues(tmp_path: Path) -> None:
    fault = [str(PROGRAMS / "at_phase.py"), "stop", "1", "2", "evaluation", *LONG]
    env = environment(TEST_JOB=str(tmp_path))
    process = popen([MPIRUN, "-np", "3", sys.executable, *fault], cwd=tmp_path, env=env)
    wait_until((tmp_path / "run" / "coordinator.msgpack").exists, "no log")
    wait_until(lambda: events(tmp_path, "stall"), "no event")
    os.kill(int((tmp_path / "stopped").read_text()), signal.SIGCONT)
    wait_until(lambda: events(tmp_path, "stall-over"), "no event")
    process.send_signal(signal.SIGUSR1)
    result = finish(process)
    assert result.code == 75
    assert result.err.count("rankwise:") == 2
    assert "training continues after a stall of" in result.err
    (stall,), (over,) = events(tmp_path, "stall"), events(tmp_path, "stall-over")
    assert stall["ranks"] == over["ranks"] == [1]
    assert over["seconds"] > stall["seconds"]
    assert records(tmp_path / "run")[-1]["status"] == "stopped"
    wait_until(lambda: not list(processes(tmp_path)), "processes are left")
    left = os.listdir(tmp_path / "run")
    assert not [name for name in left if name.startswith(("failure", "progress", "stack"))]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["slow-log", "slow-rank"])
def test_nobody_is_blamed_for_being_slow(ended: Ended, name: str) -> None:
    folder, result = ended(name)
    assert result.code == 0, result.err
    assert "rankwise" not in result.err
    assert not events(folder, "stall")


def test_a_watchdog_leaves_when_it_cannot_see_the_ranks(tmp_path: Path) -> None:
    program = "from workers.watchdog.process import main; main()"
    orders = '{"ranks": [[0, 4194305, 3, 4, 5]], "hosts": ["x"], "leaders": [0], "progress": "p", "elastic": false, '
    result = subprocess.run(
        [sys.executable, "-c", program],
        input=f'{orders}"stall_s": 1, "abort_s": 1, "path": []}}',
        capture_output=True, text=True, env=environment(), timeout=WAIT_S, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (1, "")
    assert "No such process" in result.stdout  # which the rank that started it says in its warning
    assert "Traceback" not in result.stderr
