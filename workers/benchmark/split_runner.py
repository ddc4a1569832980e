"""A mode taken apart: how long forward, backward, waiting, exchange and update of a step take."""

import copy
import itertools
import time

import numpy as np
from mpi4py import MPI

from common.flat import Array
from common.nn.functional import LossGradient
from common.nn.mlp import Mlp
from workers.benchmark.runner import Runner

PARTS = ("forward", "backward", "wait", "transfer", "update")


class SplitRunner(Runner):
    """A mode whose steps can be taken with clocks in them."""

    def split(self, steps: int, stamps: list[float]) -> dict[str, float]:
        """Return a step's parts in seconds, medians over steps, means over ranks; ``stamps``: ends of forward."""
        sync, timer = self.parts.sync, self.parts.timer
        self.make_room(steps)
        stamps.clear()
        marks = np.empty((3, steps))
        self.comm.Barrier()
        with self.agreed_end():
            for k, (batch, rate) in enumerate(itertools.islice(self.batches, steps)):
                marks[0, k] = time.perf_counter()
                loss_sum = sync.backward(batch, rate, sample=False)
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


class StampedGradient(LossGradient):
    """The gradient of a loss, with which a forward pass ends; notes when."""

    def __init__(self, inner: LossGradient, stamps: list[float]) -> None:
        super().__init__(inner.out)
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
