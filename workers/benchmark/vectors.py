"""Sums of one vector by every mode, without a model's computation, next to MPI_Allreduce."""

import itertools
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from common.config import RunConfig
from common.data.loader import BatchLoader
from common.data.row_table import RowTable
from common.errors import RankwiseError
from common.flat import Array, Views
from common.nn.functional import MeanSquaredError
from common.nn.optimizers import Sgd
from ps.comm.agreement import together
from ps.comm.topology import Topology
from ps.metrics.median_intervals import interval
from ps.metrics.step_meter import StepMeter
from ps.metrics.sync_timer import SyncTimer
from ps.sync.chosen_sum import WireSum
from ps.sync.modes import MODES
from ps.sync.synchronizer import SyncSetup
from ps.sync.wire import Wire
from workers.benchmark import machine
from workers.benchmark.options import BenchConfig
from workers.benchmark.runner import Runner, closing, order, steps_in
from workers.launch.signals import StopRequest
from workers.training.build import TrainingParts

ROUND_S, MOST = 0.03, 1000
"""Seconds of a round, and the most sums in it if nobody says."""
RATE = 2.0**-10
RAW = "MPI_Allreduce"


class SwitchedSgd(Sgd):
    """SGD that can leave the parameters alone, so that a step is only the sum."""

    on = True
    updates = 0
    """Steps that changed the parameters."""

    def switch(self, *, on: bool) -> None:
        """Update from here on, or not."""
        self.on = on

    def begin(self, lr: float) -> float:
        """See Optimizer."""
        self.updates += self.on
        return lr

    def update(self, block: int, grad: Array) -> None:
        """See Optimizer."""
        if self.on:
            np.subtract(self.params[block], grad, out=self.params[block])


@dataclass(frozen=True, slots=True)
class SumRunner(Runner):
    """Steps of a mode on one vector, whose gradient is 1 everywhere on each rank."""

    optimizer: SwitchedSgd

    def time(self, steps: int, *, update: bool) -> tuple[float, float]:
        """Take steps; return seconds from the last rank's arrival, of the sum and of all but the gradient.

        Medians of the slowest rank. Modes that sum in shared memory count it as computing; here it is the sum.
        """
        meter, comm = self.parts.sync.meter, self.topology.comm
        self.optimizer.switch(on=update)
        before = meter.reduce_s
        clocks = self.take(steps, clocks=True)
        times = meter.timer.close_epoch()
        summed = times.transfer_median_s + float(np.median(np.diff(clocks.reduce_s, prepend=before)))
        whole = float(np.median(clocks.end - clocks.computed)) - times.wait_median_s
        return machine.slowest(comm, summed), machine.slowest(comm, whole)

    def check(self) -> None:
        """Raise RankwiseError if sums were wrong: each update takes the rate off every parameter."""
        params, expected = self.parts.sync.flat.param_vector, -RATE * self.optimizer.updates
        if max(abs(params.max() - expected), abs(params.min() - expected)) > 1e-3 * abs(expected):
            raise RankwiseError(
                f"mode {self.mode}, sum of {len(params)}: got parameters from {params.min()} to {params.max()}, "
                f"expected {expected}; a fault of rankwise or of the MPI library, please report it"
            )


@dataclass(frozen=True, slots=True)
class VectorSums:
    """Sums of one vector by several modes, in ``rounds`` of so many ``sums`` (0: as many as take 0.03 s)."""

    topology: Topology
    stop: StopRequest
    modes: Sequence[str]
    dtype: str
    rounds: int
    sums: int = 0

    def measure(self, n: int) -> dict[str, Any]:
        """Sum vectors of one length: MPI_Allreduce and the modes in turn. Collective; raises JobError on all ranks."""
        comm = self.topology.comm
        together(comm, lambda: self._check_memory(n))
        with closing(self.topology) as stack:
            runners = [self._start_raw(n), *(self._start(n, mode, stack) for mode in self.modes)]
            comm.Barrier()
            start = time.perf_counter()
            for runner in runners:
                runner.time(2, update=False)
                if runner.mode != RAW:
                    runner.time(2, update=True)
            once = machine.slowest(comm, time.perf_counter() - start) / (4 * len(runners) - 2)
            count = self.sums or steps_in(ROUND_S, once, fewest=3, most=MOST)
            sum_s, step_s = ({runner.mode: list[float]() for runner in runners} for _ in range(2))
            for k in range(self.rounds):
                for runner in (runners[i] for i in order(len(runners), k)):
                    sum_s[runner.mode].append(runner.time(count, update=False)[0])
                    if runner.mode == RAW:  # MPI_Allreduce alone updates nothing
                        continue
                    step_s[runner.mode].append(runner.time(count, update=True)[1])
            for runner in runners[1:]:
                together(comm, runner.check)
        modes = {
            runner.mode: {
                **interval(sum_s[runner.mode]).seconds(),
                "bytes": runner.parts.sync.exchanged_bytes,
                "ratio": statistics.median(sum_s[RAW]) / statistics.median(sum_s[runner.mode]),
                "step_s": statistics.median(step_s[runner.mode]),
            }
            for runner in runners[1:]
        }
        return {"n": n, "count": count, "raw": interval(sum_s[RAW]).seconds(), "modes": modes}

    def _check_memory(self, n: int) -> None:
        """Raise RankwiseError before memory is touched that is not there: the system would kill some process for it.

        One rank of the node looks, for no two would see the same.
        """
        local = self.topology.local
        vectors = 1 + 2 * len(self.modes)  # each mode has parameters and a gradient
        needed = local.size * vectors * n * np.dtype(self.dtype).itemsize
        there = machine.reported_bytes("meminfo", "MemAvailable") if local.rank == 0 else 0
        if 0 < there < needed:
            raise RankwiseError(
                f"this node needs {needed / 1e9:.4g} GB for sums of {n:,} numbers, {there / 1e9:.4g} GB are available; "
                "give smaller --sizes or fewer modes"
            )

    def _start(self, n: int, mode: str, stack: ExitStack) -> SumRunner:
        """Start a mode on a model that is one vector; each rank has one row. Collective; raises JobError."""
        size = self.topology.comm.size

        def loss_grad(params: Views, x: Array, y: Array, grads: Views, ready: object) -> float:  # noqa: ARG001
            grads["v"].fill(len(x))
            return 0.0

        model: Any = SimpleNamespace(loss=MeanSquaredError(), shapes=lambda: {"v": (n,)}, loss_grad=loss_grad)
        config = RunConfig(mode=mode, optimizer="sgd", dtype=self.dtype, batch_size=size, learning_rate=RATE)
        timer, counts = SyncTimer(self.topology, MOST), RowTable.of_counts(np.ones((size, 1), np.int64))
        setup = SyncSetup(self.topology, model, config, timer, counts, lambda _, blocks: SwitchedSgd(blocks, config))
        sync = MODES[mode].build(setup)
        stack.callback(sync.close)
        sync.state.broadcast()
        optimizer = sync.state.optimizer
        assert isinstance(optimizer, SwitchedSgd)
        rows, none = np.ones((1, 2), self.dtype), np.zeros(1, np.int64)
        loader = BatchLoader(
            rows, rows[:, :1], MeanSquaredError().encode, 1, sync.row_counts, lambda epoch: none, fixed=True,  # noqa: ARG005
            allocate=sync.allocate_rows,
        )  # fmt: skip
        parts, batches = TrainingParts(mode, sync, loader), itertools.repeat((next(loader.epoch(1)), RATE))
        return SumRunner(self.topology, self.stop, config, parts, batches, optimizer)

    def _start_raw(self, n: int) -> SumRunner:
        """Return steps that write a vector and sum it by MPI_Allreduce in place, as one would by hand."""
        timer, vector = SyncTimer(self.topology, MOST), np.ones(n, self.dtype)
        reducer, now = WireSum(Wire(self.topology.comm), vector), time.perf_counter

        def backward(*_: object, **__: object) -> float:
            vector.fill(1)
            np.multiply(vector, 0.5, out=vector)
            return 0.0

        def step(*_: object, **__: object) -> int:
            start = now()
            reducer.sum()
            timer.add(start, now())
            return 0

        sync: Any = SimpleNamespace(meter=StepMeter(timer, [n]), backward=backward, step=step)
        nothing: Any = None
        parts, batches = TrainingParts(RAW, sync, nothing), itertools.repeat((nothing, RATE))
        return SumRunner(self.topology, self.stop, RunConfig(), parts, batches, SwitchedSgd([], RunConfig()))


def measure(topology: Topology, bench: BenchConfig, stop: StopRequest) -> dict[str, Any]:
    """Sum vectors of every length. Collective."""
    sums = VectorSums(topology, stop, bench.mode.split(","), bench.dtype, bench.rounds, bench.steps)
    return {"sizes": [sums.measure(n) for n in bench.vector_sizes]}
