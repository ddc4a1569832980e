"""Training steps through the loop of a run: modes in turn, round by round, and what single ones consist of."""

import itertools
import statistics
from typing import Any

import numpy as np
from mpi4py import MPI

from common.data.dataset import Dataset
from common.errors import JobError
from common.nn import models
from common.nn.mlp import Mlp
from ps.comm.agreement import together
from ps.comm.topology import Topology
from ps.metrics.median_intervals import interval
from workers.benchmark import machine
from workers.benchmark.bench_options import BenchConfig
from workers.benchmark.runner import Runner, opened
from workers.benchmark.split_runner import SplitRunner, stamped
from workers.launch import signals
from workers.training.loop import EVALUATION_ROWS

DATA_BYTES, DATA_BATCHES = 32 << 20, 32
ROUND_S, WARM_UP_S, SPLIT_S = 0.25, 0.1, 0.3
TOLERANCE = {"float32": 1e-3, "float64": 1e-8}
"""Difference of final losses that rounding explains, as a share of the loss at the start."""


def synthetic(bench: BenchConfig, batch: int) -> Dataset:
    """Make standard-normal features, with random classes or, for one output, standard-normal targets."""
    n_in, n_out = bench.layer_sizes[0], bench.layer_sizes[-1]
    fit = DATA_BYTES // (batch * (n_in + 1) * np.dtype(bench.dtype).itemsize)
    batches = bench.rows // bench.batch if bench.rows else max(1, min(DATA_BATCHES, fit))
    n = batch * batches  # whole ones, so that all steps are alike
    rng = np.random.default_rng(bench.seed)
    rows = np.ones((n, n_in + 1), bench.dtype)
    for start in range(0, n, EVALUATION_ROWS):  # no second copy of it all
        part = rows[start : start + EVALUATION_ROWS, :-1]
        part[...] = rng.standard_normal(part.shape, np.float32)
    y = rng.standard_normal((n, 1)).astype(bench.dtype) if n_out == 1 else rng.integers(0, n_out, n)
    none = np.empty(0, np.int64)
    classes = 0 if n_out == 1 else n_out
    return Dataset("synthetic", rows[:, :-1], y, classes, "", np.arange(n), none, none, None, rows)


def mean_loss(comm: MPI.Comm, data: Dataset, model: Mlp, params: Any) -> float:
    """Return the mean loss over all rows, of which each rank evaluates its share. Collective."""
    own = data.train[comm.rank :: comm.size]
    total = np.zeros(1)
    for start in range(0, len(own), EVALUATION_ROWS):
        chosen = own[start : start + EVALUATION_ROWS]
        total += model.loss.sum(model.predict(params, data.x[chosen]), data.y[chosen])
    comm.Allreduce(MPI.IN_PLACE, total)
    return float(total[0]) / len(data.train)


def flops(sizes: tuple[int, ...], batch: int) -> int:
    """Return the operations of a step's matrix products; the first layer's input needs no gradient."""
    return sum(2 * batch * a * b * (3 if i else 2) for i, (a, b) in enumerate(itertools.pairwise(sizes)))


def measure(topology: Topology, bench: BenchConfig, stop: signals.StopFlag) -> dict[str, Any]:
    """Measure every mode alone (first step, split, memory), then all of them in turn. Collective."""
    data, model = together(topology.comm, lambda: prepare(bench, bench.batch))
    found: dict[str, Any] = {"start": None, "rows": len(data.train), "modes": {}}
    for mode in bench.chosen:
        alone = _alone(topology, bench, mode, data, model, stop)
        found["start"] = found["start"] or alone["start"]
        found["modes"][mode] = alone
    timed = in_turn(topology, bench, bench.batch, (data, model), stop, products=True)
    for mode, figures in timed.pop("modes").items():
        found["modes"][mode].update(figures)
    return {**found, **timed, "flops": flops(bench.layer_sizes, bench.batch)}


def prepare(bench: BenchConfig, batch: int) -> tuple[Dataset, Mlp]:
    """Make data and model."""
    data = synthetic(bench, batch)
    return data, models.build(bench.run_config(batch), data.x.shape[1], data.n_classes, 1)


def _alone(
    topology: Topology, bench: BenchConfig, mode: str, data: Dataset, model: Mlp, stop: signals.StopFlag
) -> dict[str, Any]:
    """Measure what needs a mode of its own: nothing else in memory, clocks within the step."""
    stamps: list[float] = []
    machine.reset_peak()
    config = bench.run_config(bench.batch)
    with opened(topology, lambda: SplitRunner(topology, mode, config, data, stamped(model, stamps))) as (runner,):
        runner.run(1, stop)
        seconds, by = machine.since_launch()
        start = {"seconds": machine.slowest(topology.comm, seconds), "from": by}
        steps = _count([runner.run(1, stop)], WARM_UP_S)
        once = runner.run(steps, stop) / steps
        parts = runner.split(max(5, min(500, int(SPLIT_S / once))), stamps)
        sent = np.array([runner.parts.sync.sent_bytes, runner.parts.sync.sent_bytes], np.int64)
        topology.comm.Allreduce(MPI.IN_PLACE, sent[:1], MPI.MAX)
        topology.comm.Allreduce(MPI.IN_PLACE, sent[1:])
        memory = machine.memory(topology)
    sizes = {"sent_bytes_most": int(sent[0]), "sent_bytes_all": int(sent[1])}
    return {"start": start, "split_s": parts, **sizes, **memory}


def in_turn(
    topology: Topology,
    bench: BenchConfig,
    batch: int,
    work: tuple[Dataset, Mlp],
    stop: signals.StopFlag,
    *,
    products: bool = False,
) -> dict[str, Any]:
    """Time all modes round by round from the same start, each round in another order. Collective."""
    comm, (data, model) = topology.comm, work
    config = bench.run_config(batch)
    make = [lambda mode=mode: Runner(topology, mode, config, data, model) for mode in bench.chosen]
    with opened(topology, *make) as runners:
        losses = {"start": mean_loss(comm, data, model, runners[0].parts.sync.flat.params)}
        warm = [runner.run(3, stop) / 3 for runner in runners]
        once = max(runner.run(steps, stop) / steps for runner in runners for steps in [_count(warm, WARM_UP_S)])
        steps = bench.steps or _count([once], ROUND_S)
        peak = machine.Products(comm, bench.dtype) if products else None
        times: dict[str, list[float]] = {runner.mode: [] for runner in runners}
        for runner in runners:
            runner.parts.loader.input_s = 0.0
        for k in range(bench.rounds):
            for i in range(len(runners)):
                runner = runners[(i + k) % len(runners)]
                times[runner.mode].append(runner.run(steps, stop) / steps)
            if peak:
                peak.measure()
        found: dict[str, Any] = {}
        for runner in runners:
            input_s = np.array([runner.parts.loader.input_s / (steps * bench.rounds)])
            comm.Allreduce(MPI.IN_PLACE, input_s)
            found[runner.mode] = {
                **interval(times[runner.mode]).seconds(),
                "rounds_s": times[runner.mode],
                "rows_per_s": batch / statistics.median(times[runner.mode]),
                "input_s": float(input_s[0]) / comm.size,
            }
            losses[runner.mode] = mean_loss(comm, data, model, runner.parts.sync.flat.params)
    result = {"steps": steps, "losses": losses, "modes": found}
    return {**result, "peak_flops": statistics.median(peak.rates)} if peak else result


def _count(seconds: list[float], wanted: float) -> int:
    """Return how many of the slowest steps take so long."""
    return max(1, min(100_000, round(wanted / max(seconds))))


def check_losses(result: dict[str, Any]) -> None:
    """Raise JobError, the same on all ranks, if modes that started alike did not end alike."""
    for found in [result, *result.get("table", [])]:
        losses = dict(found.get("losses", {}))
        start = losses.pop("start", 0.0)
        allowed = TOLERANCE[result["options"]["dtype"]] * start
        if losses and max(losses.values()) - min(losses.values()) > allowed:
            ends = ", ".join(f"{mode} {loss:.8g}" for mode, loss in losses.items())
            raise JobError(
                f"modes: from the same start they end with different losses, {ends}; the largest difference allowed is "
                f"{allowed:.3g}; give fewer --steps or a smaller --learning-rate, and report it if that does not help"
            )
