"""Mode ``auto``: every mode takes a few steps on the real model and rows, and all ranks agree on the fastest."""

import itertools
import math
import statistics
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
from mpi4py import MPI

from common.config import RunConfig
from common.data.loader import Batch
from common.errors import JobError, NotFiniteError, StepError
from common.nn.schedules import learning_rates
from ps.comm.topology import Topology
from ps.sync.modes import MODES
from workers.training.build import TrainingParts, assemble
from workers.training.task import Task
from workers.training.timed_steps import take_steps

TRIAL_S = 0.2
FEWEST, MOST = 3, 100
NO_STOP: Any = SimpleNamespace(signal=0)
"""Signals during the trials stop the run after its first step."""


def pick_fastest(topology: Topology, task: Task, tick: Callable[[], object]) -> tuple[str, list[dict[str, Any]]]:
    """Return the fastest mode here, and what was measured, fastest first. Collective.

    A trial has parameters of its own, so nothing of it is left. Its figure is the median over the steps of the
    slowest rank's time; a mode that cannot start here (no room in /dev/shm) is left out, with the reason.
    ``tick`` is called before each mode and after each step: trials of a large model take long.
    """
    measured: list[dict[str, Any]] = []
    for name, mode in MODES.items():
        if task.config.init == "per-rank" and not mode.replicas:
            continue
        tick()
        trial: dict[str, Any] = {"mode": name, "steps": 0, "median_s": None, "reason": None}
        measured.append(trial)
        try:
            parts = assemble(name, topology, task)
        except JobError as error:
            trial["reason"] = str(error)
            topology.free()
            continue
        try:
            times = _try(topology.comm, parts, task.config, tick)
            trial.update(steps=len(times), median_s=statistics.median(times))
        except StepError as fault:  # on all ranks; the run itself will say more
            trial["reason"] = "not finite" if isinstance(fault, NotFiniteError) else "replicas differ"
        parts.sync.close()
        del parts  # before the next one needs memory
    measured.sort(key=lambda m: m["median_s"] or math.inf)
    return str(measured[0]["mode"]), measured


def _try(comm: MPI.Comm, parts: TrainingParts, config: RunConfig, tick: Callable[[], object]) -> list[float]:
    """Return the seconds of each step, the same on all ranks: those of the slowest."""
    rate = learning_rates(config, 1, parts.loader.steps)[0]
    ahead = np.array([parts.loader.ahead])  # batches that lie in memory at the same time, on every rank
    comm.Allreduce(MPI.IN_PLACE, ahead, MPI.MIN)
    batches = list(itertools.islice(parts.loader.epoch(1), int(ahead[0])))

    def endless() -> Iterator[tuple[Batch, float]]:
        for batch in itertools.cycle(batches):
            yield batch, rate
            tick()

    turns = endless()

    def seconds(count: int) -> list[float]:
        clocks = take_steps(comm, parts.sync, turns, count, NO_STOP, clocks=True)
        slowest = clocks.end - clocks.begin
        comm.Allreduce(MPI.IN_PLACE, slowest, MPI.MAX)
        found: list[float] = slowest.tolist()
        return found

    seconds(1)
    return seconds(min(MOST, max(FEWEST, int(TRIAL_S / seconds(1)[0]))))
