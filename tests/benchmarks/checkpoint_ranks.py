"""A training job whose rank 0 asks for checkpoints and times its steps: ``checkpoint_ranks.py RESULT TURNS ...``.

The other arguments are those of ``workers.run``.
"""

import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from common.data.loader import Batch
from workers import run
from workers.training import setup

QUIET_STEPS = 8
"""Without a checkpoint, in each turn."""


def peak_memory() -> int:
    """Return the most bytes of memory that this process had since the last ``reset_peak``."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


def reset_peak() -> None:
    """Forget how much memory was in use before."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


class TimedSync:
    """Between the training loop and the synchroniser of rank 0."""

    def __init__(self, job: Any, result: Path, turns: int) -> None:
        self.job, self.inner, self.result, self.turns = job, job.trainer.sync, result, turns
        self.quiet: list[list[float]] = [[]]
        self.busy: list[list[float]] = [[]]
        self.memory: list[list[int]] = []
        self.copy_s: list[float] = []
        self.writing_s: list[float] = []
        self.begin_s = self.asked_s = self.written_from_s = 0.0
        self.was_busy = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def writes(self) -> bool:
        """Say whether a checkpoint is being written."""
        return bool(self.job.checkpointing._writer.busy)

    def backward(self, batch: Batch, lr: float, *, sample: bool) -> float:
        """Begin a step; the checkpoint that the last one asked for is under way by now."""
        if self.asked_s and not self.written_from_s:
            self.written_from_s = time.perf_counter()
            self.copy_s.append(self.written_from_s - self.asked_s)
        self.was_busy, self.begin_s = self.writes(), time.perf_counter()
        loss: float = self.inner.backward(batch, lr, sample=sample)
        return loss

    def step(self, batch: Batch, loss_sum: float, *, stop: bool, sample: bool, save: bool = False) -> int:
        """End a step, and note how long it took."""
        asked: int = self.inner.step(batch, loss_sum, stop=stop, sample=sample, save=save)
        now = time.perf_counter()
        busy = self.writes()
        if busy == self.was_busy and not sample:
            (self.busy if busy else self.quiet)[-1].append(now - self.begin_s)
        if save:
            self.asked_s, self.written_from_s = now, 0.0
        elif self.asked_s and not busy:
            self._close_turn(now)
        elif not self.asked_s and len(self.quiet[-1]) == QUIET_STEPS and not self.job.checkpointing.due:
            self.memory.append([peak_memory()])
            self.job.checkpointing.due = True
        return asked

    def _close_turn(self, now: float) -> None:
        self.memory[-1].append(peak_memory())
        reset_peak()
        self.writing_s.append(now - self.written_from_s)
        self.asked_s = 0.0
        if len(self.quiet) <= self.turns:
            self.quiet.append([])
            self.busy.append([])
            return
        state = self.inner.state
        found = {"quiet": self.quiet, "busy": self.busy, "memory": self.memory, "copy_s": self.copy_s,
                 "writing_s": self.writing_s, "vector_bytes": state.flat.param_vector.nbytes,
                 "saved_bytes": (1 + len(state.vectors())) * state.flat.param_vector.nbytes}  # fmt: skip
        self.result.write_text(json.dumps(found), encoding="ascii")
        self.job.stop.signal = signal.SIGTERM


def prepare(*arguments: Any) -> Any:
    """Have rank 0 timed."""
    job = plain(*arguments)
    if job.comm.rank == 0:
        job.trainer.sync = TimedSync(job, result, turns)
    return job


result, turns = Path(sys.argv[1]), int(sys.argv[2])
sys.argv[1:] = sys.argv[3:]
plain = setup.prepare
setup.prepare = prepare  # type: ignore[assignment]
sys.exit(run.main())
