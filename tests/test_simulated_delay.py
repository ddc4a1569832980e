"""Delays in one process: what is drawn, what is computed with it, and that it repeats to the bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.config import OPTIMIZERS, RunConfig
from common.errors import EXIT_USAGE, JobError
from common.flat import Array
from common.nn import optimizers
from ps.sync.served.simulated import DelayedOptimizer
from tests.ranks import SharedStart, epochs
from workers.checkpoint.origin import Origin
from workers.training.fit import check_fit

LR, STEPS = 0.1, 40
START = np.random.default_rng(0).normal(size=7)
CURVATURE = np.linspace(0.2, 3.0, 7)


class Run:
    """Training on a quadratic in two blocks, with delays."""

    def __init__(self, **options: Any) -> None:
        options = {"simulate_delay": 3, "optimizer": "sgd", **options}
        self.w = START.copy()
        config = RunConfig(mode="async", dtype="float64", **options)
        self.optimizer = DelayedOptimizer(optimizers.build, config, [self.w[:2], self.w[2:]])

    def steps(self, n: int = STEPS) -> "Run":
        for _ in range(n):
            grad = CURVATURE * np.concatenate(self.optimizer.draw())
            grad *= self.optimizer.begin(LR)
            self.optimizer.update(0, grad[:2])
            self.optimizer.update(1, grad[2:])
        return self


def plain(name: str) -> Array:
    w = START.copy()
    optimizer = optimizers.build(RunConfig(dtype="float64", optimizer=name), [w])
    for _ in range(STEPS):
        optimizer.update(0, optimizer.begin(LR) * (CURVATURE * w))
    return w


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_has_the_bits_of_its_repeat_and_no_others(name: str) -> None:
    first, again, other = (Run(optimizer=name, seed=seed).steps() for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.w, again.w)
    assert first.optimizer.delays == again.optimizer.delays
    assert not np.array_equal(first.w, other.w)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_where_no_delay_is_allowed_it_is_the_plain_optimizer(name: str) -> None:
    run = Run(optimizer=name, max_delay="1").steps()
    np.testing.assert_array_equal(run.w, plain(name))
    figures = run.optimizer.take_figures()
    assert figures["staleness_most"] == 0
    assert figures["dropped"] > 0
    assert figures["pushes"] == STEPS + figures["dropped"]


def test_gradients_are_of_the_parameters_so_many_updates_ago() -> None:
    run = Run().steps()
    past = [START.copy()]
    for delay in run.optimizer.delays:
        past.append(past[-1] - LR * CURVATURE * past[-1 - delay])
    np.testing.assert_allclose(run.w, past[-1], rtol=1e-12)
    assert set(run.optimizer.delays) == {0, 1, 2, 3}
    assert run.optimizer.delays[0] == 0
    figures = run.optimizer.take_figures()
    assert figures["staleness_most"] == 3
    assert 1.0 < figures["staleness_mean"] < 2.0  # of 0, 1, 2 and 3 alike
    assert run.optimizer.take_figures()["pushes"] == 0


def test_old_gradients_are_compensated_for_the_parameters_they_are_of() -> None:
    run = Run(delay_compensation="constant").steps()
    past = [START.copy()]
    for delay in run.optimizer.delays:
        then, now = past[-1 - delay], past[-1]
        grad = CURVATURE * then
        past.append(now - LR * (grad + 0.04 * grad * grad * (now - then)))
    np.testing.assert_allclose(run.w, past[-1], rtol=1e-12)


@pytest.mark.parametrize("options", [{}, {"optimizer": "adam", "delay_compensation": "adaptive"}])
def test_a_resumed_run_goes_on_with_the_same_bits(options: dict[str, Any]) -> None:
    first, resumed = Run(**options).steps(17), Run(**options)
    np.copyto(resumed.w, first.w)
    for name, arrays in first.optimizer.state().items():
        for own, other in zip(resumed.optimizer.state()[name], arrays, strict=True):
            np.copyto(own, other)
    resumed.optimizer.restore(first.optimizer.counts())
    np.testing.assert_array_equal(resumed.steps().w, first.steps().w)


def test_a_step_that_is_left_out_is_taken_again_with_its_delay() -> None:
    first, skipped = Run().steps(10), Run().steps(10)
    skipped.optimizer.draw()
    skipped.optimizer.begin(LR)
    skipped.optimizer.undo_begin()
    np.testing.assert_array_equal(skipped.steps().w, first.steps().w)


def test_delays_of_several_ranks_are_not_simulated() -> None:
    config = RunConfig(mode="async", simulate_delay=3)
    with pytest.raises(JobError, match="simulate_delay: 3 is for one process, but there are 2 ranks") as raised:
        check_fit(config, Origin(), 2)
    assert raised.value.exit_code == EXIT_USAGE


@pytest.mark.parametrize(
    ("options", "message"),
    [({"mode": "async", "simulate_delay": 3, "order": "clock"}, "order: clock has no effect with --simulate-delay"),
     ({"mode": "local", "optimizer": "sgd", "local_momentum": "keep"}, "local_momentum: keep has no effect with")],
)  # fmt: skip
def test_options_without_an_effect_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(JobError, match=message) as raised:
        check_fit(RunConfig(**options), Origin(), 1)
    assert raised.value.exit_code == EXIT_USAGE


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> SharedStart:
    folder = tmp_path_factory.mktemp("simulated")
    given = ["-m", "workers.run", "--mode", "async", "--hidden", "16", "--simulate-delay", "3"]
    named = {
        "first": [*given, "--epochs", "3"],
        "again": [*given, "--epochs", "3"],
        "parts": [*given, "--epochs", "2"],
        "rest": ["-m", "workers.run", "--resume", str(folder / "1" / "parts"), "--epochs", "3"],
    }
    return SharedStart(folder, {name: (1, job) for name, job in named.items()})


def test_a_whole_run_has_the_bits_of_its_repeat(batch: SharedStart) -> None:
    first, again = batch.run("first"), batch.run("again")
    assert fingerprints(first) == fingerprints(again)
    for epoch in epochs(first):
        assert epoch["staleness_most"] == [3]
        assert epoch["pushes"] == [epoch["steps"]]


def test_a_whole_run_that_is_resumed_has_them_too(batch: SharedStart) -> None:
    assert batch["rest"].code == 0, batch["rest"].err
    assert fingerprints(batch.run("parts")) == fingerprints(batch.run("first"))


def fingerprints(run: Path) -> list[str]:
    return [epoch["fingerprint"][0] for epoch in epochs(run)]
