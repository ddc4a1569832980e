"""One mode and its batches, through the loop of a run."""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np

from common.config import RunConfig
from common.data.dataset import Dataset
from common.data.loader import Batch, BatchLoader
from common.errors import EXIT_STOPPED, JobError, NotFiniteError, StepError
from common.nn.mlp import Mlp
from common.nn.models import Model
from common.nn.schedules import learning_rates
from ps.comm.topology import Topology
from workers.benchmark import machine
from workers.launch import signals
from workers.training.build import TrainingParts, assemble


class Runner:
    """One mode, assembled from the start, and its endless batches with the rate of each."""

    def __init__(self, topology: Topology, mode: str, config: RunConfig, data: Dataset, model: Model | Mlp) -> None:
        self.comm = topology.comm
        self.mode = mode
        self.config = config
        self.parts: TrainingParts = assemble(mode, topology, config, data, model)
        self.batches = _endless(self.parts.loader, config)

    def make_room(self, steps: int) -> None:
        """Let the clock keep as many steps, which may be more than an epoch has, and start anew."""
        timer = self.parts.timer
        if len(timer.left) < steps:
            timer.resize(steps)
        timer.steps = 0

    def run(self, steps: int, stop: signals.StopFlag) -> float:
        """Take steps; return the seconds of the slowest rank. Collective; raises JobError on all ranks."""
        sync = self.parts.sync
        self.make_room(steps)
        self.comm.Barrier()
        start = time.perf_counter()
        with self.agreed_end():
            for batch, rate in itertools.islice(self.batches, steps):
                loss_sum = sync.backward(batch, rate, sample=False)
                if sync.step(batch, loss_sum, stop=stop.signal != 0, sample=False):
                    raise stopped()
        return machine.slowest(self.comm, time.perf_counter() - start)

    @contextmanager
    def agreed_end(self) -> Iterator[None]:
        """Turn what all ranks find in the same step into a message."""
        try:
            with np.errstate(all="ignore"):  # found out, and told, by the synchroniser
                yield
        except StepError as fault:
            if not isinstance(fault, NotFiniteError):
                raise JobError(f"mode {self.mode}: parameters differ between ranks; look for a faulty node") from None
            raise JobError(
                f"mode {self.mode}: loss or gradient is not finite; give a smaller --learning-rate than "
                f"{self.config.learning_rate:g}"
            ) from None


def _endless(loader: BatchLoader, config: RunConfig) -> Iterator[tuple[Batch, float]]:
    """Go on after the last epoch, at its rates."""
    for epoch in itertools.count(1):
        rates = learning_rates(config, min(epoch, config.epochs), loader.steps)
        yield from zip(loader.epoch(epoch), rates, strict=True)


def stopped() -> JobError:
    """Return what ends a measurement that a signal stops on all ranks."""
    return JobError("stopped by a signal; nothing was saved", EXIT_STOPPED)


Made = TypeVar("Made", bound=Runner)


@contextmanager
def opened(topology: Topology, *make: Callable[[], Made]) -> Iterator[list[Made]]:
    """Make modes and close them; not where one rank alone fails, for closing is collective."""
    runners: list[Made] = []
    fault = None
    try:
        for one in make:
            runners.append(one())  # noqa: PERF401 - those made before one that fails must be closed
        yield runners
    except JobError as error:
        fault = error
    for runner in runners:
        runner.parts.sync.close()
    topology.comm.Barrier()
    if fault:
        raise fault
