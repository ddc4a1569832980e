"""How many steps are measured: as many as 2 % of the time allows, at least 8, the same on all ranks."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from common.step_times import BEGIN, END, NUMBER, SAMPLE_MOST, TIMESTAMPS, n_samples
from ps.logfile.records import Record
from ps.metrics.sampling_budget import SamplingBudget
from ps.metrics.step_meter import cost_of_sampling
from ps.sync.modes import exact
from tests.ranks import Result, SharedStart, epochs, program, records

Job = Callable[..., Result]


def epoch(steps: int, step_s: float, cost_s: float, sampled: int = 8) -> Record:
    """Return what a record says of an epoch's cost; the second rank is cheaper."""
    return {"steps": steps, "sampled_steps": list(range(sampled)), "sample_cost_s": [cost_s, cost_s / 2],
            "loop_s": [steps * step_s, steps * step_s * 1.02]}  # fmt: skip


@pytest.mark.parametrize(
    ("steps", "step_s", "cost_s", "samples"),
    [(20, 1e-3, 50e-6, 8), (1000, 1e-3, 50e-6, 404), (1000, 1e-3, 1e-3, 20), (1000, 1e-3, 1e-2, 8), (5, 1.0, 1e-4, 5),
     (100_000, 1e-2, 1e-5, 1024)],
)  # fmt: skip
def test_two_percent_of_the_time_are_spent_on_samples(steps: int, step_s: float, cost_s: float, samples: int) -> None:
    budget = SamplingBudget()
    for _ in range(3):
        rate = budget.rate(epoch(steps, step_s, cost_s))
    assert n_samples(steps, rate) == pytest.approx(samples, abs=1)
    if 8 < samples < 1024:
        assert samples * cost_s <= 0.0203 * steps * step_s


def test_the_first_epochs_cost_does_not_last_and_nothing_measured_changes_nothing() -> None:
    budget = SamplingBudget()
    assert budget.rate(epoch(0, 1e-3, 1e-3)) == 0
    first = budget.rate(epoch(100, 1e-3, 1e-3))
    for _ in range(10):
        rate = budget.rate(epoch(100, 1e-3, 1e-4))
    assert rate == pytest.approx(10 * first, rel=0.02)
    assert budget.rate(epoch(100, 1e-3, 1e-4, sampled=0)) == rate


def test_what_a_sample_adds_is_found_beside_other_load() -> None:
    """Steps of 1 ms, sampled ones 0.4 ms longer, of which 0.1 ms is measuring; now and then 20 ms of others."""
    steps, sampled = 200, range(5, 200, 10)
    lengths = np.full(steps, 1e-3)
    lengths[list(sampled)] += 4e-4
    lengths[::7] += 0.02
    ends = np.cumsum(lengths)
    lines = np.zeros((len(sampled), NUMBER + 1))
    for line, k in zip(lines, sampled, strict=True):
        line[BEGIN], line[END], line[NUMBER] = ends[k] - lengths[k], ends[k], k
    arrived = ends - lengths + 0.5e-3
    assert cost_of_sampling(arrived, lines, 1e-4 * len(sampled)) == pytest.approx(4e-4)
    assert cost_of_sampling(arrived, lines, 6e-4 * len(sampled)) == pytest.approx(6e-4)
    assert cost_of_sampling(arrived[:1], lines[:0], 0.0) == 0
    few = lines[:2].copy()
    few[:, NUMBER] = 0, 1
    assert cost_of_sampling(arrived[:2], few, 4e-4) == pytest.approx(2e-4)  # nothing to compare with


@pytest.mark.parametrize("n", [1, 3, 4])
def test_no_parameter_depends_on_what_is_sampled(n: int) -> None:
    assert program(n, "sampled.py").out == f"ok {n}\n"


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> SharedStart:
    """Return a run in each mode."""
    options = ["-m", "workers.run", "--epochs", "6", "--hidden", "8", "--mode"]
    return SharedStart(tmp_path_factory.mktemp("sampling"), {mode: (2, [*options, mode]) for mode in exact()})


@pytest.mark.parametrize("mode", exact())
def test_a_run_measures_what_it_may(batch: SharedStart, mode: str) -> None:
    """20 steps an epoch: never fewer than 8 samples, no more than the costs before allowed, and 8 with timestamps."""
    run = batch.run(mode)
    budget, samples = SamplingBudget(), 8
    for record in epochs(run):
        assert record["samples"] == len(record["sampled_steps"]) == samples
        assert min(record["sample_cost_s"]) > 0
        for rank in range(2):
            assert record["share_low"][rank] <= record["share_all"][rank] <= record["share_high"][rank]
            assert record["chance_low"][rank] < 0.5003 > 0.4997 > 1 - record["chance_high"][rank]
        samples = n_samples(20, budget.rate(record))
    lines = [r for r in records(run) if r["kind"] == "steps"]
    assert {len(r["steps"]) for r in lines} == {SAMPLE_MOST}
    assert all(set(r["steps"]) <= set(e["sampled_steps"]) for r, e in zip(lines, epochs(run), strict=True))
    assert set(lines[0]["moments_us"]) == {*TIMESTAMPS, "last"}


def test_one_step_an_epoch_has_a_band_but_no_interval(job: Job, tmp_path: Path) -> None:
    assert job(3, "--epochs", "2", "--hidden", "8", "--batch-size", "0").code == 0
    for record in epochs(tmp_path / "run"):
        assert record["sampled_steps"] == [1]
        assert record["share_low"] == record["share_high"] == [None] * 3
        assert None not in record["chance_low"]
    assert records(tmp_path / "run")[-1]["not_judged"]["straggler"] == "fewer than 5 epochs"
