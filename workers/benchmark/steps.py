"""Training steps of a synthetic workload: modes in turn, round by round, and the parts of a single mode's steps."""

import copy
import itertools
import statistics
import time
from typing import Any

import numpy as np
from mpi4py import MPI

from common import memory
from common.data.dataset import Dataset
from common.data.features import HeldFeatures
from common.errors import JobError
from common.flat import Array
from common.nn import models
from common.nn.functional import LossStep
from common.nn.mlp import Mlp
from ps.comm.agreement import together
from ps.comm.topology import Topology
from ps.metrics.median_intervals import interval
from workers.benchmark import machine
from workers.benchmark.options import BenchConfig
from workers.benchmark.runner import Runner, Workload, closing, order, steps_in
from workers.launch.signals import StopRequest
from workers.training.loop import EVALUATION_ROWS

DATA_BYTES, DATA_BATCHES = 32 << 20, 32
ROUND_S, WARM_UP_S, SPLIT_S = 0.25, 0.1, 0.3
TOLERANCE = {"float32": 1e-3, "float64": 1e-8}
"""Difference of final losses that rounding explains, as a fraction of the loss at the start."""
PARTS = ("forward", "backward", "wait", "transfer", "update")


def synthetic(bench: BenchConfig, batch: int) -> Dataset:
    """Make standard-normal features, with random classes or, for one output, standard-normal targets."""
    n_in, n_out = bench.layers[0], bench.layers[-1]
    fit = DATA_BYTES // (batch * (n_in + 1) * np.dtype(bench.dtype).itemsize)
    batches = bench.rows // bench.batch if bench.rows else max(1, min(DATA_BATCHES, fit))
    n = batch * batches  # whole ones, so that all steps are alike
    memory.check(f"{n:,} rows of {n_in:,} features", 0, n * (n_in + 2) * np.dtype(bench.dtype).itemsize, "fewer --rows")
    rng = np.random.default_rng(bench.seed)
    rows = np.ones((n, n_in + 1), bench.dtype)
    for start in range(0, n, EVALUATION_ROWS):  # no second copy of it all
        some = rows[start : start + EVALUATION_ROWS, :-1]
        some[...] = rng.standard_normal(some.shape, np.float32)
    y = rng.standard_normal((n, 1)).astype(bench.dtype) if n_out == 1 else rng.integers(0, n_out, n)
    none = np.empty(0, np.int64)
    classes = 0 if n_out == 1 else n_out
    data = Dataset("synthetic", HeldFeatures(rows), y, classes, "", np.arange(n), none, none, None)
    if not classes:
        data.target_mean, data.target_scale = np.zeros(1), np.ones(1)
    return data


def prepare(topology: Topology, bench: BenchConfig, batch: int, stop: StopRequest) -> Workload:
    """Make data and model. Collective; raises JobError."""

    def make() -> Workload:
        config, data = bench.run_config(batch), synthetic(bench, batch)
        return Workload(topology, stop, config, data, models.build(config, data.x.shape[1], data.n_classes, 1))

    return together(topology.comm, make)


def measure(topology: Topology, bench: BenchConfig, stop: StopRequest) -> dict[str, Any]:
    """Measure every mode alone (first step, split, memory), then all of them in turn. Collective."""
    work = prepare(topology, bench, bench.batch, stop)
    alone = {mode: _alone(work, mode) for mode in bench.mode.split(",")}
    timed = in_turn(work, bench, products=True)
    return {
        "start": next(iter(alone.values()))["start"],
        "rows": len(work.data.train),
        **timed,
        "modes": {mode: {**figures, **timed["modes"][mode]} for mode, figures in alone.items()},
        # of a step's matrix products; the first layer's input needs no gradient
        "flops": sum(
            2 * bench.batch * a * b * (3 if i else 2) for i, (a, b) in enumerate(itertools.pairwise(bench.layers))
        ),
    }


def _alone(work: Workload, mode: str) -> dict[str, Any]:
    """Measure what needs a mode alone in memory: its first step, the parts of a step, its memory."""
    comm, forward_ends = work.topology.comm, list[float]()
    machine.reset_peak()
    with closing(work.topology) as stack:
        runner = work.start(mode, stack, _clocked(work.model, forward_ends))
        runner.run(1)
        seconds, by = machine.since_launch()
        start = {"seconds": machine.slowest(comm, seconds), "from": by}
        once = runner.run(steps_in(WARM_UP_S, runner.run(1)))
        forward_ends.clear()
        split = _split(runner, steps_in(SPLIT_S, once, fewest=5, most=500), forward_ends)
        ops = {"sent_bytes_most": MPI.MAX, "sent_bytes_all": MPI.SUM}
        sent = {name: machine.reduced(comm, runner.parts.sync.sent_bytes, op) for name, op in ops.items()}
        memory = machine.memory(work.topology)
    return {"start": start, "split_s": split, **sent, **memory}


def _split(runner: Runner, steps: int, forward_ends: list[float]) -> dict[str, float]:
    """Return a step's parts in seconds, medians over steps, means over ranks."""
    comm, timer = runner.topology.comm, runner.parts.sync.meter.timer
    clocks = runner.take(steps, clocks=True)
    forward, in_sync = np.array(forward_ends) - clocks.begin, timer.left[:steps] - timer.arrived[:steps]
    backward, update = clocks.computed - forward_ends, clocks.end - clocks.computed - in_sync
    times = timer.close_epoch()
    exchange = times.wait_median_s, times.transfer_median_s
    medians = (np.median(forward), np.median(backward), *exchange, np.median(update))
    means = (machine.reduced(comm, float(seconds), MPI.SUM) / comm.size for seconds in medians)
    return dict(zip(PARTS, means, strict=True))


def _clocked(model: Any, forward_ends: list[float]) -> Mlp:
    """Return an Mlp with a clock between forward, which ends with the loss's gradient, and backward."""
    loss = copy.copy(model.loss)

    def gradient(out: Array) -> LossStep:
        inner = model.loss.gradient(out)

        def step(target: Array, scale: float, weight: Array | None = None) -> float:
            total: float = inner(target, scale, weight)
            forward_ends.append(time.perf_counter())
            return total

        return step

    loss.gradient = gradient
    return Mlp(model.sizes, model.activation_name, loss)


def in_turn(work: Workload, bench: BenchConfig, *, products: bool = False) -> dict[str, Any]:
    """Time all modes round by round from the same start, each round in another order. Collective.

    ``products``: also measure the machine's matrix products between the rounds.
    """
    comm = work.topology.comm
    product_rates = machine.product_rates(comm, bench.dtype) if products else None
    rates: list[float] = []
    with closing(work.topology) as stack:
        runners = [work.start(mode, stack) for mode in bench.mode.split(",")]
        losses = {"start": _mean_loss(work, runners[0])}
        warm = steps_in(WARM_UP_S, max(runner.run(3) for runner in runners))
        once = max(runner.run(warm) for runner in runners)
        steps = bench.steps or steps_in(ROUND_S, once)
        times = {runner.mode: list[float]() for runner in runners}
        before = [runner.parts.loader.input_s for runner in runners]
        for k in range(bench.rounds):
            for runner in (runners[i] for i in order(len(runners), k)):
                times[runner.mode].append(runner.run(steps))
            if product_rates:
                rates.append(next(product_rates))
        found: dict[str, Any] = {}
        for runner, input_s in zip(runners, before, strict=True):
            own_s = (runner.parts.loader.input_s - input_s) / (steps * bench.rounds)
            found[runner.mode] = {
                **interval(times[runner.mode]).seconds(),
                "rounds_s": times[runner.mode],
                "rows_per_s": work.config.batch_size / statistics.median(times[runner.mode]),
                "input_s": machine.reduced(comm, own_s, MPI.SUM) / comm.size,
            }
            losses[runner.mode] = _mean_loss(work, runner)
    result = {"steps": steps, "losses": losses, "modes": found}
    return {**result, "peak_flops": statistics.median(rates)} if rates else result


def _mean_loss(work: Workload, runner: Runner) -> float:
    """Return the mean loss over all rows, of which each rank evaluates its own. Collective."""
    comm, data, model = work.topology.comm, work.data, work.model
    own, total = data.train[comm.rank :: comm.size], 0.0
    for start in range(0, len(own), EVALUATION_ROWS):
        chosen = own[start : start + EVALUATION_ROWS]
        total += model.loss.sum(model.predict(runner.parts.sync.flat.fixed_params, data.x[chosen]), data.y[chosen])
    return float(machine.reduced(comm, total, MPI.SUM)) / len(data.train)


def check_losses(result: dict[str, Any]) -> None:
    """Raise JobError, the same on all ranks, if modes that started alike did not end alike."""
    for found in [result, *result.get("table", [])]:
        losses = dict(found.get("losses", {}))
        allowed = TOLERANCE[result["options"]["dtype"]] * losses.pop("start", 0.0)
        if losses and max(losses.values()) - min(losses.values()) > allowed:
            ends = ", ".join(f"{mode} {loss:.8g}" for mode, loss in losses.items())
            raise JobError(
                f"modes: from the same start they end with different losses, {ends}; the largest difference allowed is "
                f"{allowed:.3g}; give fewer --steps or a smaller --learning-rate, and report it if that does not help"
            )
