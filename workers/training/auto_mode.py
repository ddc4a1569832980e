"""Mode ``auto``: every exact mode takes a few steps on the real model and rows, and all ranks agree on the fastest."""

import itertools
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
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
"""How long steps of a mode are measured: as many as fit, at least 3 if one takes less, and one if it takes more."""
FEWEST, MOST = 3, 100
SLOWER, LONG_S = 2.0, 1.0
"""A mode is left after its first step if that took so many times as long as the fastest mode's steps, and so long:
buffers and connections, which it also makes, take less."""
BUDGET_S, MOST_S = 10.0, 30.0
"""Once the steps of all modes have taken so long, further ones are judged by their first step, or are not tried."""
FIRST = "allreduce"
"""The mode to measure others by."""
NO_STOP: Any = SimpleNamespace(signal=0)
"""Signals during the trials stop the run after its first step."""


def pick_fastest(topology: Topology, task: Task, tick: Callable[[], object]) -> tuple[str, list[dict[str, Any]]]:
    """Return the fastest mode here, and what was measured, fastest first. Collective.

    A trial has parameters of its own, so nothing of it is left. Its figure is the median over the steps of the
    slowest rank's time; a mode that cannot start here (no room in /dev/shm) is left out, with the reason. What is
    clearly slower is left early, and all trials take a bounded time, so the most promising modes come first.
    ``tick`` is called before each mode and after each sum and step: those of a large model take long.
    """
    best_s, spent_s = math.inf, 0.0
    measured: list[dict[str, Any]] = []
    for name, mode in sorted(MODES.items(), key=lambda item: (item[0] != FIRST, not item[1].in_place)):
        if not mode.exact or (task.config.init == "per-rank" and not mode.apart):
            continue
        tick()
        trial: dict[str, Any] = {"mode": name, "steps": 0, "median_s": None, "reason": None}
        measured.append(trial)
        if spent_s >= MOST_S:
            trial["reason"] = f"not tried: steps of the other modes took {spent_s:.0f} s"
            continue
        try:
            parts = assemble(name, topology, task, tick=tick)
        except JobError as error:
            trial["reason"] = str(error)
            topology.free()
            continue
        try:
            times = _try(topology.comm, parts, task.config, tick, best_s, spent_s)
            measured_s = times[1:] or times
            reason = None if times[1:] else "judged by its first step, which takes longer than others"
            trial.update(steps=len(measured_s), median_s=statistics.median(measured_s), reason=reason)
            best_s, spent_s = min(best_s, trial["median_s"]), spent_s + sum(times)
        except StepError as fault:  # on all ranks; the run itself will say more
            trial["reason"] = "not finite" if isinstance(fault, NotFiniteError) else "replicas differ"
        parts.sync.close()
        del parts  # before the next one needs memory
    measured.sort(key=lambda m: m["median_s"] or math.inf)
    return str(measured[0]["mode"]), measured


def more_steps(times: Sequence[float], best_s: float, spent_s: float) -> int:
    """Return how many more steps a mode is to take; the first one also makes buffers and connections.

    ``times``: seconds of its steps so far, those of the slowest rank; ``best_s``: the fastest mode's median;
    ``spent_s``: seconds of all modes' steps before.
    """
    if not times:
        return 1
    if len(times) == 1:
        is_left = times[0] >= LONG_S and times[0] > SLOWER * best_s
        return 0 if is_left or spent_s + times[0] >= BUDGET_S else 1
    if len(times) > 2 or times[1] >= TRIAL_S:
        return 0
    return min(MOST, max(FEWEST, int(TRIAL_S / times[1]))) - 1


def _try(
    comm: MPI.Comm, parts: TrainingParts, config: RunConfig, tick: Callable[[], object], best_s: float, spent_s: float
) -> list[float]:
    """Return the seconds of each step, the first one included, the same on all ranks: those of the slowest."""
    rate = learning_rates(config, 1, parts.loader.steps)[0]
    ahead = np.array([parts.loader.ahead])  # batches that lie in memory at the same time, on every rank
    comm.Allreduce(MPI.IN_PLACE, ahead, MPI.MIN)
    batches = list(itertools.islice(parts.loader.epoch(1), int(ahead[0])))

    def endless() -> Iterator[tuple[Batch, float]]:
        for batch in itertools.cycle(batches):
            yield batch, rate
            tick()

    turns, times = endless(), list[float]()
    while count := more_steps(times, best_s, spent_s):
        clocks = take_steps(comm, parts.sync, turns, count, NO_STOP, clocks=True)
        slowest = clocks.end - clocks.begin
        comm.Allreduce(MPI.IN_PLACE, slowest, MPI.MAX)
        times += slowest.tolist()
    return times
