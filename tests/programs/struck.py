"""A training job that is struck as ``tests/faults`` says: ``struck.py FAULT [arguments of workers.run]``.

``TEST_PLANTS`` tells what rank 0 plants in the run folder before that. When it strikes, and when rank 0 has taken its
first step, is left in the files ``struck`` and ``first-step``.
"""

import contextlib
import json
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from common import files, run_files
from common.data.loader import Batch, BatchLoader
from common.rank_status import RankStatus
from common.run_files import LOG_NAME
from ps.logfile import writer
from tests.faults.plan import STEPS, Fault
from workers import run
from workers.checkpoint import checkpoint_file
from workers.training import setup
from workers.training.job import Job

fault = Fault(**json.loads(sys.argv[1]))
sys.argv[1:] = sys.argv[2:]
BALLAST = Path("disk/ballast")
PLANTS = json.loads(os.environ.get("TEST_PLANTS", "{}"))
OUTPUT = next(
    (Path(sys.argv[i + 1]) for i, word in enumerate(sys.argv) if word in ("--output", "--resume")), Path("run")
)


def is_rank(number: int) -> bool:
    from mpi4py import MPI

    return MPI.Is_initialized() and MPI.COMM_WORLD.rank == number


def leave_time(name: str) -> None:
    Path(name).touch()  # its time tells; a text would not fit where the fault is a full disk


def end_here() -> None:
    leave_time("struck")
    os.kill(os.getpid(), signal.SIGKILL)


class Striker:
    """Counts how often this rank enters the phase, and strikes."""

    def __init__(self) -> None:
        self.count = 0
        self.full_since = -1
        self.steps = 0

    def enter(self, phase: str) -> bool:
        """Strike if it is time; return whether it is, for what strikes elsewhere."""
        if phase != fault.phase or not is_rank(fault.rank):
            return False
        self.count += 1
        if self.count != fault.nth:
            return False
        if fault.delay_s:
            threading.Thread(target=self.strike, args=(fault.delay_s,), daemon=True).start()
        else:
            self.strike(0)
        return True

    def strike(self, delay_s: float) -> None:
        time.sleep(delay_s)
        leave_time("struck")
        if fault.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault.kind == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        if fault.kind == "exception":
            raise ValueError("struck on purpose")
        if fault.kind == "signal":
            os.kill(os.getpid(), signal.Signals[fault.signal])
        if fault.kind == "disk":
            self.full_since = self.steps
            fill()
        if fault.kind.endswith("-log"):
            spoil(OUTPUT / LOG_NAME)

    def stepped(self) -> None:
        """Note that a step is done, after which a full disk may have room again."""
        self.steps += 1
        if self.steps == 1 and is_rank(0):
            leave_time("first-step")
        if PLANTS and self.steps == PLANTS["step"] and is_rank(0):
            plant()
        if fault.while_steps and self.full_since >= 0 and self.steps == self.full_since + fault.while_steps:
            make_room()


def spoil(log: Path) -> None:
    """Do to the log what somebody else may do while this job writes it."""
    if fault.kind == "cut-log":
        os.truncate(log, int(fault.share * log.stat().st_size))
    if fault.kind == "remove-log":
        log.unlink()
    if fault.kind == "soil-log":
        with log.open("ab") as file:
            file.write(bytes(100))


def plant() -> None:
    """Put links in the run folder, to what lies outside, under the names of files that this job may write."""
    leave_time("planted")
    for name in PLANTS["names"]:
        place = OUTPUT / name.format(pid=os.getpid())
        place.unlink(missing_ok=True)
        if PLANTS["how"] == "hard":
            os.link(PLANTS["target"], place)
        else:
            place.symlink_to(PLANTS["target"])


def fill() -> None:
    """Leave no room for a byte: fill the small disk, or forbid this process files of more than one."""
    if fault.stage == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        return
    with contextlib.suppress(OSError), BALLAST.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1024))


def make_room() -> None:
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]  # which only root may raise
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    BALLAST.unlink(missing_ok=True)


class Struck:
    """A synchroniser whose gradient or parameters are spoilt; the rest is that of ``inner``."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def backward(self, batch: Batch, lr: float, *, sample: bool) -> float:
        if striker.enter("compute"):
            if fault.kind == "nan":
                batch.x[0, :-1] = np.nan
            if fault.kind == "flip":
                self.flip()
        loss: float = self.inner.backward(batch, lr, sample=sample)
        return loss

    def flip(self) -> None:
        params = self.inner.flat.param_vector
        part = params
        if fault.aimed:
            k = fault.step - 1
            part = params[len(params) * k // STEPS : len(params) * (k + 1) // STEPS]
        part.view(np.uint8)[int(fault.place * part.nbytes)] ^= 1 << fault.bit

    def step(self, batch: Batch, loss_sum: float, **asked: bool) -> int:
        striker.enter("exchange")
        answer: int = self.inner.step(batch, loss_sum, **asked)
        striker.stepped()
        return answer


class TornWrites:
    """The module ``os`` for the log's writer: a write stops in the middle."""

    def __init__(self) -> None:
        self.count = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def write(self, handle: int, data: bytes) -> int:
        self.count += 1
        if self.count == fault.nth:
            os.write(handle, data[: int(fault.share * len(data))])
            end_here()
        return os.write(handle, data)


class TornFile:
    """A file that takes ``n_bytes``, and then the process ends."""

    def __init__(self, file: Any, n_bytes: int) -> None:
        self.file, self.left = file, n_bytes

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def write(self, data: Any) -> int:
        if len(data) > self.left:
            self.file.write(data[: self.left])
            self.file.flush()
            end_here()
        self.left -= len(data)
        n: int = self.file.write(data)
        return n


def tear_checkpoints() -> None:
    """Have the process end in the nth checkpoint: after a share of its bytes, once it is checked, or once renamed."""
    write, verify, checkpoints_in = checkpoint_file.write, checkpoint_file.verify, run_files.checkpoints_in
    count = 0

    def written(file: Any, snapshot: checkpoint_file.Snapshot) -> None:
        nonlocal count
        count += 1
        torn = count == fault.nth and fault.stage == "bytes"
        write(TornFile(file, int(fault.share * 10_000)) if torn else file, snapshot)

    def verified(path: Path, *more: Any) -> None:
        verify(path, *more)
        if count == fault.nth and fault.stage == "verified":
            end_here()

    def renamed(folder: Path) -> list[Path]:
        if count == fault.nth and fault.stage == "renamed":
            end_here()
        return checkpoints_in(folder)

    vars(checkpoint_file).update(write=written, verify=verified, checkpoints_in=renamed)


class TornSaving(files.SyncedFile):
    """A file on its way to the disk, in which the process ends."""

    count = 0

    def __init__(self, file: Any, pulse: Any) -> None:
        super().__init__(file, pulse)
        self.torn = False
        name = Path(os.readlink(f"/proc/self/fd/{file.fileno()}")).name
        if name.startswith(f".{fault.phase}") and is_rank(0):
            TornSaving.count += 1
            self.torn = TornSaving.count == fault.nth
        if self.torn and fault.stage == "created":
            end_here()

    def write(self, data: Any) -> int:
        if self.torn and fault.stage == "bytes":
            super().write(memoryview(data).cast("B")[: int(fault.share * memoryview(data).nbytes)])
            self._file.flush()
            end_here()
        return super().write(data)


def tear_saving() -> None:
    """Have the process end while a file is saved: before its first byte, in its first bytes, or around its renaming."""
    plain_replace = Path.replace

    def replace(self: Path, target: Any) -> Path:
        last = is_rank(0) and self.name.startswith(f".{fault.phase}") and TornSaving.count == fault.nth
        if last and fault.stage == "written":
            end_here()
        new = plain_replace(self, target)
        if last and fault.stage == "renamed":
            end_here()
        return new

    vars(files).update(SyncedFile=TornSaving)
    Path.replace = replace  # type: ignore[method-assign,assignment]


def prepare(*arguments: Any) -> Any:
    job = plain_prepare(*arguments)
    job.trainer.sync = Struck(job.trainer.sync)
    if fault.kind == "torn-checkpoint" and is_rank(0):
        tear_checkpoints()
    return job


def train(self: Job) -> int:
    if fault.kind == "torn-log" and is_rank(0):  # only now: the ranks are watched
        vars(writer).update(os=TornWrites())
    return plain_train(self)


def epoch(self: BatchLoader, number: int, *more: Any) -> Iterator[Batch]:
    for batch in plain_epoch(self, number, *more):
        striker.enter("input")
        yield batch


def enter(self: RankStatus, phase: str) -> None:
    plain_enter(self, phase)
    striker.enter(phase)


striker = Striker()
if fault.kind == "torn-file":
    tear_saving()
plain_prepare, plain_epoch, plain_enter = setup.prepare, BatchLoader.epoch, RankStatus.enter
plain_train = Job.train
setup.prepare = prepare  # type: ignore[assignment]
Job.train = train  # type: ignore[method-assign]
BatchLoader.epoch = epoch  # type: ignore[method-assign,assignment]
RankStatus.enter = enter  # type: ignore[method-assign]
sys.exit(run.main())
