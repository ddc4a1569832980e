"""What a rank does to find the cost of all accounts: a run's epochs beside bare steps of the same job, taking turns."""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import workers  # noqa: F401  # before NumPy, as the training process imports it
from workers.launch.mpi import start_mpi

comm = start_mpi().Dup()

import dataclasses  # noqa: E402

import numpy as np  # noqa: E402
from mpi4py import MPI  # noqa: E402

from common.checksum import is_finite  # noqa: E402
from common.data.loader import Batch  # noqa: E402
from common.option import MANY  # noqa: E402
from common.rank_status import RankStatus  # noqa: E402
from ps.comm.topology import Topology  # noqa: E402
from ps.coordinator.seat import CoordinatorSeat  # noqa: E402
from ps.sync.replicated import ReplicatedSync  # noqa: E402
from ps.sync.shared import SharedSync  # noqa: E402
from workers.benchmark.options import BenchConfig  # noqa: E402
from workers.benchmark.steps import prepare  # noqa: E402
from workers.checkpoint.origin import Origin  # noqa: E402
from workers.launch.blas_threads import limit_threads  # noqa: E402
from workers.launch.process import Context  # noqa: E402
from workers.launch.signals import StopFlag  # noqa: E402
from workers.training.build import assemble  # noqa: E402
from workers.training.job import Job  # noqa: E402
from workers.training.setup import open_log  # noqa: E402
from workers.training.task import Task  # noqa: E402

TURN_S = 0.15
"""Whole epochs that fill so much make a turn."""


class Loops:
    """Four ways to train an epoch of one job, each with less beside the training than the one before."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.epoch = 0
        self.end_s: list[float] = []
        self.measuring_s: list[float] = []

    def everything(self) -> None:
        """Train as a run does and close the epoch: clocks, flags, sampled steps, gathered figures, log."""
        self.job.begin(self.epoch)
        sums = self.job.trainer.run_epoch(self.epoch)
        self.measuring_s.append(self.job.sync.meter.sampling_s)
        start = time.perf_counter()
        decision = self.job._close_epoch(sums)
        self.job.trainer.sample(decision["sample_rate"])
        self.end_s.append(time.perf_counter() - start)

    def no_analytics(self) -> None:
        """Train as a run does, but sample no step and forget the epoch."""
        trainer = self.job.trainer
        with mock.patch.object(trainer, "_sampled_steps", frozenset):
            trainer.run_epoch(self.epoch)
        timer = self.job.sync.meter.timer
        timer.resize(len(timer.arrived))

    def bare(self) -> None:
        """Only compute, sum, look for what is not finite, and update."""
        self._steps(is_finite)

    def unchecked(self) -> None:
        """Only compute, sum and update."""
        self._steps(None)

    def _steps(self, check: Callable[[Any], bool] | None) -> None:
        sync, rate = self.job.sync, self.job.config.learning_rate
        assert isinstance(sync, ReplicatedSync | SharedSync)
        step = _shared_step if isinstance(sync, SharedSync) else _packet_step
        loss_sum = 0.0
        for batch in self.job.trainer.loader.epoch(self.epoch):
            loss_sum += sync.backward(batch, rate, sample=False)
            step(sync, batch, check)


def _packet_step(sync: Any, batch: Batch, check: Callable[[Any], bool] | None) -> None:
    sync._reducer.sum()
    for grad in sync._grads if check else ():
        assert is_finite(grad)
    update = sync.state.optimizer.update
    for i, grad in enumerate(sync._grads):
        update(i, grad)


def _shared_step(sync: Any, batch: Batch, check: Callable[[Any], bool] | None) -> None:
    update = sync.state.optimizer.update
    sync.barrier.wait()
    for i, total in enumerate(sync.prepare(batch, sample=False).totals):
        grad = total()
        assert check is None or check(grad)
        update(i, grad)
    sync.barrier.wait()


def slowest(seconds: float) -> float:
    """Return the slowest rank's seconds."""
    value = np.array([seconds])
    comm.Allreduce(MPI.IN_PLACE, value, MPI.MAX)
    return float(value[0])


def turn(loops: Loops, loop: Callable[[], None], epochs: int) -> float:
    """Train some epochs; return the slowest rank's seconds."""
    comm.Barrier()
    start = time.perf_counter()
    for _ in range(epochs):
        loops.epoch += 1
        loop()
    return slowest(time.perf_counter() - start)


def measure(loops: Loops, rounds: int) -> dict[str, Any]:
    """Return each loop's microseconds a step in each round, and what of ``everything`` was at the epochs' ends."""
    ways = [loops.everything, loops.no_analytics, loops.bare, loops.unchecked]
    once_s = max([turn(loops, way, 1) for _ in range(2) for way in ways][len(ways) :])
    epochs, steps = max(1, round(TURN_S / once_s)), loops.job.trainer.loader.steps
    loops.end_s.clear()
    loops.measuring_s.clear()
    times: dict[str, list[float]] = {way.__name__: [] for way in ways}
    for k in range(rounds):
        for i in range(len(ways)):
            way = ways[(i + k) % len(ways)]
            times[way.__name__].append(turn(loops, way, epochs) / (epochs * steps) * 1e6)
    parts = {"end": loops.end_s, "measuring": loops.measuring_s}
    return {"times": times, "parts": {k: slowest(statistics.median(s)) / steps * 1e6 for k, s in parts.items()}}


def main() -> None:
    """Measure one mode on one model."""
    task = json.loads(sys.argv[1])
    topology = Topology(comm)
    threads = limit_threads(topology)
    bench = BenchConfig(
        layers=tuple(task["layers"]), batch=task["batch"], rows=task["batch"] * task["steps"], learning_rate=1e-4
    )
    config = dataclasses.replace(
        bench.run_config(bench.batch), mode=task["mode"], epochs=MANY, output=f"{task['folder']}/run"
    )
    rank_status = RankStatus()
    stop = StopFlag(rank_status.cells, comm.Abort)
    work = prepare(topology, bench, bench.batch, stop)
    training_task = Task(config, work.data, work.model)
    parts = assemble(config.mode, topology, training_task)
    context, origin = Context(comm, [], stop, rank_status), Origin()
    job = Job(context, training_task, parts, origin.state, CoordinatorSeat(), threads)
    open_log(job, topology, origin, {"mode": config.mode, **parts.sync.facts(), "trials": None})
    loops = Loops(job)
    found = measure(loops, task["rounds"])
    if comm.rank == 0:
        Path(task["folder"], "result.json").write_text(json.dumps({**found, "parameters": parts.sync.flat.n}))
    stop.over()
    parts.sync.close()
    topology.close()


if __name__ == "__main__":
    main()
