"""One mode and its batches, through the loop of a run."""

import copy
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from mpi4py import MPI

from common.dataset import Dataset
from common.errors import EXIT_STOPPED, JobError, NotFiniteError
from common.feed import Batch
from common.flat import Array
from common.functional import LossGradient
from common.mlp import Mlp
from ps.nodes import Nodes
from workers import signals
from workers.assembly import Parts, assemble
from workers.bench import machine
from workers.bench.options import BenchConfig

PARTS = ("forward", "backward", "wait", "transfer", "update")


class Runner:
    """One mode and its endless batches."""

    def __init__(self, nodes: Nodes, mode: str, bench: BenchConfig, batch: int, data: Dataset, model: Mlp) -> None:
        self.comm = nodes.comm
        self.mode = mode
        self.parts: Parts = assemble(mode, nodes, bench.run_config(batch), data, model)
        self.batches: Iterator[Batch] = itertools.chain.from_iterable(map(self.parts.feed.epoch, itertools.count(1)))
        self.rate = bench.learning_rate

    def make_room(self, steps: int) -> None:
        """Let the clock keep as many steps, which may be more than an epoch has."""
        timer = self.parts.timer
        timer.arrived, timer.left = np.zeros(steps), np.zeros(steps)

    def run(self, steps: int, stop: signals.StopFlag) -> float:
        """Take steps; return the seconds of the slowest rank. Collective; raises JobError on all ranks."""
        sync, batches, rate, timer = self.parts.sync, self.batches, self.rate, self.parts.timer
        if len(timer.left) < steps:
            self.make_room(steps)
        timer.steps = 0
        self.comm.Barrier()
        start = time.perf_counter()
        with self.agreed_end():
            for batch in itertools.islice(batches, steps):
                loss_sum = sync.backward(batch, rate, sample=False)
                if sync.step(batch, loss_sum, stop=stop.signal != 0, sample=False):
                    raise JobError("stopped by a signal; nothing was saved", EXIT_STOPPED)
        return machine.slowest(self.comm, time.perf_counter() - start)

    @contextmanager
    def agreed_end(self) -> Iterator[None]:
        """Turn what all ranks find in the same step into a message."""
        try:
            with np.errstate(all="ignore"):  # found out, and told, by the synchroniser
                yield
        except NotFiniteError:
            raise JobError(
                f"mode {self.mode}: loss or gradient is not finite; give a smaller --learning-rate than {self.rate:g}"
            ) from None

    def split(self, steps: int, stamps: list[float]) -> dict[str, float]:
        """Return a step's parts in seconds, medians over steps, means over ranks; ``stamps``: ends of forward."""
        sync, timer = self.parts.sync, self.parts.timer
        self.make_room(steps)
        timer.steps = 0
        stamps.clear()
        marks = np.empty((3, steps))
        self.comm.Barrier()
        with self.agreed_end():
            for k, batch in enumerate(itertools.islice(self.batches, steps)):
                marks[0, k] = time.perf_counter()
                loss_sum = sync.backward(batch, self.rate, sample=False)
                marks[1, k] = time.perf_counter()
                sync.step(batch, loss_sum, stop=False, sample=False)
                marks[2, k] = time.perf_counter()
        begin, done, end = marks
        forward, in_sync = np.array(stamps) - begin, timer.left[:steps] - timer.arrived[:steps]
        own = [np.median(t) for t in (forward, done - begin - forward, end - done - in_sync)]
        times = timer.close_epoch()
        values = np.array([own[0], own[1], times.wait_median_s, times.transfer_median_s, own[2]])
        self.comm.Allreduce(MPI.IN_PLACE, values)
        return dict(zip(PARTS, (values / self.comm.size).tolist(), strict=True))


class StampedGradient:
    """The gradient of a loss, with which a forward pass ends; notes when."""

    def __init__(self, inner: LossGradient, stamps: list[float]) -> None:
        self.inner, self.stamps = inner, stamps

    def step(self, target: Array, scale: float) -> float:
        """See LossGradient."""
        total = self.inner.step(target, scale)
        self.stamps.append(time.perf_counter())
        return total


def stamped(model: Mlp, stamps: list[float]) -> Mlp:
    """Return the model with a clock between forward and backward."""
    loss, gradient = copy.copy(model.loss), model.loss.gradient
    loss.gradient = lambda out: StampedGradient(gradient(out), stamps)
    return Mlp(model.sizes, model.activation_name, loss)


@contextmanager
def opened(nodes: Nodes, *make: Callable[[], Runner]) -> Iterator[list[Runner]]:
    """Make modes and close them; not where one rank alone fails, for closing is collective."""
    runners: list[Runner] = []
    fault = None
    try:
        for one in make:
            runners.append(one())  # noqa: PERF401 - those made before one that fails must be closed
        yield runners
    except JobError as error:
        fault = error
    for runner in runners:
        runner.parts.sync.close()
    nodes.comm.Barrier()
    if fault:
        raise fault
