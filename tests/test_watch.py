"""``python -m ps.log watch``: a running job in a terminal and in a pipe, on file systems that are slow to tell."""

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.errors import LogError, RankwiseError
from common.host import host
from common.run_files import LOG_NAME
from ps.logfile.follower import Follower
from ps.logfile.reader import LogReader
from ps.logfile.writer import RunLog
from ps.reader.commands.watch import watch
from ps.reader.commands.watch_screen import sparkline
from tests.ranks import MPIRUN, finish, popen
from tests.synthetic import epoch, header, write_run
from tests.terminal import Terminal, until

VERDICT = {"code": "straggler", "severity": "warning", "ranks": [1], "text": "rank 1 is slow", "remedy": "look at it",
           "evidence": {}}  # fmt: skip
WATCH = [sys.executable, "-m", "ps.log", "watch"]


@pytest.fixture
def living(tmp_path: Path) -> Iterator[tuple[RunLog, "subprocess.Popen[str]"]]:
    """Return the log of a run of 2 ranks and 4 epochs to be written on, and the process that stands for its rank 0."""
    process = popen(["sleep", "100"])
    (tmp_path / "run").mkdir()
    log = RunLog(tmp_path / "run" / LOG_NAME)
    head = header(2) | {"pid": process.pid, "nodes": [{"host": host(), "ranks": [0, 1]}]}
    log.append("header", **head | {"config": {**head["config"], "epochs": 4}})
    yield log, process
    log.close()
    process.kill()
    process.communicate()


def add_epoch(log: RunLog, number: int) -> None:
    import random

    log.append("epoch", **epoch(header(2), number, random.Random(number), {1: 3.0}))


def end(log: RunLog, status: str = "ok") -> None:
    numbers = dict.fromkeys(("best_epoch", "loss", "validation_loss", "validation_metric"))
    log.append("end", status=status, wall_s=1.0, epochs=4, metric="accuracy", **numbers)


@pytest.mark.slow
def test_a_job_is_followed_to_its_end(tmp_path: Path) -> None:
    job = popen([MPIRUN, "-np", "2", sys.executable, "-m", "workers.run", "--epochs", "60"], cwd=tmp_path)
    file = tmp_path / "runs" / "latest" / LOG_NAME
    until(lambda: file.exists() and file.stat().st_size)  # it is there before its first record
    running = finish(popen([sys.executable, "-m", "ps.log", "show"], cwd=tmp_path))
    result = finish(popen([sys.executable, "-m", "ps.log", "watch"], cwd=tmp_path))
    assert finish(job).code == 0
    assert "latest: running" in running.out or "latest: done" in running.out
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert [line.split(":")[0] for line in lines if line.startswith("Epoch")] == [f"Epoch {e}/60" for e in range(1, 61)]
    assert lines[-1].startswith("End: done")


@pytest.mark.slow
def test_a_job_that_is_killed_ends_the_watching(tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "workers.run", "--epochs", "100000", "--output", str(run)]
    job = popen(command, cwd=tmp_path)
    until((run / LOG_NAME).exists)
    watcher = popen([sys.executable, "-m", "ps.log", "watch", str(run)])
    assert watcher.stdout
    assert watcher.stdout.readline()  # it has begun
    job.kill()
    finish(job)
    result = finish(watcher)
    assert result.code == 1
    assert "The job died" in result.out


def test_a_terminal_shows_progress_ranks_loss_and_findings(living: Any, tmp_path: Path) -> None:
    log, _ = living
    add_epoch(log, 1)
    terminal = Terminal([*WATCH, str(tmp_path / "run")])
    until(lambda: "epoch 1/4" in terminal.text)
    assert "running" in terminal.text
    assert "left" in terminal.text
    for number in (2, 3, 4):
        add_epoch(log, number)
    log.append("verdict", **VERDICT)
    until(lambda: "epoch 4/4" in terminal.text)
    end(log)
    assert terminal.finish() == 0
    text = terminal.text
    assert "Verdict (warning): rank 1 is slow. Remedy: look at it." in text
    assert "█▆▃▁" in text or "█▅▃▁" in text  # the loss falls
    assert "█" * 20 in text  # the slow rank computes
    assert "░" * 10 in text  # the other one waits
    assert "End: done after 4 epochs" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is back


def test_a_terminal_without_utf_8_gets_ascii(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", ranks=100)
    terminal = Terminal([*WATCH, str(run)], PYTHONIOENCODING="ascii:backslashreplace")
    assert terminal.finish() == 0
    assert "###" in terminal.text
    assert "of 100 ranks that stand out" in terminal.text
    assert "\\u" not in terminal.text
    assert terminal.data.isascii()


def test_a_death_in_a_terminal_is_told(living: Any, tmp_path: Path) -> None:
    log, process = living
    add_epoch(log, 1)
    terminal = Terminal([*WATCH, str(tmp_path / "run")])
    until(lambda: "epoch 1/4" in terminal.text)
    (tmp_path / "run" / "failure.txt").write_text("first line\nrank 1: bus error\n")
    process.kill()
    assert terminal.finish() == 1
    assert "The job died: rank 1: bus error" in terminal.text


@pytest.mark.parametrize("where", ["terminal", "pipe"])
def test_control_c_ends_quietly(living: Any, tmp_path: Path, where: str) -> None:
    log, _ = living
    add_epoch(log, 1)
    if where == "terminal":
        terminal = Terminal([*WATCH, str(tmp_path / "run")])
        until(lambda: "epoch 1/4" in terminal.text)
        os.killpg(terminal.process.pid, signal.SIGINT)
        assert terminal.finish() == 0
        assert "Traceback" not in terminal.text
        return
    watcher = popen([sys.executable, "-m", "ps.log", "watch", str(tmp_path / "run")])
    assert watcher.stdout
    while not watcher.stdout.readline().startswith("Epoch 1/4"):
        pass
    watcher.send_signal(signal.SIGINT)
    result = finish(watcher)
    assert (result.code, result.out, result.err) == (0, "", "")


def test_a_folder_may_wait_for_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    run = tmp_path / "run"
    with pytest.raises(RankwiseError, match="no log at"):
        watch(run)
    run.mkdir()
    monkeypatch.setattr("ps.reader.commands.watch.POLL_S", 0.01)
    late = threading.Timer(0.3, lambda: write_run(run))
    late.start()
    assert watch(run) == 0
    late.join()
    out = capsys.readouterr().out
    assert out.count("Waiting for ") == 1
    assert "Epoch 3/30" in out
    (tmp_path / "never").mkdir()
    monkeypatch.setattr("ps.reader.commands.watch.WAIT_S", 0.05)
    with pytest.raises(RankwiseError, match="did its job start"):
        watch(tmp_path / "never")


def kinds(follower: Follower) -> list[str]:
    return [record["kind"] for record in follower.look()]


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    return (write_run(tmp_path / "whole", epochs=2) / LOG_NAME).read_bytes()


REST = ["epoch", "steps", "end"]


def test_what_comes_late_over_a_network_is_waited_for(tmp_path: Path, whole: bytes) -> None:
    """A file that is gone, cut short, unfinished or full of zeros for a moment is read on once it is itself again."""
    path = tmp_path / LOG_NAME
    reader = LogReader(tmp_path / "whole" / LOG_NAME)
    half = [reader.start for _ in reader.records()][3] + 100
    path.write_bytes(whole[:half])
    follower = Follower(path)
    assert kinds(follower) == ["header", "epoch", "steps"]
    path.rename(tmp_path / "away")
    assert kinds(follower) == []
    for state in (b"", whole[:100], whole[: half - 50] + bytes(50), whole[:half] + bytes(len(whole) - half)):
        path.write_bytes(state)
        assert kinds(follower) == []
    path.write_bytes(whole)
    assert kinds(follower) == REST
    assert follower.restarts == 0


def test_a_stale_handle_is_no_end(tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / LOG_NAME
    path.write_bytes(whole)
    follower = Follower(path)

    def stale(*arguments: object) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    with monkeypatch.context() as patch:
        patch.setattr("ps.logfile.follower.open_regular", stale)
        assert kinds(follower) == []
    assert kinds(follower) == ["header", "epoch", "steps", *REST]


def test_damage_that_stays_and_files_that_stay_away_are_told(
    tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / LOG_NAME
    path.write_bytes(whole)
    monkeypatch.setattr("ps.logfile.follower.DOUBT_S", -1.0)
    shrunk, damaged, gone = (Follower(path) for _ in range(3))
    assert kinds(shrunk) == kinds(gone) == ["header", "epoch", "steps", *REST]
    path.write_bytes(whole[:-5])
    with pytest.raises(LogError, match="the file ends here"):
        kinds(shrunk)
    path.write_bytes(whole[:-200] + bytes(200))
    with pytest.raises(LogError, match="damaged"):
        kinds(damaged)
    path.unlink()
    assert kinds(gone) == []
    monkeypatch.setattr("ps.logfile.follower.GONE_S", -1.0)
    with pytest.raises(LogError, match="No such file"):
        kinds(gone)


def test_another_run_in_its_place_is_begun_anew(tmp_path: Path, capsys: Any) -> None:
    run = write_run(tmp_path / "run", epochs=2, end="")
    other = (write_run(tmp_path / "other", epochs=5) / LOG_NAME).read_bytes()
    follower = Follower(run / LOG_NAME)
    assert len(kinds(follower)) == 5
    (run / LOG_NAME).write_bytes(other)
    assert kinds(follower) == ["header", *["epoch", "steps"] * 5, "end"]
    assert follower.restarts == 1


def test_watching_goes_over_to_the_run_in_its_place(living: Any, tmp_path: Path) -> None:
    log, _ = living
    add_epoch(log, 1)
    other = (write_run(tmp_path / "other", epochs=2) / LOG_NAME).read_bytes()
    watcher = popen([sys.executable, "-m", "ps.log", "watch", str(tmp_path / "run")])
    assert watcher.stdout
    while not watcher.stdout.readline().startswith("Epoch 1/4"):
        pass
    log.path.write_bytes(other)
    result = finish(watcher)
    assert result.code == 0
    assert "another run has taken the place" in result.out
    assert "Epoch 2/30" in result.out


def test_the_latest_run_is_watched_to_its_end_though_another_becomes_the_latest(tmp_path: Path, capsys: Any) -> None:
    write_run(tmp_path / "one", epochs=1)
    (tmp_path / "latest").symlink_to("one")
    assert watch(tmp_path / "latest") == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'one'}: mode allreduce")


def test_sparkline() -> None:
    assert sparkline([3.0, 2.0, 1.0], "abc") == "cba"
    assert sparkline([1.0, 1.0], "abc") == "aa"
    assert sparkline([], "abc") == ""
    assert sparkline([-1e308, 1e308], "abc") == "aa"
