"""What goes wrong ends the whole job, once, with a message, and harms nothing that was saved."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ps.sync.modes import exact
from tests.ranks import (
    MPIRUN,
    PROGRAMS,
    WAIT_S,
    Result,
    SharedStart,
    environment,
    epochs,
    finish,
    mpirun,
    popen,
    records,
    wait_for_epochs,
    wait_until,
)
from tests.watched import insist
from workers.checkpoint import checkpoint_file
from workers.launch.signals import ECHO_S, StopRequests

Job = Callable[..., Result]
SHORT = ("--epochs", "3", "--hidden", "8")
EVERY_RANK = -1
NOT_FINITE = [("nan-gradient", "W1"), ("inf-loss", "loss")]
STOPPED_RANKS = (0, 2)
STOPS = [getattr(signal, f"SIG{name}") for name in ("INT", "TERM", "USR1", "USR2", "XCPU", "URG", "HUP")]
FORWARDED = {
    "mpich": {"SIGINT": 75, "SIGTERM": 75, "SIGUSR1": 75},
    # its mpirun gives the ranks a quarter of a second after these three, then ends with a code of its own
    "openmpi": {"SIGINT": 1, "SIGTERM": 1, "SIGHUP": 1, "SIGUSR1": 75, "SIGUSR2": 75, "SIGXCPU": 75, "SIGURG": 75},
}
"""What each launcher hands on to the ranks, and the exit code then: the table in docs/recovery.md."""
OVERFLOWS = [(1e15, "at epoch 1, step 1"), (1e3, "after epoch 1 on")]
FILES = ["model.npz", "config.toml", "failure.txt", "contributions.txt"]


@pytest.fixture
def faulty(tmp_path: Path) -> Job:
    """Run a job with a fault at (rank, epoch, step)."""

    def start(n: int, fault: str, rank: int, epoch: int, step: int, *arguments: str) -> Result:
        place = [fault, str(rank), str(epoch), str(step)]
        output = ["--output", str(tmp_path / "run")]
        return mpirun(n, str(PROGRAMS / "faulty.py"), *place, *SHORT, *arguments, *output, cwd=tmp_path)

    return start


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> SharedStart:
    """Return jobs that end together, all ranks by themselves; those that end the launcher need one of their own."""
    folder = tmp_path_factory.mktemp("failures")
    return SharedStart(folder, {**_struck(), **_refused(folder)})


def _struck() -> dict[str, tuple[int, list[str]]]:
    jobs: dict[str, tuple[int, list[str]]] = {}
    for mode in exact():
        for fault, _ in NOT_FINITE:
            jobs[f"{fault}-{mode}"] = (3, [fault, "1", "2", "4", "--mode", mode])
        for rank in STOPPED_RANKS:
            jobs[f"term-{rank}-{mode}"] = (3, ["term", str(rank), "2", "7", "--mode", mode])
    for number in STOPS:
        jobs[number.name] = (3, [number.name, "1", "2", "7"])
    jobs["drift"] = (3, ["drift", "2", "2", "4"])
    jobs["other-data"] = (3, ["other-data", "1", "1", "1"])
    return {name: (n, [str(PROGRAMS / "faulty.py"), *place, *SHORT]) for name, (n, place) in jobs.items()}


def _refused(folder: Path) -> dict[str, tuple[int, list[str]]]:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((40, 20_000)).astype(np.float32)
    x[1, 18_000] = 1e21  # rank 1's; its loss is finite, its gradient not
    np.savez(folder / "bad.npz", X=x, y=rng.standard_normal(40))
    np.savez(folder / "few.npz", X=np.eye(3), y=np.arange(3.0))
    bad = ["--data", str(folder / "bad.npz"), "--loss", "mse", "--no-standardize", "--batch-size", "0", "--epochs", "2",
           "--test-fraction", "0", "--validation-fraction", "0", "--optimizer", "sgd", "--learning-rate", "10",
           "--hidden", "30"]  # fmt: skip
    jobs = {f"bad-row-{mode}": (2, [*bad, "--mode", mode]) for mode in exact()}
    jobs["rate"] = (2, [*SHORT, "--optimizer", "sgd", "--learning-rate", "1e30"])
    for size, _ in OVERFLOWS:
        data = str(folder / f"{size}.npz")
        rng = np.random.default_rng(0)
        np.savez(data, X=rng.standard_normal((60, 3)), y=size * rng.standard_normal(60))
        options = [
            "--data",
            data,
            "--model",
            "linear",
            "--no-standardize-target",
            "--optimizer",
            "sgd",
            "--learning-rate",
            "1e30",
        ]
        jobs[f"overflow-{size}"] = (3, [*options, "--epochs", "1", "--batch-size", "0"])
    for name in FILES:
        (folder / "2" / f"others-{name}").mkdir(parents=True)
        (folder / "2" / f"others-{name}" / name).write_text("mine")
        jobs[f"others-{name}"] = (2, [*SHORT])
    (folder / "file").write_text("in the way")
    for k, output in enumerate((folder / "file", folder / "file" / "below", "/proc/rankwise")):
        jobs[f"no-folder-{k}"] = (2, [*SHORT, "--output", str(output)])
    jobs["memory"] = (2, ["--hidden", "1000000", "1000000"])
    jobs["few-rows"] = (4, ["--data", str(folder / "few.npz"), "--test-fraction", "0", "--validation-fraction", "0"])
    jobs["first"] = (2, [*SHORT])
    jobs["again"] = (2, [*SHORT, "--output", str(folder / "2" / "first")])
    return {name: (n, ["-m", "workers.run", *options]) for name, (n, options) in jobs.items()}


@pytest.mark.parametrize("mode", exact())
@pytest.mark.parametrize("rank", [0, 2])
def test_an_exception_ends_the_job_with_one_message(faulty: Job, tmp_path: Path, rank: int, mode: str) -> None:
    result = faulty(3, "raise", rank, 2, 7, "--mode", mode)
    assert result.code != 0
    message = f"rankwise: rank {rank} on {os.uname().nodename}, epoch 2, step 7: ValueError: this is the cause"
    assert result.err.count("rankwise: rank") == 1
    assert message in result.err
    assert "Traceback" in result.err  # our own fault
    assert message in (tmp_path / "run" / "failure.txt").read_text()
    assert [e["epoch"] for e in epochs(tmp_path / "run")] == [1]
    shown = finish(popen([sys.executable, "-m", "ps.log", "show", str(tmp_path / "run")]))
    assert shown.code == 0
    assert message.removeprefix("rankwise: ") in shown.out
    assert "died" in shown.out


def test_the_same_exception_on_every_rank_is_told_once(faulty: Job) -> None:
    result = faulty(3, "raise", EVERY_RANK, 2, 1)
    assert result.code != 0
    assert result.err.count("ValueError: this is the cause") == 2  # the traceback's last line and our message


@pytest.mark.parametrize("fault", ["kill", "exit", "leave"])
def test_a_rank_that_vanishes_ends_the_job(faulty: Job, tmp_path: Path, fault: str) -> None:
    result = faulty(3, fault, 1, 2, 5)
    assert result.code != 0
    assert [e["epoch"] for e in epochs(tmp_path / "run")] == [1]


@pytest.mark.parametrize("mode", exact())
@pytest.mark.parametrize(("fault", "what"), NOT_FINITE)
def test_what_is_not_finite_stops_all_ranks_and_is_named(batch: SharedStart, fault: str, what: str, mode: str) -> None:
    result, run = batch[f"{fault}-{mode}"], batch.folder / "3" / f"{fault}-{mode}"
    assert result.code == 1
    assert result.err.count("rankwise:") == 1
    assert f"not finite at epoch 2, step 4: rank 1: {what};" in result.err
    assert "Traceback" not in result.err
    *_, event, end = records(run)
    assert (event["what"], end["status"]) == ("error", "failed")
    assert "rank 1" in event["message"]


@pytest.mark.parametrize("mode", exact())
def test_the_rank_with_the_bad_row_is_blamed_and_no_other(batch: SharedStart, mode: str) -> None:
    """Many blocks: those before the bad one may be updated already when it is found."""
    result = batch[f"bad-row-{mode}"]
    assert result.code == 1
    assert re.search(r"not finite at epoch 1, step 1: rank 1: [\w, ]+; all ranks stopped", result.err), result.err


def test_a_rate_that_is_too_high_is_explained(batch: SharedStart) -> None:
    result = batch["rate"]
    assert result.code == 1
    assert "lower --learning-rate" in result.err
    assert result.err.count("rankwise:") == 1
    assert "Warning" not in result.err  # NumPy's, one a rank


def test_replicas_that_drift_are_named(batch: SharedStart) -> None:
    result = batch["drift"]
    assert result.code == 1
    assert "parameters: not the same on all ranks at epoch 2; different on rank 2 on " in result.err
    assert records(batch.folder / "3" / "drift")[-1]["status"] == "failed"


def test_other_data_on_one_rank_is_refused(batch: SharedStart) -> None:
    result = batch["other-data"]
    assert result.code == 1
    assert "data digits: not the same on all ranks; different on rank 1 on" in result.err
    assert not (batch.folder / "3" / "other-data").exists()


def test_other_arguments_on_one_rank_are_refused(tmp_path: Path) -> None:
    start = [sys.executable, "-m", "workers.run", *SHORT]
    command = [MPIRUN, "-np", "2", *start, ":", "-np", "1", *start, "--seed", "1"]
    result = finish(popen(command, cwd=tmp_path))
    assert result.code == 1
    assert "command line or RANKWISE_ environment: not the same on all ranks; different on rank 2 on" in result.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", exact())
@pytest.mark.parametrize("rank", STOPPED_RANKS)
def test_sigterm_on_any_rank_stops_all_after_the_same_step(batch: SharedStart, rank: int, mode: str) -> None:
    result, run = batch[f"term-{rank}-{mode}"], batch.folder / "3" / f"term-{rank}-{mode}"
    assert result.code == 75, result.err
    assert "rankwise" not in result.err
    assert "Traceback" not in result.err
    *_, event, end = records(run)
    # the signal came after the flag of step 7 was read, or before: at most one step later
    assert (event["what"], event["epoch"], event["signals"]) == ("stop", 2, {str(rank): "SIGTERM"})
    assert event["step"] in (7, 8)
    assert (end["status"], end["stopped_step"]) == ("stopped", event["step"])
    assert (run / "model.npz").exists()
    assert (run / "sync_times.txt").read_text().count("\n") == 2


@pytest.mark.parametrize("number", STOPS)
def test_what_batch_systems_send_stops_all_ranks_with_a_checkpoint(batch: SharedStart, number: signal.Signals) -> None:
    result, run = batch[number.name], batch.folder / "3" / number.name
    assert result.code == 75, result.err
    *_, event, end = records(run)
    assert (event["what"], event["signals"], end["status"]) == ("stop", {"1": number.name}, "stopped")
    newest, faults = checkpoint_file.newest(run)
    assert newest is not None
    assert not faults


def stopped(run: Path) -> None:
    """Wait until a log says that its job has stopped: where ranks were killed meanwhile, their watchdog writes that."""
    wait_until(lambda: records(run)[-1]["kind"] == "end", "the log has no end")
    assert records(run)[-1]["status"] == "stopped"


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_to_the_launcher_does_what_the_documentation_says(
    tmp_path: Path, number: signal.Signals, mpi: str
) -> None:
    run = tmp_path / "run"
    command = [MPIRUN, "-np", "3", sys.executable, "-m", "workers.run", "--epochs", "100000", "--output", str(run)]
    process = popen(command, cwd=tmp_path)
    wait_for_epochs(process, run, 3)
    process.send_signal(number)
    if (mpi, number) == ("mpich", signal.SIGURG):  # nothing happens
        wait_for_epochs(process, run, len(epochs(run)) + 2)
        process.send_signal(signal.SIGUSR1)
    result = finish(process)
    if (expected := FORWARDED[mpi].get(number.name)) is None and number != signal.SIGURG:
        assert result.code == -number  # the launcher is dead, and MPICH's then kills all ranks at once
        assert records(run)[-1]["kind"] != "end"
    else:
        assert result.code == (expected or 75), result.err
        stopped(run)


def test_nohup_keeps_a_job_alive_when_its_terminal_is_gone(tmp_path: Path, mpi: str) -> None:
    """Ranks under MPICH's mpirun, which leaves SIGHUP ignored; Open MPI's takes it as its own end."""
    run = tmp_path / "run"
    command = ["nohup", MPIRUN, "-np", "2", sys.executable, "-m", "workers.run", "--epochs", "100000"]
    process = popen([*command, "--output", str(run)], cwd=tmp_path)
    wait_for_epochs(process, run, 2)
    os.killpg(process.pid, signal.SIGHUP)
    if mpi == "mpich":
        os.kill(records(run)[0]["pid"], signal.SIGHUP)
        wait_for_epochs(process, run, len(epochs(run)) + 3)
        process.send_signal(signal.SIGUSR1)
    assert finish(process).code == (75 if mpi == "mpich" else 1)
    stopped(run)


@pytest.mark.slow
def test_a_terminal_that_closes_stops_a_job_with_a_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "run"
    ours, its = os.openpty()
    command = [sys.executable, "-m", "workers.run", "--epochs", "100000", "--output", str(run)]
    become_foreground = (
        "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(*eval(sys.argv[1]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", become_foreground, repr((sys.executable, command))],
        stdin=its, stdout=its, stderr=its, env=environment(), cwd=tmp_path, start_new_session=True,
    )  # fmt: skip
    os.close(its)
    deadline = time.monotonic() + WAIT_S
    while not ((run / "coordinator.msgpack").exists() and len(epochs(run)) > 2):
        os.read(ours, 1 << 16)
        assert time.monotonic() < deadline
    os.close(ours)
    assert process.wait(WAIT_S) == 75
    *_, event, end = records(run)
    assert (event["signals"], end["status"]) == ({"0": "SIGHUP"}, "stopped")
    assert checkpoint_file.newest(run)[0] is not None


def test_only_the_same_signal_again_insists() -> None:
    asked = StopRequests()
    assert not asked.insist(signal.SIGUSR1, 0.0)
    assert not asked.insist(signal.SIGUSR1, ECHO_S)  # the launcher's copy
    assert not asked.insist(signal.SIGTERM, 120.0)  # the batch system, at the time limit
    assert asked.insist(signal.SIGTERM, 122.0)
    assert [asked.insist(signal.SIGXCPU, 130.0 + second) for second in range(5)] == [False] * 5  # the kernel


def test_ctrl_c_in_a_terminal_reaches_launcher_and_ranks(tmp_path: Path, mpi: str) -> None:
    """A terminal sends SIGINT to the whole foreground group; the launcher's copy of it is not a second wish."""
    run = tmp_path / "run"
    command = [MPIRUN, "-np", "2", sys.executable, "-m", "workers.run", "--epochs", "100000", "--output", str(run)]
    process = popen(command, cwd=tmp_path)
    wait_for_epochs(process, run, 2)
    os.killpg(process.pid, signal.SIGINT)
    assert finish(process).code == (75 if mpi == "mpich" else 1)
    stopped(run)


def test_a_second_signal_ends_a_rank_that_waits_in_mpi(tmp_path: Path) -> None:
    run = tmp_path / "run"
    fault = [str(PROGRAMS / "faulty.py"), "hang", "1", "2", "4", *SHORT, "--output", str(run)]
    process = popen([MPIRUN, "-np", "2", sys.executable, *fault], cwd=tmp_path)
    wait_until((tmp_path / "reached").exists, "rank 1 does not hang", process)  # rank 0 waits for it
    coordinator = records(run)[0]["pid"]
    assert insist(process, lambda: os.kill(coordinator, signal.SIGTERM)).code not in (0, 75)


def test_a_signal_to_a_rank_that_waits_in_mpi_stops_the_job(tmp_path: Path) -> None:
    run = tmp_path / "run"
    fault = [str(PROGRAMS / "faulty.py"), "nap", "1", "2", "4", *SHORT, "--output", str(run)]
    process = popen([MPIRUN, "-np", "2", sys.executable, *fault], cwd=tmp_path)
    wait_until((tmp_path / "reached").exists, "rank 1 does not nap", process)  # rank 0 waits for it, or soon will
    os.kill(records(run)[0]["pid"], signal.SIGTERM)
    (tmp_path / "awake").touch()
    result = finish(process)
    assert result.code == 75, result.err
    *_, event, end = records(run)
    assert (event["epoch"], event["signals"]) == (2, {"0": "SIGTERM"})
    assert event["step"] in (4, 5)  # 4 if it had not yet said what it asks all for
    assert end["status"] == "stopped"


def test_a_second_signal_to_the_launcher_ends_a_job_that_cannot_stop(tmp_path: Path) -> None:
    run = tmp_path / "run"
    fault = [str(PROGRAMS / "faulty.py"), "hang", "1", "2", "4", *SHORT, "--output", str(run)]
    process = popen([MPIRUN, "-np", "2", sys.executable, *fault], cwd=tmp_path)
    wait_until((tmp_path / "reached").exists, "rank 1 does not hang", process)
    assert insist(process, lambda: process.send_signal(signal.SIGUSR1)).code not in (0, 75)


def test_after_sigkill_all_whole_records_are_read(tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "workers.run", "--epochs", "100000", "--output", str(run)]
    process = popen(command, cwd=tmp_path)
    wait_for_epochs(process, run, 5)
    process.kill()
    finish(process)
    found = epochs(run)
    assert [e["epoch"] for e in found] == list(range(1, len(found) + 1))
    shown = finish(popen([sys.executable, "-m", "ps.log", "show", str(run)]))
    assert shown.code == 0
    assert f"The job died: rankwise: rank 0 on {os.uname().nodename} died" in shown.out


def test_training_goes_on_when_the_disk_fills_up(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: writes over it come back short, then fail."""
    run = tmp_path / "run"
    limit = 20_000

    program = (  # the limit comes after MPI has made its own files
        "import resource, sys; from workers import run; from workers.launch.mpi import start_mpi; start_mpi()\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "sys.exit(run.main())"
    )
    result = finish(popen([MPIRUN, "-np", "2", sys.executable, "-c", program, "--output", str(run)]))
    assert result.code == 1
    assert "Epoch 30/30" in result.out
    assert result.err.count("rankwise:") - result.err.count("warning:") == 1
    assert result.err.count("cannot be written") == 1
    assert "records missing (File too large)" in result.err
    assert "Traceback" not in result.err
    found = epochs(run)
    assert 3 < len(found) < 30
    assert (run / "coordinator.msgpack").stat().st_size <= limit


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_real_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=36k", "tmpfs", str(disk)], check=True)
    try:
        result = mpirun(2, "-m", "workers.run", "--output", str(disk / "run"))
        assert result.code == 1
        assert "No space left on device" in result.err
        assert "Traceback" not in result.err
        assert len(epochs(disk / "run")) > 3
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_training_goes_on_when_the_run_folder_is_removed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ("--epochs", "100000", "--hidden", "8", "--checkpoint-every", "1", "--output", str(run))
    process = popen([MPIRUN, "-np", "2", sys.executable, "-m", "workers.run", *options], cwd=tmp_path)
    wait_for_epochs(process, run, 3)
    run.rename(tmp_path / "away")  # in one go, as no job may write between two removals
    before = len(epochs(tmp_path / "away"))
    wait_for_epochs(process, run, before + 2)
    process.send_signal(signal.SIGUSR1)
    result = finish(process)
    assert result.code == 75, result.err
    assert "Traceback" not in result.err
    found = [e["epoch"] for e in epochs(run)]
    assert found == list(range(1, len(found) + 1))
    assert records(run)[-1]["status"] == "stopped"
    newest, faults = checkpoint_file.newest(run)
    assert newest is not None
    assert not faults


def test_training_goes_on_when_nobody_reads_its_lines(tmp_path: Path) -> None:
    run = tmp_path / "run"
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "workers.run", *SHORT, "--output", str(run)]
    code = subprocess.run(command, stdout=writer, env=environment(), timeout=WAIT_S, check=False).returncode
    os.close(writer)
    assert code == 0
    assert records(run)[-1]["status"] == "ok"


def test_a_model_beyond_the_memory_is_refused(batch: SharedStart) -> None:
    result = batch["memory"]
    assert result.code == 1
    assert result.err.count("rankwise:") == 1
    assert " of memory in a process" in result.err


@pytest.mark.parametrize("name", FILES)
def test_files_of_others_are_not_replaced(batch: SharedStart, name: str) -> None:
    result = batch[f"others-{name}"]
    assert result.code == 1
    assert f"holds {name}, which the run would replace" in result.err
    assert (batch.folder / "2" / f"others-{name}" / name).read_text() == "mine"


@pytest.mark.parametrize(("size", "what"), OVERFLOWS)
def test_an_overflow_in_the_last_step_is_no_result(batch: SharedStart, size: float, what: str) -> None:
    result, run = batch[f"overflow-{size}"], batch.folder / "3" / f"overflow-{size}"
    assert result.code == 1
    assert result.err.count("rankwise:") == 1
    assert f"not finite {what}" in result.err
    assert not (run / "model.npz").exists()
    assert records(run)[-1]["status"] == "failed"


@pytest.mark.parametrize("k", range(3))
def test_a_folder_that_cannot_be_written(batch: SharedStart, k: int) -> None:
    result, looks = batch[f"no-folder-{k}"], k == 1  # at the path alone, which is enough there
    assert result.code == (2 if looks else 1)
    assert result.err.count("rankwise:") == 1
    assert ("which lies in a file, not in a folder" if looks else "output: cannot write to") in result.err


def test_a_run_is_never_overwritten(batch: SharedStart) -> None:
    run = batch.run("first")
    result = batch["again"]
    assert result.code == 1
    assert "holds a run already; choose another --output" in result.err
    over = (batch.folder / "2" / "first.code").stat().st_mtime_ns
    files = [run / name for name in ("coordinator.msgpack", "config.toml", "model.npz", "sync_times.txt")]
    assert all(file.stat().st_mtime_ns <= over for file in files)


def test_more_ranks_than_rows(batch: SharedStart) -> None:
    result = batch["few-rows"]
    assert result.code == 2
    assert "4 ranks for 3 training rows; start fewer ranks" in result.err
    assert result.err.count("rankwise:") == 1


def test_bad_data_is_told_once_for_all_ranks(job: Job, tmp_path: Path) -> None:
    result = job(3, "--data", "none.npz")
    assert result.code == 2
    assert result.err.count("rankwise:") == 1
    assert "no file" in result.err
    assert not (tmp_path / "run").exists()


def test_debug_adds_a_traceback(job: Job) -> None:
    result = job(2, "--data", "none.npz", "--debug")
    assert "Traceback" in result.err
    assert result.err.count("rankwise: data: no file") == 1


def test_no_mpi_library_is_one_message(tmp_path: Path) -> None:
    env = environment(MPI4PY_LIBMPI=str(tmp_path / "libmpi.so"))
    result = mpirun(2, "-m", "workers.run", *SHORT, env=env, cwd=tmp_path)
    assert result.code == 2
    assert result.err.count("rankwise: no MPI library found: MPI4PY_LIBMPI names ") == 1
    start = shlex.quote(f"{sys.prefix}/lib/libmpi.so.").rstrip("'")
    assert f"enter this line: export MPI4PY_LIBMPI={start}" in result.err
    assert "Traceback" not in result.err


@pytest.mark.slow
def test_ranks_with_different_thread_levels_are_told(tmp_path: Path) -> None:
    """Before they meet in a collective of MPICH's, which would hang."""
    command = [sys.executable, "-m", "workers.run", *SHORT]
    other = ["env", "MPI4PY_RC_THREAD_LEVEL=funneled", *command]
    result = finish(popen([MPIRUN, "-np", "2", *command, ":", "-np", "1", *other], cwd=tmp_path))
    assert result.code == 2, result.err
    assert result.err.count("rankwise:") == 1, result.err
    assert "different thread levels: rank 2 funneled, rank 0 multiple; set MPI4PY_RC_THREAD_LEVEL" in result.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"PMI_SIZE": "4", "PMI_RANK": "0"}, "the launcher started 4 processes, but to the MPI library"),
        ({"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "0"}, "start with srun --mpi=pmi2"),
        # of srun --mpi=pmix, with which some MPICH starts as if it were alone
        ({"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "0", "PMIX_NAMESPACE": "x"}, "start with srun --mpi=pmi2"),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}, "started by Open MPI's mpirun"),
    ],
)
def test_a_foreign_launcher_is_named_once(tmp_path: Path, variables: dict[str, str], message: str, mpi: str) -> None:
    """What another library's launcher leaves in the environment, and each rank finds itself alone."""
    if mpi == "openmpi" and {"PMI_SIZE", "PMIX_NAMESPACE"} & variables.keys():
        pytest.skip("Open MPI's own start-up refuses here")
    if mpi == "openmpi":
        message = message.replace("pmi2", "pmix")
    if mpi == "openmpi" and "OMPI_COMM_WORLD_SIZE" in variables:
        message = "each is rank 0 of 1"
    starts = []
    for rank in "10":
        own = {k: (rank if k.endswith(("RANK", "PROCID")) else v) for k, v in variables.items()}
        told = " ".join(f"{name}={value}" for name, value in own.items())
        starts.append(f"{told} {shlex.join([sys.executable, '-m', 'workers.run', *SHORT])}")
    result = finish(popen(["sh", "-c", f"{starts[0]} & {starts[1]}; code=$?; wait; exit $code"], cwd=tmp_path))
    assert result.code == 2, result.err
    assert result.err.count("rankwise:") == 1, result.err
    assert message in result.err
