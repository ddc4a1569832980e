"""A training job with a fault: ``faulty.py FAULT RANK EPOCH STEP [arguments of workers.run]``."""

import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from common.data import sources
from common.data.dataset import Raw
from common.data.loader import Batch
from common.nn.mlp import Backprop
from common.rank_status import EPOCH
from ps.sync.replicated import ReplicatedSync
from workers import run
from workers.training import setup
from workers.training.loop import Trainer

STOPS = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGURG", "SIGHUP")
HANG_S = 1000
fault, rank, epoch, step = sys.argv[1], *(int(a) for a in sys.argv[2:5])
sys.argv[1:] = sys.argv[5:]
trainers: list[Trainer] = []
flipped: list[int] = []
forward, backward, exchange = Backprop.forward, Backprop.backward, ReplicatedSync.step
prepare = setup.prepare


def keep(*arguments: Any) -> Any:
    job = prepare(*arguments)
    trainers.append(job.trainer)
    return job


def here() -> bool:
    from mpi4py import MPI

    at: Any = trainers[0].status
    return rank in (MPI.COMM_WORLD.rank, -1) and (at.epoch, at.step) == (epoch, step)


def raise_error() -> None:
    raise ValueError("this is the cause")


def lossy(self: Backprop, batch: Batch, scale: float) -> float:
    loss = forward(self, batch, scale)
    return float("inf") if fault == "inf-loss" and here() else loss


def faulty(self: Backprop, batch: Batch, ready: Any) -> None:
    backward(self, batch, ready)
    if fault == "slow":
        from mpi4py import MPI

        time.sleep(0.02 if MPI.COMM_WORLD.rank == rank else 0)
    elif here():
        ACTS.get(fault, lambda: None)()
        if fault == "nan-gradient":
            place = self.outputs[0] if self.outputs[0] is not None else self.deltas[0]
            place[0, 0] = float("nan")
        if fault == "drift":
            self.weights[0][0, 0] += 1


def stuck(self: ReplicatedSync, *arguments: Any, **options: Any) -> int:
    """Hang where the rank says already that it is at the exchange."""
    if here():
        time.sleep(HANG_S)
    return exchange(self, *arguments, **options)


def hang() -> None:
    Path("reached").touch()
    time.sleep(HANG_S)


def nap() -> None:
    """Hang until there is a file ``awake``."""
    Path("reached").touch()
    until = time.monotonic() + HANG_S
    while not Path("awake").exists() and time.monotonic() < until:
        time.sleep(0.01)


def flip() -> None:
    """Flip a bit, once, in what has its checksum looked at in this step."""
    if flipped:
        return
    flipped.append(step)
    trainer = trainers[0]
    params = trainer.sync.flat.param_vector
    layout = getattr(trainer.sync, "layout", None)
    n = layout.slices[0].stop if layout else len(params)
    params.view(np.uint8)[params.itemsize * (n * (step - 1) // trainer.loader.steps) + 2] ^= 16


def drifted(self: Trainer, rows: Any, *note: Any) -> Any:
    """Evaluate, as after every epoch, but with a parameter changed by then."""
    from mpi4py import MPI

    if MPI.COMM_WORLD.rank == rank and self.status.cells[EPOCH] == epoch:
        self.sync.flat.param_vector[0] += 1
    return evaluate(self, rows, *note)


def other_data(config: Any, own: int, size: int, *prepared: Any) -> Raw:
    raw = read(config, own, size, *prepared)
    if own == rank:
        raw.x[:][0, 0] += 1
    return raw


ACTS: dict[str, Callable[[], object]] = {
    "raise": raise_error,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda: sys.exit(3),
    "hang": hang,
    "nap": nap,
    "flip": flip,
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "leave": lambda: sys.exit(0),
    "term": lambda: os.kill(os.getpid(), signal.SIGTERM),
    **{name: partial(lambda number: os.kill(os.getpid(), number), signal.Signals[name]) for name in STOPS},
}

evaluate = Trainer.evaluate
if fault == "drift-after":
    Trainer.evaluate = drifted  # type: ignore[assignment, method-assign]
read = sources.read
if fault == "other-data":
    sources.read = other_data  # type: ignore[assignment]
Backprop.forward, Backprop.backward = lossy, faulty  # type: ignore[method-assign]
if fault == "stuck":
    ReplicatedSync.step = stuck  # type: ignore[method-assign]
setup.prepare = keep  # type: ignore[assignment]
try:
    sys.exit(run.main())
finally:  # for the next job on these ranks
    Trainer.evaluate = evaluate  # type: ignore[method-assign]
    Backprop.forward, Backprop.backward, ReplicatedSync.step = forward, backward, exchange  # type: ignore[method-assign]
    sources.read, setup.prepare = read, prepare
