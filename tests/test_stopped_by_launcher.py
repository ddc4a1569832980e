"""Ranks that are killed while their job stops, or while a checkpoint is written: the watchdog writes it."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from common.config import RunConfig
from common.files import do_nothing
from common.flat import Flat
from common.nn.optimizers import Sgd
from common.rank_status import AT, N_PHASES, SAVED, TO_SAVE, RankStatus, holds_copy, read_stop
from ps.logfile.records import Record
from ps.logfile.writer import RunLog
from ps.metrics.epoch_sums import DoneBefore
from ps.sync.training_state import WHILE_BLOCK, TrainingState
from tests.ranks import MPIRUN, PROGRAMS, environment, epochs, finish, kill_all, mpirun, popen, records, wait_until
from tests.synthetic import write_run
from tests.watched import processes
from workers.checkpoint import checkpoint_file
from workers.checkpoint.checkpoint_file import Snapshot
from workers.checkpoint.checkpointing import Checkpointing, StepsDone
from workers.checkpoint.held_copy import HeldCopy, read_held
from workers.checkpoint.job_state import JobState
from workers.training.epoch_totals import StepCount
from workers.watchdog.log_events import append_events

SMALL = ("--hidden", "8", "--epochs", "4")


def end(run: Path) -> Record:
    return next(record for record in reversed(records(run)) if record["kind"] == "end")


def whats(run: Path) -> list[str]:
    return [record["what"] for record in records(run) if record["kind"] == "event"]


def held(handle: int, step: int = 7) -> tuple[HeldCopy, Snapshot]:
    """Return a copy that is held in a file in memory, and what it is of."""
    copy = HeldCopy(handle)
    vector = copy.allocate(1000, np.dtype(np.float64))
    vector[:] = np.arange(1000)
    arrays = {"parameters/W": vector[:900].reshape(30, 30), "parameters/b": vector[900:], "data/x_mean": np.ones(3)}
    snapshot = Snapshot(step, arrays, {"position": {"epoch": 2}})
    copy.hold(snapshot, keep=2, n_records=0)
    return copy, snapshot


def test_what_is_held_can_be_read_by_another_process() -> None:
    handle = RankStatus().copy
    assert (holds_copy(handle), read_stop(handle), read_held(handle)) == (False, 0, (None, {}))
    copy, snapshot = held(handle)
    found, said = read_held(handle)
    assert found is not None
    assert (found.step, found.about, said) == (7, snapshot.about, {"keep": 2, "n_records": 0})
    assert found.arrays.keys() == snapshot.arrays.keys()
    for name, array in snapshot.arrays.items():
        assert found.arrays[name].dtype == array.dtype
        assert np.array_equal(found.arrays[name], array)
    assert (holds_copy(handle), read_stop(handle)) == (True, 0)
    copy.add(stop={"event": {}, "end": {}})
    assert read_stop(handle) == TO_SAVE
    copy.written("checkpoint-7.npz")
    assert read_held(handle) == (
        None, {"file": "checkpoint-7.npz", "n_records": 0, "stop": {"event": {}, "end": {}}}
    )  # fmt: skip
    copy.saved()
    assert read_stop(handle) == SAVED


def test_a_copy_that_is_written_or_given_up_leaves_nothing() -> None:
    handle = RankStatus().copy
    for finish_it in (lambda copy: copy.written("checkpoint-7.npz"), HeldCopy.clear, HeldCopy.saved):
        copy, _ = held(handle)
        finish_it(copy)
        assert not holds_copy(handle)
        assert os.fstat(handle).st_size <= 4096, "the memory of the vectors is given back"


def test_a_later_copy_is_not_taken_for_an_earlier_one() -> None:
    """Though nobody else has kept the memory of the earlier one, whose address the system may give again."""
    handle = RankStatus().copy
    copy = HeldCopy(handle)
    for step in range(1, 4):
        vector = copy.allocate(1 << 18, np.dtype(np.float64))
        vector[:] = step
        copy.hold(Snapshot(step, {"parameters/W": vector}, {}), keep=1)
        del vector
        found, _ = read_held(handle)
        assert found is not None
        assert found.arrays["parameters/W"].max() == found.arrays["parameters/W"].min() == found.step == step


def test_vectors_that_do_not_fit_into_the_file_are_not_held() -> None:
    copy = HeldCopy(-1)
    vector = copy.allocate(1 << 20, np.dtype(np.float64))
    copy.hold(Snapshot(1, {"parameters/W": vector}, {}), keep=1)
    copy.add(stop={})
    copy.clear()
    assert len(vector) == 1 << 20


def test_the_log_gets_what_rank_0_would_have_written(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", epochs=2, ranks=2, end="")
    before, status = records(run), RankStatus()
    copy, snapshot = held(status.copy)
    stop = {"event": {"epoch": 2, "step": 3, "signals": {"0": "SIGTERM"}}, "end": {**END, "stopped_epoch": 2}}
    copy.add(stop=stop, n_records=len(before))
    told = {"what": "saved-by-watchdog", "message": "why", "noticed": 1.0}
    assert append_events(run / "coordinator.msgpack", [told], 0.0, status.copy)
    added = records(run)[len(before) :]
    assert [record.get("what", record["kind"]) for record in added] == [
        "checkpoint",
        "stop",
        "saved-by-watchdog",
        "end",
    ]
    assert added[0]["file"] == "checkpoint-7.npz"
    found, faults = checkpoint_file.newest(run)
    assert found is not None
    assert not faults
    assert np.array_equal(found.arrays["parameters/W"], snapshot.arrays["parameters/W"])
    # again, as by a watchdog that has not seen it: all is there
    copy.written("checkpoint-7.npz")
    assert append_events(run / "coordinator.msgpack", [told], 0.0, status.copy)
    assert len(records(run)) == len(before) + 4


END = {"status": "stopped", "wall_s": 1.0, "epochs": 1, "best_epoch": None, "loss": None, "validation_loss": None,
       "validation_metric": None, "metric": "accuracy"}  # fmt: skip


def test_what_another_job_has_taken_over_is_left_to_it(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", epochs=2, ranks=2, end="")
    status = RankStatus()
    copy, _ = held(status.copy)
    copy.add(n_records=len(records(run)))
    log = RunLog(run / "coordinator.msgpack", new=False)
    log.append("event", what="resume", epoch=2, step=1, ranks_before=2, ranks=2)
    log.close()
    before = records(run)
    assert append_events(run / "coordinator.msgpack", [], 0.0, status.copy)
    assert records(run) == before
    assert not list(run.glob("checkpoint-*"))


def test_a_disk_that_is_full_then_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "run", epochs=2, ranks=2, end="")
    status = RankStatus()
    copy, _ = held(status.copy)
    copy.add(stop={"event": {"epoch": 1, "step": 1, "signals": {}}, "end": END}, n_records=len(records(run)))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_file, "save", full)
    assert append_events(run / "coordinator.msgpack", [], 0.0, status.copy)
    assert (records(run)[-1]["what"], records(run)[-1]["reason"]) == ("checkpoint-failed", "No space left on device")


def resumes_to_the_same(folder: Path, run: Path, *options: str) -> None:
    """Resume a run, and compare it with one that nobody disturbed."""
    resumed = mpirun(2, "-m", "workers.run", "--resume", str(run), *options, cwd=folder)
    assert resumed.code == 0, resumed.err
    whole = mpirun(2, "-m", "workers.run", *SMALL, "--output", "whole", cwd=folder)
    assert whole.code == 0, whole.err
    assert end(run)["fingerprint"] == end(folder / "whole")["fingerprint"]


def start(folder: Path, *program: str) -> "subprocess.Popen[str]":
    """Start a job of two ranks whose run folder is ``folder / "run"``."""
    command = [MPIRUN, "-np", "2", sys.executable, *program, "--output", str(folder / "run")]
    return popen(command, cwd=folder, env=environment(TEST_JOB=str(folder)))


def kill_ranks(folder: Path, process: "subprocess.Popen[str]") -> None:
    """Kill a job but for its watchdog, and wait for that."""
    kill_all(str(folder / "run"))
    assert finish(process).code != 0
    wait_until(lambda: not list(processes(folder)), "the watchdog is still there")


def test_a_checkpoint_is_written_though_all_ranks_are_killed(tmp_path: Path) -> None:
    """On a disk that is too slow for the ranks, which the watchdog's is not."""
    run = tmp_path / "run"
    process = start(tmp_path, str(PROGRAMS / "slow_disk.py"), "5", *SMALL, "--checkpoint-every", "1")
    wait_until(lambda: list(run.glob(".checkpoint-*")), "no checkpoint is being written")
    kill_ranks(tmp_path, process)
    assert whats(run)[-2:] == ["checkpoint", "death"]
    assert checkpoint_file.newest(run)[0] is not None
    resumes_to_the_same(tmp_path, run)


def test_a_job_that_is_killed_while_it_stops_has_stopped(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(tmp_path, str(PROGRAMS / "slow_disk.py"), "5", "--hidden", "8", "--epochs", "100000")
    wait_until(lambda: (run / "coordinator.msgpack").exists() and epochs(run), "no epoch")
    process.send_signal(signal.SIGUSR1)
    wait_until(lambda: list(run.glob(".checkpoint-*")), "no checkpoint is being written")
    kill_ranks(tmp_path, process)
    assert records(run)[-1]["kind"] == "end"
    assert (end(run)["status"], whats(run)) == ("stopped", ["checkpoint", "stop", "saved-by-watchdog"])
    assert not (run / "failure.txt").exists()


class Step:
    """A step of training that fails while its gradient is computed, as where a rank has died."""

    def __init__(self) -> None:
        self.flat = self.meter = None

    def backward(self, *_: object, sample: bool) -> float:
        raise RuntimeError


def test_no_copy_is_made_after_a_gradient_that_failed() -> None:
    """Parameters may change then: who recovers from it gets those of another rank."""
    state, status = JobState(), RankStatus()
    status.cells[AT] = 3 * N_PHASES
    optimizer = Sgd([np.zeros(3)], RunConfig())
    steps = StepCount(Step(), state, optimizer, status.cells)  # type: ignore[arg-type]
    turn = steps.turn
    with pytest.raises(RuntimeError):
        steps.backward(None, 0.1, sample=False)  # type: ignore[arg-type]
    assert steps.done() is None
    assert not steps.is_unchanged(turn)


def test_a_copy_of_one_step_has_nothing_of_the_next(tmp_path: Path) -> None:
    """Another thread makes it, which the end of the step may overtake at any moment, also behind the vectors."""
    vector = np.zeros(3 * WHILE_BLOCK)
    flat = Flat({"W": vector.shape}, np.dtype(np.float64))
    comm: Any = SimpleNamespace(rank=0, size=1)
    state = TrainingState(comm, flat, Sgd([flat.param_vector], RunConfig()), [slice(0, flat.n)])
    status = RankStatus()
    coordinator = SimpleNamespace(memory=dict, log=SimpleNamespace(seq=0))
    checkpointing = Checkpointing(
        comm, RunConfig(), state, 10, JobState(), SimpleNamespace(here=lambda: coordinator),  # type: ignore[arg-type]
        do_nothing, HeldCopy(status.copy), mode="allreduce", data_sha256="", target={}, scaling={},
    )  # fmt: skip
    checkpointing.open(tmp_path)
    for n_looks in range(6):
        left = iter([*[True] * n_looks, False, True])
        copied = checkpointing.copy_early(StepsDone(1, DoneBefore(4, 40, 1.0), {}), left.__next__)
        assert copied == holds_copy(status.copy) == (n_looks == 5), "three blocks, behind them, and behind all else"
    checkpointing.close()


HANGS = """
import sys, time; from pathlib import Path
from common.nn.mlp import Backprop; from workers import run
from mpi4py import MPI
plain, calls = Backprop.backward, []
def backward(self, batch, ready):
    plain(self, batch, ready)
    calls.append(0)
    if len(calls) == 25 and MPI.COMM_WORLD.rank == 0:
        Path("hangs").touch()
        time.sleep(1000)
Backprop.backward = backward
sys.exit(run.main())
"""


def stop_is_held(folder: Path) -> bool:
    """Say whether a rank of a job has told its watchdog what to save."""
    for line in processes(folder):
        for link in Path(f"/proc/{line.partition(':')[0]}/fd").glob("*"):
            with contextlib.suppress(OSError):
                if "rankwise-checkpoint" in os.readlink(link) and read_stop(os.open(link, os.O_RDONLY)):
                    return True
    return False


@pytest.mark.parametrize("mode", ["allreduce", "send-recv"])
def test_a_step_that_takes_too_long_costs_no_more_than_itself(tmp_path: Path, mode: str) -> None:
    """Rank 0 computes for longer than the launcher, or a batch system, waits after its signal."""
    run = tmp_path / "run"
    process = start(tmp_path, "-c", HANGS, *SMALL, "--mode", mode)
    wait_until((tmp_path / "hangs").exists, "no step hangs")
    process.send_signal(signal.SIGTERM)
    wait_until(lambda: process.poll() is not None or stop_is_held(tmp_path), "no copy is held")
    kill_ranks(tmp_path, process)
    assert (end(run)["status"], end(run)["stopped_epoch"], end(run)["stopped_step"]) == ("stopped", 2, 4)
    assert [path.name for path in run.glob("checkpoint-*")] == ["checkpoint-24.npz"]
    resumes_to_the_same(tmp_path, run, "--mode", "allreduce")


def test_sigcont_alone_stops_nothing(tmp_path: Path) -> None:
    """It is what ``fg`` sends, and ``scontrol resume``."""
    run = tmp_path / "run"
    process = start(tmp_path, "-m", "workers.run", "--hidden", "8", "--epochs", "100000")
    wait_until(lambda: (run / "coordinator.msgpack").exists() and epochs(run), "no epoch")
    for line in processes(tmp_path):
        if "workers.run" in line and "mpirun" not in line:
            os.kill(int(line.partition(":")[0]), signal.SIGCONT)
    seen = len(epochs(run))
    wait_until(lambda: len(epochs(run)) > seen + 20, "training does not go on")
    process.send_signal(signal.SIGUSR1)
    result = finish(process)
    assert result.code == 75, result.err
    assert whats(run) == ["checkpoint", "stop"]
