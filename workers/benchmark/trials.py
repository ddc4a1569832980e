"""One training of one mode, timed: from the start, the same steps as every other mode takes."""

import itertools
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mpi4py import MPI

from common.config import RunConfig
from common.data.dataset import Dataset
from common.errors import JobError
from common.flat import Array, blocks
from common.nn.mlp import Mlp
from common.nn.models import Model
from ps.comm.agreement import at_root, odd_ranks
from ps.comm.collectives import allgather
from ps.comm.topology import Topology
from ps.metrics.epoch_metrics import bus_bandwidth
from workers.benchmark import machine
from workers.benchmark.runner import Runner, opened, stopped
from workers.launch.signals import StopFlag

DROPPED = 3
"""First steps of a trial that train like the others but are not timed: memory is touched, messages find their way."""
CURVE_POINTS = 100
WINDOW = 10
"""The loss of a moment is a mean over the last tenth of the steps."""


@dataclass(slots=True)
class Work:
    """What all trials train, and the first mode's parameters after the first of them, at rank 0."""

    topology: Topology
    config: RunConfig
    data: Dataset
    model: Model | Mlp
    stop: StopFlag
    reference: Array = field(default_factory=lambda: np.empty(0))

    def runner(self, mode: str) -> "TrialRunner":
        """Assemble a mode. Collective; raises JobError."""
        return TrialRunner(self.topology, mode, self.config, self.data, self.model)

    def compare(self, params: Array) -> list[float]:
        """Return the largest difference to the reference, which the first are, and the largest of its numbers."""
        if not len(self.reference):
            self.reference = params.copy()
        pairs = list(zip(blocks(params), blocks(self.reference), strict=True))
        differences = (float(np.abs(own - other).max()) for own, other in pairs)
        return [max(differences), max(float(np.abs(other).max()) for _, other in pairs)]


class TrialRunner(Runner):
    """A mode whose steps are timed in parts, with the loss of each."""

    def train(self, steps: int, stop: StopFlag) -> dict[str, Any]:
        """Take steps; return seconds in all and a step, and the curve of the loss. Collective; raises JobError."""
        sync, loader, timer = self.parts.sync, self.parts.loader, self.parts.timer
        self.make_room(steps)
        sync.meter.reduce_s = loader.input_s = 0.0
        losses, ends, rows = np.empty(steps), np.empty(steps), np.empty(steps)
        self.comm.Barrier()
        start = time.perf_counter()
        with self.agreed_end():
            for k, (batch, rate) in enumerate(itertools.islice(self.batches, steps)):
                losses[k] = loss_sum = sync.backward(batch, rate, sample=False)
                rows[k] = batch.total
                if sync.step(batch, loss_sum, stop=stop.signal != 0, sample=False):
                    raise stopped()
                ends[k] = time.perf_counter()
        elapsed = ends - start
        times = timer.close_epoch()
        compute_s = elapsed[-1] - times.sync_s - loader.input_s
        parts = np.array([compute_s, sync.meter.reduce_s, loader.input_s, times.wait_s, times.transfer_s])
        self.comm.Allreduce(MPI.IN_PLACE, parts)
        self.comm.Allreduce(MPI.IN_PLACE, losses)
        self.comm.Allreduce(MPI.IN_PLACE, elapsed, MPI.MAX)
        names = ("compute_s", "reduce_s", "input_s", "wait_s", "transfer_s")
        means = dict(zip(names, (parts / (self.comm.size * steps)).tolist(), strict=True))
        exchange_s = means["transfer_s"] + means["reduce_s"]
        seconds = float(elapsed[-1])
        return {
            "steps": steps,
            "seconds": seconds,
            "step_s": seconds / steps,
            **means,
            "bus_bytes_per_s": bus_bandwidth(sync.flat.grad_vector.nbytes, self.comm.size, exchange_s),
            **curve(losses, rows, elapsed),
        }


def curve(losses: Array, rows: Array, elapsed: Array) -> dict[str, Any]:
    """Return ``curve_s`` and ``curve_loss``, moments and mean losses up to them, and the last ``loss``.

    ``losses``: sums over all ranks' rows of each step, (steps,), as ``rows`` and ``elapsed`` seconds.
    """
    steps = len(losses)
    window = max(1, steps // WINDOW)
    points = np.unique(np.linspace(window, steps, min(CURVE_POINTS, steps - window + 1)).astype(np.int64))
    sums, counts = (np.concatenate([[0.0], np.cumsum(values)]) for values in (losses, rows))
    means = (sums[points] - sums[points - window]) / (counts[points] - counts[points - window])
    return {"curve_s": elapsed[points - 1].tolist(), "curve_loss": means.tolist(), "loss": float(means[-1])}


def trial(work: Work, mode: str, steps: int) -> dict[str, Any]:
    """Train a mode from the start; return the fields of its record, but for round and place. Collective."""
    topology, comm = work.topology, work.topology.comm
    machine.reset_peak()
    with opened(topology, lambda: work.runner(mode)) as (runner,):
        runner.run(DROPPED, work.stop)
        found = runner.train(steps, work.stop)
        memory = machine.memory(topology)
        sync = runner.parts.sync
        fingerprint, finite = sync.state.checksum()
        ends = allgather(comm, [fingerprint, finite, sync.sent_bytes])
        if not all(end[1] for end in ends):
            raise JobError(f"mode {mode}: parameters are not finite after {steps} steps; lower --learning-rate")
        difference, scale = at_root(comm, lambda: work.compare(sync.flat.param_vector))
    alike = None if work.config.init == "per-rank" else not odd_ranks([end[0] for end in ends])
    return {
        "mode": mode,
        **found,
        **memory,
        "sent_bytes": [end[2] for end in ends],
        "parameter_difference": difference,
        "parameter_scale": scale,
        "replicas_equal": alike,
    }


def order(n: int, number: int) -> list[int]:
    """Return in which order round ``number`` (from 0) takes n modes.

    Rows of a Williams design (Williams 1949, Australian Journal of Scientific Research A 2): over n rounds, or 2n if n
    is odd, each mode comes equally often at each place and directly after each other one.
    """
    first = [(place + 1) // 2 if place % 2 else -(place // 2) for place in range(n)]
    row = [(mode + number) % n for mode in first]
    return row[::-1] if n % 2 and number // n % 2 else row
