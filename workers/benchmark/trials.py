"""Trainings of one mode after another, timed: from the same start, over the same steps."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from mpi4py import MPI

from common.errors import JobError
from common.flat import Array, blocks
from ps.comm.agreement import at_root, odd_ranks
from ps.comm.collectives import allgather
from ps.metrics.epoch_metrics import bus_bandwidth
from ps.sync.modes import MODES
from workers.benchmark import machine
from workers.benchmark.runner import Runner, Workload, closing, steps_in
from workers.training.build import TrainingParts
from workers.training.environment import header_facts, timing
from workers.training.task import Task

DROPPED = 3
"""First steps of a trial, which train but are not timed: they touch memory and set up connections."""
CURVE_POINTS = 100
WINDOW = 10
"""A point of the loss curve is a mean over a tenth of the steps, up to that point."""
WARM_UP_S = 0.1
SHORTEST_S, LONGEST_S = 0.25, 2.0
"""Of a trial, if --steps does not say how many steps it has."""


def warm_up(
    work: Workload, modes: Iterable[str], threads: tuple[int, str]
) -> tuple[dict[str, Any], float, dict[str, str]]:
    """Start every mode and take some steps with it. Collective; raises JobError, also if none can start.

    Returns the facts of the log's header, the seconds of the slowest mode's step, and why modes cannot start here.
    """
    facts: dict[str, Any] = {}
    step_s, left_out = 0.0, {}
    for mode in modes:
        with closing(work.topology) as stack:
            try:
                if work.config.init == "per-rank" and not MODES[mode].apart:
                    raise JobError('init = "per-rank" needs parameters of its own on every rank')
                runner = work.start(mode, stack)
            except JobError as error:
                work.topology.free()
                left_out[mode] = str(error)
                continue
            facts = facts or facts_of(work, runner.parts, threads)
            steps = steps_in(WARM_UP_S, runner.run(DROPPED))
            step_s = max(step_s, runner.run(steps))
    if not facts:
        raise JobError(f"modes: none can start here; {': '.join(next(iter(left_out.items())))}")
    return facts, step_s, left_out


def trial_steps(steps_per_epoch: int, step_s: float) -> int:
    """Return how many steps a trial times if nobody says: an epoch, unless that is very short or long."""
    return min(max(steps_per_epoch, steps_in(SHORTEST_S, step_s)), steps_in(LONGEST_S, step_s))


def facts_of(work: Workload, parts: TrainingParts, threads: tuple[int, str]) -> dict[str, Any]:
    """Return what the log's header says of the job. Collective."""
    topology, task = work.topology, Task(work.config, work.data, work.model)
    known = header_facts(topology, task, parts.sync.flat, threads)
    return {
        **at_root(topology.comm, lambda: known),
        "steps_per_epoch": parts.loader.steps,
        "sync": {"mode": work.config.mode, **parts.sync.facts(), "trials": None},
        "timing": timing(parts.sync.meter.timer),
        "contribution": {"method": "not measured in a comparison"},
    }


class Trials:
    """Trainings of modes from the same start; rank 0 compares the parameters after each with those after the first."""

    def __init__(self, work: Workload, steps: int) -> None:
        self.work, self.steps = work, steps
        self._reference: Array | None = None

    def run(self, mode: str) -> dict[str, Any]:
        """Train a mode; return the fields of its record, but for round and place. Collective; raises JobError."""
        work, comm = self.work, self.work.topology.comm
        machine.reset_peak()
        with closing(work.topology) as stack:
            runner = work.start(mode, stack)
            runner.run(DROPPED)
            found = train(runner, self.steps, Task(work.config, work.data, work.model).score().unit)
            memory = machine.memory(work.topology)
            sync = runner.parts.sync
            ends = allgather(comm, [*sync.state.checksum(), sync.sent_bytes])
            if not all(finite for _, finite, _ in ends):
                raise JobError(
                    f"mode {mode}: parameters are not finite after {self.steps} steps; lower --learning-rate"
                )
            difference, scale = at_root(comm, lambda: self._compare(sync.flat.param_vector))
        per_rank = work.config.init == "per-rank"
        return {
            "mode": mode,
            **found,
            **memory,
            "sent_bytes": [sent for _, _, sent in ends],
            "parameter_difference": difference,
            "parameter_scale": scale,
            "replicas_equal": None if per_rank else not odd_ranks([checksum for checksum, _, _ in ends]),
        }

    def _compare(self, params: Array) -> list[float]:
        """Return the largest difference to the reference, and the largest of its numbers."""
        if self._reference is None:
            self._reference = params.copy()
        pairs = list(zip(blocks(params), blocks(self._reference), strict=True))
        differences = (float(np.abs(own - other).max()) for own, other in pairs)
        return [max(differences), max(float(np.abs(other).max()) for _, other in pairs)]


def train(runner: Runner, steps: int, unit: float = 1.0) -> dict[str, Any]:
    """Take steps; return seconds in all and a step, and the curve of the loss. Collective; raises JobError.

    ``unit``: what losses are multiplied with to be in the target's unit.
    """
    sync, loader, comm = runner.parts.sync, runner.parts.loader, runner.topology.comm
    reduce_s, input_s = sync.meter.reduce_s, loader.input_s
    clocks = runner.take(steps, clocks=True)
    reduce_s, input_s = sync.meter.reduce_s - reduce_s, loader.input_s - input_s
    times = runner.parts.sync.meter.timer.close_epoch()
    losses, elapsed = clocks.losses, clocks.end - clocks.start
    rows = np.resize(np.roll(sync.row_counts.total, -DROPPED), steps)
    seconds = {"compute_s": elapsed[-1] - times.sync_s - input_s, "reduce_s": reduce_s, "input_s": input_s,
               "wait_s": times.wait_s, "transfer_s": times.transfer_s}  # fmt: skip
    means = {name: machine.reduced(comm, own, MPI.SUM) / (comm.size * steps) for name, own in seconds.items()}
    comm.Allreduce(MPI.IN_PLACE, losses)
    comm.Allreduce(MPI.IN_PLACE, elapsed, MPI.MAX)
    exchange_s = means["transfer_s"] + means["reduce_s"]
    return {
        "steps": steps,
        "seconds": float(elapsed[-1]),
        "step_s": float(elapsed[-1]) / steps,
        **means,
        "bus_bytes_per_s": bus_bandwidth(sync.flat.grad_vector.nbytes, comm.size, exchange_s),
        **curve(losses * unit, rows, elapsed),
    }


def curve(losses: Array, rows: Array, elapsed: Array) -> dict[str, Any]:
    """Return ``curve_s`` and ``curve_loss``, times and the mean losses before them, and the last ``loss``.

    ``losses``: sums over all ranks' rows of each step, (steps,), as ``rows`` and ``elapsed`` seconds.
    """
    steps = len(losses)
    window = max(1, steps // WINDOW)
    points = np.unique(np.linspace(window, steps, min(CURVE_POINTS, steps - window + 1)).astype(np.int64))
    sums, counts = (np.concatenate([[0.0], np.cumsum(values)]) for values in (losses, rows))
    means = (sums[points] - sums[points - window]) / (counts[points] - counts[points - window])
    return {"curve_s": elapsed[points - 1].tolist(), "curve_loss": means.tolist(), "loss": float(means[-1])}
