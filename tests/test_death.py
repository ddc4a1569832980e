"""A rank dies, anywhere: the job is gone soon, and console, file and log name the rank and its place, once."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.progress import AT, CLAIMED, EXCHANGE, N_PARTS, OUTSIDE, Progress, Row, read_row
from ps import checkpoint
from ps.failure import append_events, claim
from ps.log import encode
from ps.log_writer import RunLog
from tests.ranks import Result, environment, epochs, finish, popen, records
from tests.synthetic import write_run
from tests.watched import events, processes, run_job, wait_until
from workers.witness import open_held

HOST = os.uname().nodename
GONE_S = 10


def check(folder: Path, result: Result, rank: int, place: str, **fields: object) -> None:
    gone = time.time()
    assert result.code != 0
    assert result.err.count("rankwise:") == 1, result.err
    words = (folder / "run" / "failure.txt").read_text()
    assert f"rankwise: rank {rank} on {HOST}" in words
    assert place in words
    assert words.strip().splitlines()[-1] in result.err
    (event,) = events(folder, "death")
    assert records(folder / "run")[-1] == event
    assert gone - event["noticed"] < GONE_S
    assert (event["rank"], event["host"]) == (rank, HOST)
    assert {name: event[name] for name in fields} == fields
    assert f"rankwise: {event['message']}" == words.strip().splitlines()[-1]


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_a_killed_rank_is_named(tmp_path: Path, rank: int) -> None:
    result = run_job(tmp_path, 3, "faulty.py", "kill", rank, 2, 5)
    check(tmp_path, result, rank, "at epoch 2, step 5, phase: compute", epoch=2, step=5, phase="compute")
    assert [e["epoch"] for e in epochs(tmp_path / "run")] == [1]
    shown = finish(popen([sys.executable, "-m", "ps.log", "show", str(tmp_path / "run")]))
    assert f"Event death: rank {rank} on {HOST} died" in shown.out


@pytest.mark.parametrize(
    ("rank", "epoch", "phase"),
    [
        (1, 2, "evaluation"),
        (0, 2, "writing the log"),
        (2, 2, "checkpoint"),
        (0, 0, "writing the model"),
        (1, 0, "closing"),
    ],
)
def test_so_is_one_killed_outside_of_the_loop(tmp_path: Path, rank: int, epoch: int, phase: str) -> None:
    result = run_job(tmp_path, 3, "at_phase.py", "kill", rank, epoch, phase, "--checkpoint-every", 1)
    check(tmp_path, result, rank, f"phase: {phase}", epoch=epoch, step=0, phase=phase)
    found, faults = checkpoint.newest(tmp_path / "run")
    assert not faults
    assert found is not None


@pytest.mark.parametrize(("fault", "words"), [("raise", "ValueError: this is the cause"), ("leave", "SystemExit: 0")])
def test_a_rank_that_tells_its_own_end_is_not_told_of_again(tmp_path: Path, fault: str, words: str) -> None:
    result = run_job(tmp_path, 3, "faulty.py", fault, 1, 2, 5)
    check(tmp_path, result, 1, words, epoch=2, step=5, phase="compute")


def test_the_witnesses_end_what_the_launcher_leaves(tmp_path: Path, mpi: str) -> None:
    """Two nodes, and a launcher that lets ranks wait for a dead one, as srun does without -K."""
    if mpi != "mpich":
        pytest.skip("Open MPI's launcher ends all ranks itself")
    faults = ("faulty.py", "kill", 3, 2, 5, "--ranks-per-node", 2)
    result = run_job(tmp_path, 4, *faults, launcher=("-disable-auto-cleanup",))
    check(tmp_path, result, 3, "at epoch 2, step 5, phase: compute", epoch=2, step=5)


def test_a_good_end_leaves_nothing_behind(tmp_path: Path) -> None:
    result = run_job(tmp_path, 2, "faulty.py", "none", 0, 0, 0)
    assert result.code == 0, result.err
    assert "rankwise" not in result.err
    assert not {"failure.txt", "progress"} & set(os.listdir(tmp_path / "run"))
    assert records(tmp_path / "run")[-1]["kind"] == "end"


DYING = """
import os, sys, time
from common.progress import Progress
progress = Progress()
print(os.getpid(), progress.handle, progress.pipe, flush=True)
sys.stdin.readline()
os.closerange(progress.handle, progress.handle + 9)  # as the kernel does, and then takes its time
time.sleep(1)
"""


def test_the_first_to_die_is_named_although_it_is_gone_last(tmp_path: Path) -> None:
    """A launcher that sees a rank's pipes close kills the others, who may be gone before the first is."""
    env = environment(TEST_JOB=str(tmp_path))
    ranks = [popen([sys.executable, "-c", DYING], stdin=subprocess.PIPE, env=env) for _ in range(2)]
    assert all(rank.stdout and rank.stdin for rank in ranks)
    held = [[number, *map(int, rank.stdout.readline().split())] for number, rank in enumerate(ranks)]  # type: ignore[union-attr]
    orders = {"ranks": held, "hosts": ["x", "x"], "leaders": [0, 0], "stall_s": 0, "abort_s": 0, "path": []}
    orders |= {name: str(tmp_path / name) for name in ("failure", "log", "progress")}
    command = [sys.executable, "-c", "from workers.witness import main; main()"]
    subprocess.run(command, input=json.dumps(orders), text=True, env=env, check=True, timeout=20)
    ranks[1].stdin.write("\n")  # type: ignore[union-attr]
    ranks[1].stdin.flush()  # type: ignore[union-attr]
    time.sleep(0.3)
    ranks[0].kill()
    wait_until(lambda: not list(processes(tmp_path)), "processes are left")
    assert (tmp_path / "failure").read_text().startswith("rankwise: rank 1 on x died")
    for rank in ranks:
        rank.communicate()


def test_another_process_reads_where_a_rank_is(tmp_path: Path) -> None:
    progress = Progress()
    memory = open_held(os.getpid(), progress.handle)
    assert (read_row(memory).phase, read_row(memory).where) == ("start", "in phase: start")
    progress.epoch = 3
    progress.phase = "Auswertung \N{GREEK SMALL LETTER ALPHA}" + "x" * 100
    assert (progress.step, progress.cells[AT]) == (0, OUTSIDE)
    assert read_row(memory).phase == progress.phase
    assert len(progress.phase) < 70
    progress.cells[AT] = 16 * N_PARTS + EXCHANGE
    assert (progress.step, progress.phase) == (17, "exchange")
    assert read_row(memory).where == "at epoch 3, step 17, phase: exchange"
    progress.cells[CLAIMED] = 1
    row = read_row(memory)
    assert row.claimed == 1
    assert Row.unpack(row.pack()) == row
    assert Row.unpack(b"") == Row.unpack(bytes(4096)) == Row()
    memory.close()


def test_the_first_word_counts(tmp_path: Path) -> None:
    path = tmp_path / "failure.txt"
    assert claim(path, "first")
    assert not claim(path, "second")
    assert path.read_text() == "first\n"
    assert claim(tmp_path / "nowhere" / "failure.txt", "told on the console at least")


def test_events_are_added_behind_the_last_whole_record(tmp_path: Path) -> None:
    log = write_run(tmp_path / "run", epochs=2, ranks=2, end="") / "coordinator.msgpack"
    before = records(log.parent)
    with log.open("ab") as file:
        file.write(encode({"kind": "event", "seq": len(before)})[:9])
    stall, death = {"what": "stall", "noticed": 1.0}, {"what": "death", "noticed": 2.0}
    assert append_events(log, [stall], lambda: False)
    assert append_events(log, [stall, death], lambda: False)
    added = records(log.parent)[len(before) :]
    assert [(e["seq"] - len(before), e["what"]) for e in added] == [(0, "stall"), (1, "death")]
    writer = RunLog(log, new=False)  # as rank 0 has it while it lives
    assert not append_events(log, [death], lambda: False)
    writer.close()
    assert not append_events(tmp_path / "none", [death], lambda: False)
