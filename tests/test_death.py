"""A rank dies, anywhere: the job is gone soon, and console, file and log name the rank and its place, once."""

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from common.files import do_nothing
from common.rank_status import (
    AT,
    EPOCH,
    EXCHANGE,
    N_PHASES,
    OUTSIDE,
    REPORTED,
    WAITING,
    RankStatus,
    StatusRow,
    read_folder,
    read_row,
)
from common.run_files import write_failure_once
from ps.logfile.records import encode
from ps.logfile.writer import RunLog
from tests.ranks import MPIRUN, PROGRAMS, Result, epochs, finish, popen, records
from tests.synthetic import write_run
from tests.watched import SHORT, events, run_job
from workers.checkpoint import checkpoint_file
from workers.watchdog import rank_process
from workers.watchdog.death_reports import DeathReports
from workers.watchdog.failure import Failure
from workers.watchdog.launcher_process import Launcher
from workers.watchdog.log_events import append_events
from workers.watchdog.peers import Peers
from workers.watchdog.rank_process import RankProcess
from workers.watchdog.silence import Silence

HOST = os.uname().nodename
GONE_S = 60


def check(folder: Path, result: Result, rank: int, place: str, **fields: object) -> None:
    gone = time.time()
    assert result.code != 0
    assert result.err.count("rankwise:") == 1, result.err
    text = (folder / "run" / "failure.txt").read_text()
    assert f"rankwise: rank {rank} on {HOST}" in text
    assert place in text
    assert text.strip().splitlines()[-1] in result.err
    (event,) = events(folder, "death")
    assert records(folder / "run")[-1] == event
    assert gone - event["noticed"] < GONE_S
    assert (event["rank"], event["host"]) == (rank, HOST)
    assert {name: event[name] for name in fields} == fields
    assert f"rankwise: {event['message']}" == text.strip().splitlines()[-1]


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
        (1, 3, "evaluation"),  # the second checkpoint waits for the first, so that is whole by then
        (0, 3, "writing the log"),
        (2, 2, "checkpoint"),
        (0, 0, "writing the model"),
        (1, 0, "closing"),
    ],
)
def test_so_is_one_killed_outside_of_the_loop(tmp_path: Path, rank: int, epoch: int, phase: str) -> None:
    result = run_job(tmp_path, 3, "at_phase.py", "kill", rank, epoch, phase, "--checkpoint-every", 1)
    check(tmp_path, result, rank, f"phase: {phase}", epoch=epoch, step=0, phase=phase)
    found, faults = checkpoint_file.newest(tmp_path / "run")
    assert not faults
    assert found is not None


@pytest.mark.parametrize(
    ("rank", "phase"), [(0, "reading the checkpoint"), (1, "reading data"), (2, WAITING), (0, "opening the log")]
)
def test_one_that_dies_before_there_is_a_run_folder_is_named(tmp_path: Path, rank: int, phase: str) -> None:
    result = run_job(tmp_path, 3, "at_phase.py", "kill", rank, 0, phase)
    assert result.code not in (0, 75)
    assert result.err.count("rankwise:") == 1, result.err
    assert f"rankwise: rank {rank} on {HOST} died (" in result.err
    assert f") in phase: {phase}\n" in result.err
    assert not (tmp_path / "run").exists()


def test_so_is_one_that_the_launcher_does_not_miss(tmp_path: Path, mpi: str) -> None:
    if mpi != "mpich":
        pytest.skip("Open MPI's launcher ends all ranks itself")
    leaves = ("-disable-auto-cleanup",)
    result = run_job(tmp_path, 3, "at_phase.py", "kill", 1, 0, "reading data", launcher=leaves)
    assert result.code not in (0, 75)
    assert result.err.startswith(f"rankwise: rank 1 on {HOST} died (")
    assert result.err.endswith(") in phase: reading data\n")


@pytest.mark.parametrize("early", [True, False], ids=["before MPI", "in MPI"])
def test_a_death_before_anybody_watches_ends_the_job(tmp_path: Path, early: bool) -> None:
    at = "1, 0, 'start'" if not early else "-1, 0, ''"
    code = (
        "import os, runpy, sys; from workers.launch.mpi import launcher_rank\n"
        f"if {early} and launcher_rank() == 1: os.kill(os.getpid(), 9)\n"
        f"sys.argv[1:1] = [str(a) for a in ('kill', {at})]\n"
        f"runpy.run_path({str(PROGRAMS / 'at_phase.py')!r}, run_name='__main__')"
    )
    result = finish(popen([MPIRUN, "-np", "3", sys.executable, "-c", code, *SHORT], cwd=tmp_path))
    assert result.code not in (0, 75)
    assert not (tmp_path / "run").exists()


def test_the_first_of_several_is_named_though_others_are_looked_into_sooner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two nodes: the launcher kills the second one's rank, too, and the system tells of that one's signal first."""
    failure = tmp_path / "failure.txt"

    def late(process: int) -> str:
        assert not write_failure_once(tmp_path), "who looks into a death has said before that there is one"
        return "SIGKILL"

    monkeypatch.setattr(rank_process, "killed_by", late)
    status = RankStatus()
    status.cells[EPOCH], status.cells[AT] = 3, 0
    peers, said = Peers([0], [0], [StatusRow()], None, 0.0), do_nothing
    silence, events = Silence(60, 300, 0, peers.nodes, ["a"], said, said), list[dict[str, Any]]()
    first = DeathReports(["a", "b"], peers, silence, Failure(lambda: tmp_path), Launcher(0, "of another node"), events,
                         time.monotonic, rank_process.MemoryKills())  # fmt: skip
    rank = RankProcess(0, os.getpid(), status.handle, status.pipe, status.copy)
    first.note(rank, time.monotonic())
    assert failure.read_text() == "rankwise: rank 0 on a died (killed by SIGKILL) at epoch 3, step 1, phase: input\n"
    assert [event["rank"] for event in events] == [0]


@pytest.mark.parametrize(("fault", "cause"), [("raise", "ValueError: this is the cause"), ("leave", "SystemExit: 0")])
def test_a_rank_that_reports_its_own_failure_is_not_reported_again(tmp_path: Path, fault: str, cause: str) -> None:
    result = run_job(tmp_path, 3, "faulty.py", fault, 1, 2, 5)
    check(tmp_path, result, 1, cause, epoch=2, step=5, phase="compute")


def test_the_watchdogs_end_what_the_launcher_leaves(tmp_path: Path, mpi: str) -> None:
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
    left = os.listdir(tmp_path / "run")
    assert not [name for name in left if name.startswith(("failure", "progress"))]
    assert records(tmp_path / "run")[-1]["kind"] == "end"


def test_another_process_reads_where_a_rank_is(tmp_path: Path) -> None:
    progress = RankStatus()
    rank = RankProcess(0, os.getpid(), progress.handle, progress.pipe, progress.copy)
    memory = rank.memory
    assert (read_row(memory).phase, read_row(memory).where) == ("start", "in phase: start")
    progress.cells[EPOCH] = 3
    progress.enter("Auswertung \N{GREEK SMALL LETTER ALPHA}" + "x" * 100)
    assert (progress.step, progress.cells[AT]) == (0, OUTSIDE)
    assert read_row(memory).phase == progress.row.phase
    assert len(progress.row.phase) < 70
    progress.cells[AT] = 16 * N_PHASES + EXCHANGE
    assert (progress.step, progress.row.phase) == (17, "exchange")
    assert read_row(memory).where == "at epoch 3, step 17, phase: exchange"
    progress.cells[REPORTED] = 1
    row = read_row(memory)
    assert row.reported == 1
    assert StatusRow.unpack(row.pack()) == row
    assert StatusRow.unpack(b"") == StatusRow.unpack(bytes(4096)) == StatusRow()
    assert read_folder(memory) is None
    progress.set_folder(tmp_path)
    assert read_folder(memory) == tmp_path
    assert read_row(memory) == row


def test_computing_is_a_sign_of_life_while_data_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading gives no other one, and may take long; elsewhere ranks compute while they wait."""
    progress = RankStatus()
    rank = RankProcess(0, os.getpid(), progress.handle, progress.pipe, progress.copy)
    ticks = 100
    monkeypatch.setattr(rank_process, "cpu_ticks", lambda pid: ticks)

    def age(now: float) -> float:
        return rank.look(now, 1, aborting=False, stalled=False).age_ms / 1000

    for phase, expected in (("reading data", 0), ("preparing data", 0), ("evaluation", 50)):
        progress.enter(phase)
        assert age(1000) == 0
        ticks += 10
        assert age(1050) == expected
    progress.enter("reading data")
    assert age(2000) == 0
    assert age(2050) == 50


def test_a_process_that_computes_is_seen_to() -> None:
    before, until = rank_process.cpu_ticks(os.getpid()), time.process_time() + 0.1
    while time.process_time() < until:
        pass
    assert rank_process.cpu_ticks(os.getpid()) > before


def test_the_first_word_counts(tmp_path: Path) -> None:
    assert write_failure_once(tmp_path, "first")
    assert not write_failure_once(tmp_path, "second")
    assert (tmp_path / "failure.txt").read_text() == "first\n"
    assert write_failure_once(tmp_path / "nowhere", "told on the console at least")


def test_events_are_added_behind_the_last_whole_record(tmp_path: Path) -> None:
    log = write_run(tmp_path / "run", epochs=2, ranks=2, end="") / "coordinator.msgpack"
    before = records(log.parent)
    with log.open("ab") as file:
        file.write(encode({"kind": "event", "seq": len(before)})[:9])
    stall, death = {"what": "stall", "noticed": 1.0}, {"what": "death", "noticed": 2.0}
    assert append_events(log, [stall], 0.0)
    assert append_events(log, [stall, death], 0.0)
    added = records(log.parent)[len(before) :]
    assert [(e["seq"] - len(before), e["what"]) for e in added] == [(0, "stall"), (1, "death")]
    writer = RunLog(log, new=False)  # as rank 0 has it while it lives
    assert not append_events(log, [death], 0.0)
    writer.close()
    assert not append_events(tmp_path / "none", [death], 0.0)
    (tmp_path / "empty").touch()
    append_events(tmp_path / "empty", [death], 0.0)
    assert not (tmp_path / "empty").read_bytes()  # no header: no log yet
