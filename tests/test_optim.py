"""What the outside oracle does not cover of update rules and schedules."""

import math

import numpy as np
import pytest

from common.config import OPTIMIZERS, RunConfig
from common.nn import optimizers, schedules

PARAMS, GRAD = np.array([1.0, -2.0, 3.0]), np.array([0.5, 0.25, -4.0])


def after(steps: int, **options: object) -> np.ndarray:
    params = PARAMS.copy()
    update = optimizers.build(RunConfig(dtype="float64", **options), [params])  # type: ignore[arg-type]
    for _ in range(steps):
        step(update, GRAD, 0.1)
    return params


def step(update: optimizers.Optimizer, grad: np.ndarray, lr: float, block: int = 0) -> None:
    """Take a step with one block, given the mean gradient."""
    update.update(block, update.begin(lr) * grad)


@pytest.mark.parametrize("name", [n for n in OPTIMIZERS if n != "adamw"])
def test_weight_decay_is_l2_in_the_gradient(name: str) -> None:
    a, b = PARAMS.copy(), PARAMS.copy()
    update = optimizers.build(RunConfig(dtype="float64", optimizer=name, weight_decay=0.3), [a])
    plain = optimizers.build(RunConfig(dtype="float64", optimizer=name), [b])
    for _ in range(3):
        step(update, GRAD, 0.1)
        step(plain, GRAD + 0.3 * b, 0.1)
    np.testing.assert_allclose(a, b, rtol=1e-14)


def test_adamw_decays_beside_the_gradient() -> None:
    # first step of Adam moves every entry by the rate against the gradient's sign
    expected = PARAMS * (1 - 0.1 * 0.3) - 0.1 * np.sign(GRAD)
    np.testing.assert_allclose(after(1, optimizer="adamw", weight_decay=0.3), expected, rtol=1e-7)


def test_momentum_and_nesterov_by_hand() -> None:
    momentum = PARAMS - 0.1 * GRAD - 0.1 * (0.9 + 1) * GRAD
    np.testing.assert_allclose(after(2, optimizer="momentum"), momentum, rtol=1e-14)
    nesterov = PARAMS - 0.1 * (1 + 0.9) * GRAD - 0.1 * (1 + 0.9 * 1.9) * GRAD
    np.testing.assert_allclose(after(2, optimizer="nesterov"), nesterov, rtol=1e-14)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_update_of_blocks_equals_update_of_the_whole(name: str) -> None:
    config = RunConfig(dtype="float64", optimizer=name, weight_decay=0.1)
    whole, parts = PARAMS.copy(), PARAMS.copy()
    one = optimizers.build(config, [whole])
    two = optimizers.build(config, [parts[:1], parts[1:].reshape(2, 1)])
    for _ in range(4):
        step(one, GRAD, 0.1)
        scaled = two.begin(0.1) * GRAD
        two.update(1, scaled[1:].reshape(2, 1))
        two.update(0, scaled[:1])
    np.testing.assert_array_equal(whole, parts)


def rates(**options: object) -> list[float]:
    config = RunConfig(learning_rate=1.0, epochs=4, **options)  # type: ignore[arg-type]
    each = [schedules.learning_rate(config, step, 5) for step in range(20)]
    assert each == [rate for epoch in range(1, 5) for rate in schedules.learning_rates(config, epoch, 5)]
    return each


def test_schedules() -> None:
    assert rates(schedule="constant") == [1.0] * 20
    steps = rates(schedule="step", step_epochs=2, step_factor=0.5)
    assert steps == [1.0] * 10 + [0.5] * 10
    cosine = rates(schedule="cosine")
    assert cosine[0] == 1
    assert cosine[10] == pytest.approx(0.5)
    assert 0 < cosine[-1] < 0.01
    assert cosine == sorted(cosine, reverse=True)
    warm = rates(schedule="warmup")
    assert warm[:6] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])
    both = rates(schedule="warmup-cosine")
    assert both[4:6] == [1, 1]
    assert both[5 + 7] == pytest.approx(0.5 * (1 + math.cos(math.pi * 7 / 15)))
    assert rates(schedule="warmup-step", step_epochs=2, step_factor=0.5)[4:11:3] == [1.0, 1.0, 0.5]
