"""Sums of one vector by every mode, without a model's computation, beside MPI_Allreduce."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.config import RunConfig
from common.data.loader import Batch, BatchLoader
from common.errors import EXIT_STOPPED, JobError, RankwiseError
from common.flat import Array, Views
from common.nn.functional import Loss, MeanSquaredError
from common.nn.optimizers import Sgd
from ps.comm.agreement import together
from ps.comm.topology import Topology
from ps.metrics.median_intervals import interval
from ps.metrics.sync_timer import SyncTimer
from ps.sync.allreduce import Allreduce
from ps.sync.modes import MODES
from ps.sync.replicated import ReplicatedSync
from ps.sync.shared import SharedSync
from ps.sync.synchronizer import SyncSetup
from workers.benchmark import machine
from workers.benchmark.bench_options import BenchConfig
from workers.launch.signals import StopFlag

ROUND_S, MOST = 0.03, 1000
"""Seconds of a round, and the most sums in it if nobody says."""
RATE = 2.0**-10
RAW = "MPI_Allreduce"


@dataclass(frozen=True, slots=True)
class Task:
    """Which modes sum, in which type, in how many rounds of how many sums (0: as many as take 0.03 s)."""

    modes: Sequence[str]
    dtype: str
    rounds: int
    sums: int = 0

    @property
    def most(self) -> int:
        """The most sums of a round."""
        return max(MOST, self.sums)


class OneVector:
    """A model of one vector, whose gradient is 1 everywhere for each row."""

    loss: Loss = MeanSquaredError()

    def __init__(self, n: int) -> None:
        self.n = n

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """See Model."""
        return {"v": (self.n,)}

    def init(self, params: Views, rng: np.random.Generator) -> None:  # noqa: ARG002
        """See Model."""
        params["v"][...] = 0

    def predict(self, params: Views, x: Array) -> Array:  # noqa: ARG002
        """Return zeros."""
        return np.zeros((len(x), 1), x.dtype)

    def loss_grad(self, params: Views, x: Array, y: Array, grads: Views, ready: Callable[[str], None]) -> float:  # noqa: ARG002
        """See Model."""
        grads["v"].fill(len(x))
        return 0.0


class NoUpdate(Sgd):
    """An optimizer that leaves the parameters alone: what is left of a step is the sum."""

    def __init__(self) -> None:
        super().__init__([], RunConfig())

    def update(self, block: int, grad: Array) -> None:
        """Do nothing."""


class ModeSum:
    """Steps of a mode on one vector; each rank has one row."""

    def __init__(self, topology: Topology, mode: str, n: int, task: Task, stop: StopFlag) -> None:
        size = topology.comm.size
        self.topology, self.mode, self.stop = topology, mode, stop
        self.timer = SyncTimer(topology, task.most)
        config = RunConfig(mode=mode, optimizer="sgd", dtype=task.dtype, batch_size=size)
        sync = MODES[mode].build(SyncSetup(topology, OneVector(n), config, self.timer, np.ones((size, 1), np.int64)))
        assert isinstance(sync, ReplicatedSync | SharedSync)
        self.sync = sync
        self.bytes = (sync.flat.packet if MODES[mode].replicas else sync.flat.grad_vector).nbytes
        """What travels of a vector: with the status slots where these are summed with it."""
        self.update = sync.state.optimizer
        sync.flat.param_vector[:1] = 0
        sync.state.broadcast()
        rows, none = np.ones((1, 2), task.dtype), np.zeros(1, np.int64)
        self.loader = BatchLoader(
            rows, rows[:, :1], MeanSquaredError().encode, 1, sync.row_counts, lambda epoch: none, fixed=True,  # noqa: ARG005
            allocate=sync.allocate_rows,
        )  # fmt: skip
        self.batch: Batch = next(self.loader.epoch(1))
        self.updates = 0

    def run(self, count: int, *, update: bool) -> tuple[float, float]:
        """Take steps; return seconds from the last rank's arrival, of the sum and of all but the gradient. Collective.

        Medians of the slowest rank. Modes that sum in shared memory count it as computing; here it is the sum.
        """
        sync, batch, comm = self.sync, self.batch, self.topology.comm
        sync.state.optimizer = self.update if update else NoUpdate()
        self.updates += count if update else 0
        seconds, summing = [], []
        comm.Barrier()
        self.timer.steps = 0
        for _ in range(count):
            before = sync.meter.reduce_s
            loss_sum = sync.backward(batch, RATE, sample=False)
            start = time.perf_counter()
            if sync.step(batch, loss_sum, stop=self.stop.signal != 0, sample=False):
                raise JobError("stopped by a signal; nothing was saved", EXIT_STOPPED)
            seconds.append(time.perf_counter() - start)
            summing.append(sync.meter.reduce_s - before)
        times = self.timer.close_epoch()
        whole = statistics.median(seconds) - times.wait_median_s
        summed = times.transfer_median_s + statistics.median(summing)
        return machine.slowest(comm, summed), machine.slowest(comm, whole)

    def check(self) -> None:
        """Raise RankwiseError if sums were wrong: each update takes the rate off every parameter."""
        params, expected = self.sync.flat.param_vector, -RATE * self.updates
        if max(abs(params.max() - expected), abs(params.min() - expected)) > 1e-3 * abs(expected):
            raise RankwiseError(
                f"mode {self.mode}, sum of {len(params)}: got parameters from {params.min()} to {params.max()}, "
                f"expected {expected}; a fault of rankwise or of the MPI library, please report it"
            )


class RawSum:
    """MPI_Allreduce of a vector, in place, as written by hand."""

    def __init__(self, topology: Topology, n: int, task: Task) -> None:
        self.topology = topology
        self.timer = SyncTimer(topology, task.most)
        self.vector = np.ones(n, task.dtype)
        self.reducer = Allreduce(topology.comm, self.vector)

    def run(self, count: int) -> float:
        """Take sums, each of a vector just written as a gradient is; return seconds as ModeSum does. Collective."""
        self.topology.comm.Barrier()
        self.timer.steps = 0
        for _ in range(count):
            self.vector.fill(1)
            np.multiply(self.vector, 0.5, out=self.vector)
            start = time.perf_counter()
            self.reducer.sum()
            self.timer.add(start, time.perf_counter())
        return machine.slowest(self.topology.comm, self.timer.close_epoch().transfer_median_s)


def one_size(topology: Topology, task: Task, n: int, stop: StopFlag) -> dict[str, Any]:
    """Sum vectors of one length. Collective; what was opened is closed also if all ranks raise a JobError."""
    together(topology.comm, lambda: _check_room(topology, task, n))
    sums: dict[str, ModeSum] = {}
    ended: JobError | None = None
    result: dict[str, Any] = {}
    try:
        raw = RawSum(topology, n, task)
        for mode in task.modes:
            sums[mode] = ModeSum(topology, mode, n, task, stop)
        result = _in_turn(topology, task, raw, sums)
        for one in sums.values():
            together(topology.comm, one.check)
    except JobError as error:
        ended = error
    for one in sums.values():
        one.sync.close()
    if ended:
        raise ended
    return {"n": n, **result}


def _check_room(topology: Topology, task: Task, n: int) -> None:
    """Raise RankwiseError before memory is touched that is not there: the system would kill some process for it.

    One rank of the node looks, for no two would see the same.
    """
    if topology.local.rank:
        return
    vectors = 1 + 2 * len(task.modes)  # each mode has parameters and a gradient
    needed, there = topology.local.size * vectors * n * np.dtype(task.dtype).itemsize, machine.available_bytes()
    if 0 < there < needed:
        raise RankwiseError(
            f"this node needs {needed / 1e9:.4g} GB for sums of {n:,} numbers, {there / 1e9:.4g} GB are available; "
            "give smaller --sizes or fewer modes"
        )


def _in_turn(topology: Topology, task: Task, raw: RawSum, sums: dict[str, ModeSum]) -> dict[str, Any]:
    """Let MPI_Allreduce and the modes take turns."""
    topology.comm.Barrier()
    start = time.perf_counter()
    raw.run(2)
    for one in sums.values():
        one.run(2, update=False)
        one.run(2, update=True)
    once = machine.slowest(topology.comm, time.perf_counter() - start) / (4 * len(sums) + 2)
    count = task.sums or max(3, min(MOST, int(ROUND_S / once)))
    raw_s: list[float] = []
    sum_s: dict[str, list[float]] = {mode: [] for mode in sums}
    step_s: dict[str, list[float]] = {mode: [] for mode in sums}
    for k in range(task.rounds):
        raw_s.append(raw.run(count))
        for i in range(len(sums)):
            mode = list(sums)[(i + k) % len(sums)]
            sum_s[mode].append(sums[mode].run(count, update=False)[0])
            step_s[mode].append(sums[mode].run(count, update=True)[1])
    modes = {
        mode: {
            **interval(sum_s[mode]).seconds(),
            "bytes": sums[mode].bytes,
            "ratio": statistics.median(raw_s) / statistics.median(sum_s[mode]),
            "step_s": statistics.median(step_s[mode]),
        }
        for mode in sums
    }
    return {"count": count, "raw": interval(raw_s).seconds(), "modes": modes}


def measure(topology: Topology, bench: BenchConfig, stop: StopFlag) -> dict[str, Any]:
    """Sum vectors of every length. Collective."""
    task = Task(bench.chosen, bench.dtype, bench.rounds, bench.steps)
    return {"sizes": [one_size(topology, task, n, stop) for n in bench.vector_sizes]}
