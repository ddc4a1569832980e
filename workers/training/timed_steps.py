"""Steps of a mode outside of a run, against the clock: for the trials of mode auto and for benchmarks."""

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from mpi4py import MPI

from common.errors import EXIT_STOPPED, JobError
from common.flat import Array, numbers
from ps.sync.synchronizer import TrainingStep
from workers.launch.signals import StopRequest


@dataclass(frozen=True, slots=True)
class StepClocks:
    """When steps were taken, by this rank's ``time.perf_counter``: of all, and of each, (steps,).

    A step has its rows at ``begin``, its gradient at ``computed`` and is done at ``end``. ``losses``: sums over this
    rank's rows. ``reduce_s``: the meter's, at the step's end.
    """

    start: float
    seconds: float
    begin: Array
    computed: Array
    end: Array
    losses: Array
    reduce_s: Array


def take_steps(
    comm: MPI.Comm,
    sync: TrainingStep,
    batches: Iterator[tuple[Any, float]],
    steps: int,
    stop: StopRequest,
    *,
    clocks: bool = False,
) -> StepClocks:
    """Take steps with the batches and rates that come; without ``clocks``, which cost time, only that of all is kept.

    Collective; begins with a barrier and an empty timer. Raises what the synchroniser raises, and JobError on all ranks
    where one was asked to stop.
    """
    kept = np.empty((5, steps if clocks else 0))
    begin, computed, end, losses, reduce_s = (numbers(row) for row in kept)
    backward, step, meter, now = sync.backward, sync.step, sync.meter, time.perf_counter
    meter.timer.resize(steps)
    comm.Barrier()
    start = now()
    with np.errstate(all="ignore"):  # the synchroniser finds it and says so
        for k, (batch, rate) in enumerate(itertools.islice(batches, steps)):
            if clocks:
                begin[k] = now()
            loss_sum = backward(batch, rate, sample=False)
            if clocks:
                computed[k] = now()
            if step(batch, loss_sum, stop=stop.signal != 0, sample=False, save=False):
                raise JobError("stopped by a signal; nothing was saved", EXIT_STOPPED)
            if clocks:
                end[k] = now()
                losses[k], reduce_s[k] = loss_sum, meter.reduce_s
    return StepClocks(start, now() - start, *kept)
