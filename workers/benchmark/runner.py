"""One mode with endless batches, ready to be timed; and how modes take turns."""

import itertools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from common.config import RunConfig
from common.data.dataset import Dataset
from common.data.loader import Batch
from common.data.ticket_loader import Loader
from common.errors import JobError, NotFiniteError, StepError
from common.nn.mlp import Mlp
from common.nn.models import Model
from common.nn.schedules import learning_rates
from ps.comm.topology import Topology
from workers.benchmark import machine
from workers.launch.signals import StopRequest
from workers.training.build import TrainingParts, assemble
from workers.training.task import Task
from workers.training.timed_steps import StepClocks, take_steps


@dataclass(frozen=True, slots=True)
class Runner:
    """One mode, and endless batches with the rate of each. Methods are collective, and raise JobError on all ranks."""

    topology: Topology
    stop: StopRequest
    config: RunConfig
    parts: TrainingParts
    batches: Iterator[tuple[Batch, float]]

    @property
    def mode(self) -> str:
        """The mode's name."""
        return self.parts.mode

    def run(self, steps: int) -> float:
        """Take steps; return the slowest rank's seconds of one."""
        return machine.slowest(self.topology.comm, self.take(steps).seconds / steps)

    def take(self, steps: int, *, clocks: bool = False) -> StepClocks:
        """Take steps; return when."""
        try:
            return take_steps(self.topology.comm, self.parts.sync, self.batches, steps, self.stop, clocks=clocks)
        except NotFiniteError:
            raise JobError(
                f"mode {self.mode}: loss or gradient is not finite; give a smaller --learning-rate than "
                f"{self.config.learning_rate:g}"
            ) from None
        except StepError:
            raise JobError(f"mode {self.mode}: parameters differ between ranks; look for a faulty node") from None


@dataclass(frozen=True, slots=True)
class Workload:
    """What all modes train."""

    topology: Topology
    stop: StopRequest
    config: RunConfig
    data: Dataset
    model: Model | Mlp

    def start(self, mode: str, stack: ExitStack, model: Model | Mlp | None = None) -> Runner:
        """Build a mode, which ``stack`` will close, and fill its parameters. Collective; raises JobError."""
        parts = assemble(mode, self.topology, Task(self.config, self.data, model or self.model))
        stack.callback(parts.sync.close)
        return Runner(self.topology, self.stop, self.config, parts, _endless(parts.loader, self.config))


def _endless(loader: Loader, config: RunConfig) -> Iterator[tuple[Batch, float]]:
    """Continue after the last epoch, at its rates."""
    for epoch in itertools.count(1):
        rates = learning_rates(config, min(epoch, config.epochs), loader.steps)
        yield from zip(loader.epoch(epoch), rates, strict=True)


@contextmanager
def closing(topology: Topology) -> Iterator[ExitStack]:
    """Close at the end what was put on the stack; not if one rank alone fails, since closing is collective."""
    stack, fault = ExitStack(), None
    try:
        yield stack
    except JobError as error:
        fault = error
    stack.close()
    topology.comm.Barrier()
    if fault:
        raise fault


def order(n: int, number: int) -> list[int]:
    """Return in which order round ``number`` (from 0) takes n modes.

    Rows of a Williams design (Williams 1949, Australian Journal of Scientific Research A 2): over n rounds, or 2n if n
    is odd, each mode comes equally often at each place and directly after each other one.
    """
    first = [(place + 1) // 2 if place % 2 else -(place // 2) for place in range(n)]
    row = [(mode + number) % n for mode in first]
    return row[::-1] if n % 2 and number // n % 2 else row


def steps_in(seconds: float, once: float, fewest: int = 1, most: int = 100_000) -> int:
    """Return how many steps that take ``once`` seconds each fill a time."""
    return max(fewest, min(most, round(seconds / once)))
