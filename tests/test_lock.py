"""A log that another process writes to: which process that is, and what to do, in one message."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.host import boot_id, host, process_start
from common.run_files import LOG_NAME
from ps.logfile import lock
from ps.logfile.records import Record
from ps.logfile.writer import RunLog
from tests.ranks import MPIRUN, environment, finish, mpirun, popen, wait_for_epochs
from tests.synthetic import header

HOLD = (
    "import sys, os, time; from pathlib import Path; from ps.logfile.writer import RunLog\n"
    "log = RunLog(Path(sys.argv[1]), new=False)\n"
    "if sys.argv[2] == 'fork' and os.fork(): os._exit(0)\n"
    "if sys.argv[2] == 'event':\n"
    "    from tests.test_lock import of_process\n"
    "    log.append('event', what='resume', epoch=1, step=0, ranks=2, ranks_before=2, **of_process(os.getpid()))\n"
    "print(os.getpid(), flush=True)\n"
    "time.sleep(1000)\n"
)


def write_log(folder: Path, **of_process: object) -> Path:
    log = RunLog(folder / LOG_NAME)
    log.append("header", **{**header(2), **of_process})
    log.close()
    return folder / LOG_NAME


def of_process(pid: int, where: str = "") -> Record:
    nodes = [{"host": where or host(), "ranks": [0, 1]}]
    return {"pid": pid, "pid_start": process_start(pid), "boot_id": boot_id(), "nodes": nodes}


def hold(path: Path, held: list["subprocess.Popen[str]"], how: str = "stay") -> int:
    """Start a process that holds the log; return the id of the one that does."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), how], stdout=subprocess.PIPE, text=True, env=environment()
    )
    held.append(process)
    assert process.stdout
    holder = int(process.stdout.readline())
    if holder != process.pid:
        process.wait()  # until then it has the log open too
    return holder


def test_the_process_its_age_and_its_command_are_named(tmp_path: Path, held: list["subprocess.Popen[str]"]) -> None:
    path = write_log(tmp_path, nodes=[{"host": host(), "ranks": [0, 1]}])
    pid = hold(path, held, "event")
    said = str(lock.in_use(path))
    assert said.startswith(f"{path}: another job writes to it: process {pid} on {host()}, for ")
    assert f"({sys.executable} -c import sys" in said
    assert f"end it: kill {pid}" in said
    assert f"cp -r {tmp_path} COPY" in said


def test_a_suspended_job_must_be_continued_first(tmp_path: Path, held: list["subprocess.Popen[str]"]) -> None:
    """Until then it reacts to no kill but the last, and waiting for it leads nowhere."""
    path = write_log(tmp_path, nodes=[{"host": host(), "ranks": [0, 1]}])
    pid = hold(path, held, "event")
    assert "state T" not in str(lock.in_use(path))
    os.kill(pid, signal.SIGSTOP)
    os.waitpid(pid, os.WUNTRACED)
    said = str(lock.in_use(path))
    assert "it is suspended (state T); continue it (kill -CONT" in said
    assert f"and then wait for it, or end it: kill {pid}" in said


def test_what_a_dead_job_left_behind_is_named(tmp_path: Path, held: list["subprocess.Popen[str]"]) -> None:
    """A process that a rank has forked holds what the rank held."""
    command = [sys.executable, "-c", "import os; print(os.getpid())"]
    gone = subprocess.run(command, capture_output=True, text=True, check=True)
    path = write_log(tmp_path, **{**of_process(int(gone.stdout)), "pid_start": 1})
    child = hold(path, held, "fork")
    try:
        said = str(lock.in_use(path))
        assert f"its job is gone (process {int(gone.stdout)}), but process {child} on {host()}" in said
        assert f"end that: kill {child}, or kill -9 {child}" in said
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_job_on_another_host_is_named_from_the_log(tmp_path: Path) -> None:
    path = write_log(tmp_path, **of_process(4711, "n07"))
    said = str(lock.in_use(path))
    assert "another job writes to it: process 4711 on n07, for " in said
    assert "kill 4711" in said
    assert "if that process is gone (see ps -p 4711), the file server has yet to notice" in said


def test_without_any_trace_the_message_says_how_to_look(tmp_path: Path) -> None:
    (tmp_path / LOG_NAME).touch()
    assert f"fuser -v {tmp_path / LOG_NAME}" in str(lock.in_use(tmp_path / LOG_NAME))


@pytest.mark.slow
def test_a_lock_that_goes_in_time_is_waited_for(tmp_path: Path, held: list["subprocess.Popen[str]"]) -> None:
    path = write_log(tmp_path)
    hold(path, held)
    os.kill(held[0].pid, signal.SIGKILL)
    lock.refuse_locked(path)
    hold(path, held)
    start = time.monotonic()
    with pytest.raises(lock.LogInUseError, match="another job writes to it: process"):
        lock.refuse_locked(path)
    assert time.monotonic() - start >= lock.GRACE_S


@pytest.mark.slow
def test_a_run_that_is_still_trained_cannot_be_resumed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ("--epochs", "100000", "--hidden", "8", "--output", str(run))
    process = popen([MPIRUN, "-np", "1", sys.executable, "-m", "workers.run", *options])
    wait_for_epochs(process, run, 1)
    result = mpirun(2, "-m", "workers.run", "--resume", str(run))
    assert result.code == 1
    assert result.err.count("rankwise:") == 1
    assert f"{run / LOG_NAME}: another job writes to it: process " in result.err
    assert "workers.run --epochs 100000" in result.err
    pid = int(result.err.split("another job writes to it: process ")[1].split()[0])
    os.kill(pid, signal.SIGTERM)  # as the message says
    assert finish(process).code == 75
    assert list(run.glob("checkpoint-*.npz"))
