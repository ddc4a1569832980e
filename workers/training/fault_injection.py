"""Brings faults into a run that ask for them (workers/launch/fault_spec.py), to show and test what finds them."""

import dataclasses
import os
import signal
import time
from typing import TYPE_CHECKING

import numpy as np

from common.config import RunConfig
from common.data.dataset import Dataset
from common.data.loader import Batch
from common.data.sampler import RowSampler
from common.errors import ConfigError
from common.step_times import BACKWARD
from ps.sync.modes import AUTO, MODES
from ps.sync.synchronizer import TrainingStep
from ps.text.terminal import say
from workers.launch.fault_spec import DIE, DIVERGE, HANG, NAN, SKEW, SLOW, STALL, Fault, check_steps
from workers.training import dirichlet_skew

if TYPE_CHECKING:
    from ps.coordinator.coordinator import Coordinator

HANG_S = 0.1
"""Slept at a time while hanging, for ever: between two sleeps Python runs signal handlers."""


class FaultySync:
    """A synchroniser whose rank goes wrong as asked; between it and the training loop, which sees no difference.

    ``faults``: those of this rank. ``done``: steps before this job's first.
    """

    def __init__(self, inner: TrainingStep, faults: list[Fault], done: int) -> None:
        self.inner = inner
        self.flat, self.meter = inner.flat, inner.meter
        self.slower = next((fault.x - 1 for fault in faults if fault.kind == SLOW), 0.0)
        self.stall = next((fault for fault in faults if fault.kind == STALL), None)
        self.due = {(fault.kind, fault.step) for fault in faults}
        self.steps = done
        """Taken or begun since the run began."""
        self.rest_s = 0.0
        """Useful work of a step after its gradient; the least seen, since other processes only ever add time."""
        self.ended = 0.0
        """When the step before ended, on this thread's CPU clock; 0 if there was something in between."""

    def backward(self, batch: Batch, lr: float, *, sample: bool) -> float:
        """See Synchronizer. A slow rank is busy for longer than it need be, as one on a slower core is.

        All its useful work takes ``x`` times as much of its core: input and what the loop does too, not the exchange.
        """
        self.steps += 1
        if (NAN, self.steps) in self.due:
            # like a bad row of data; in the input, so that it is found again when ranks look for the culprit
            batch.x[0, :-1] = np.nan
        meter, now = self.meter, time.thread_time
        start, reduced = now(), meter.reduce_s
        loss_sum = self.inner.backward(batch, lr, sample=sample)
        if self.slower:
            begun = self.ended if self.ended and meter.timer.steps else start
            until = now() + self.slower * (now() - begun - (meter.reduce_s - reduced) + self.rest_s)
            while now() < until:  # awake: where ranks share cores, sleepers wake up late
                pass
            if sample:
                meter.step_times.now[BACKWARD] = time.perf_counter()
        if self.stall is not None and self.steps % self.stall.every == 0:
            time.sleep(self.stall.seconds)
        while (HANG, self.steps) in self.due:  # before it says that it is at the exchange
            time.sleep(HANG_S)
        return loss_sum

    def step(self, batch: Batch, loss_sum: float, *, stop: bool, sample: bool, save: bool = False) -> int:
        """See Synchronizer."""
        if (DIE, self.steps) in self.due:
            os.kill(os.getpid(), signal.SIGKILL)
        meter = self.meter
        start, apart, exchanges = time.perf_counter(), meter.sampling_s + meter.reduce_s, meter.timer.steps
        asked = self.inner.step(batch, loss_sum, stop=stop, sample=sample, save=save)
        if self.slower:
            timer, k = meter.timer, meter.timer.steps - 1
            exchange_s = timer.left[k] - timer.arrived[k] if timer.steps > exchanges else 0.0
            apart = meter.sampling_s + meter.reduce_s - apart + exchange_s
            rest_s = max(0.0, time.perf_counter() - start - apart)
            self.rest_s = min(rest_s, self.rest_s or rest_s)
            self.ended = 0.0 if asked else time.thread_time()  # what was asked for takes time
        if (DIVERGE, self.steps) in self.due:
            self.flat.param_vector[0] += 1
        return asked

    def count_from(self, done: int) -> None:
        """Continue after so many steps of the run."""
        self.steps = done

    def not_finite(self, batch: Batch) -> list[str]:
        """See Synchronizer."""
        return self.inner.not_finite(batch)


def check(faults: tuple[Fault, ...], config: RunConfig, sampler: RowSampler, copies: int) -> None:
    """Raise ConfigError for a fault that cannot happen in this run.

    ``copies``: how often the parameters exist in the job.
    """
    check_steps(faults, config.epochs * sampler.steps_per_epoch)
    in_step = config.mode == AUTO or MODES[config.mode].exact
    lacks = (
        "exist once" if copies == 1 else
        "start different" if config.init != "broadcast" else
        "" if in_step else f"differ between exchanges (mode {config.mode})"
    )  # fmt: skip
    for fault in faults:
        if fault.kind == DIVERGE and lacks:
            raise ConfigError(
                f"inject: {fault}: needs copies of the parameters that start equal and are compared; here they "
                f"{lacks}; use --mode allreduce on at least 2 ranks, or --mode shared on several nodes, with "
                "--init broadcast"
            )
        if fault.kind == NAN and fault.rank is not None:
            rows = sampler.counts(fault.rank)
            if not rows[(fault.step - 1) % len(rows)]:
                raise ConfigError(f"inject: {fault}: the rank has no rows in that step; take another one")


def place(faults: tuple[Fault, ...], sync: TrainingStep, rank: int, done: int) -> TrainingStep:
    """Return what this rank trains with: ``sync`` itself, unless a fault is its own."""
    own = [fault for fault in faults if fault.rank == rank]
    return FaultySync(sync, own, done) if own else sync


def skew(faults: tuple[Fault, ...], data: Dataset, config: RunConfig, n_ranks: int) -> Dataset:
    """Return the data, for ``skew`` with training rows in an order in which fixed shards see parts of the target.

    That is by (first) target, or with ``alpha`` each rank's own shares of its labels.
    """
    fault = next((fault for fault in faults if fault.kind == SKEW), None)
    if fault is None:
        return data
    target = data.y[data.train].reshape(len(data.train), -1)[:, 0]
    if fault.alpha is None:
        order = np.argsort(target, kind="stable")
    else:
        order = dirichlet_skew.order(target, n_ranks, fault.alpha, config.seed)
    return dataclasses.replace(data, train=data.train[order])


def announce(coordinator: "Coordinator", faults: tuple[Fault, ...]) -> None:
    """Say on stdout and in the log what is injected, if anything is; at rank 0, once the log is open."""
    text = "; ".join(map(str, faults))
    if text:
        coordinator.event("inject", faults=text)
        say(f"Injected on purpose: {text}")
