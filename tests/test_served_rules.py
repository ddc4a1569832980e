"""Rules by which a server applies pushes, against hand calculations and closed forms. No MPI."""

import math
from typing import Any

import numpy as np
import pytest

from common.config import OPTIMIZERS, RunConfig
from common.errors import EXIT_USAGE, ConfigError, JobError
from common.flat import Array
from common.nn import optimizers
from ps.sync.served.compensation import MEAN_SQUARE, Compensation
from ps.sync.served.max_delay import MaxDelay, PairNoise
from ps.sync.served.rules import ServerRules, delay_factor
from workers.checkpoint.origin import Origin
from workers.training.fit import check_fit

LR, ROWS = 0.1, 12
DECAYING: dict[str, Any] = {"weight_decay": 0.3}


class Server:
    """Parameters in two blocks, and the rules that change them."""

    def __init__(self, start: Array, ranks: int = 4, **options: Any) -> None:
        config = RunConfig(mode="async", dtype="float64", **options)
        self.w = start.copy()
        self.cut = max(1, len(start) // 3)
        self.optimizer = optimizers.build(config, self.blocks(self.w))
        self.rules = ServerRules(config, self.optimizer, ranks)

    def blocks(self, vector: Array) -> list[Array]:
        return [block for block in (vector[: self.cut], vector[self.cut :]) if block.size]

    def push(self, mean: Array, rows: int = ROWS, rank: int = 0, delay: int = 0) -> None:
        self.rules.apply(self.blocks(mean * rows / ROWS), LR, rows / ROWS, rank, delay)

    def push_together(self, mean: Array, rows: int = ROWS) -> None:
        self.rules.apply_together(self.blocks(mean * rows / ROWS), LR, rows / ROWS)


def drawn(n: int = 7, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=n)


def synchronous(start: Array, gradients: list[Array], **options: Any) -> Array:
    w = start.copy()
    optimizer = optimizers.build(RunConfig(dtype="float64", **options), [w])
    for gradient in gradients:
        optimizer.update(0, optimizer.begin(LR) * gradient)
    return w


@pytest.mark.parametrize("options", [{}, DECAYING])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_pushes_together_are_one_synchronous_update(name: str, options: dict[str, Any]) -> None:
    start, gradients = drawn(), [drawn(seed=1), drawn(seed=2)]
    server = Server(start, optimizer=name, **options)
    server.push_together(gradients[0])
    server.push_together(gradients[1], rows=5)  # the mean of the rows there
    np.testing.assert_allclose(server.w, synchronous(start, gradients, optimizer=name, **options), rtol=1e-12)


def test_pushes_of_sgd_add_up_to_one_synchronous_update() -> None:
    start, means, rows = drawn(), [drawn(seed=k) for k in (1, 2, 3)], [6, 5, 1]
    server = Server(start, optimizer="sgd")
    for mean, n in zip(means, rows, strict=True):
        server.push(mean, n)
    whole = np.average(means, axis=0, weights=rows)
    np.testing.assert_allclose(server.w, synchronous(start, [whole], optimizer="sgd"), rtol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_push_is_a_step_at_its_share_of_the_rate(name: str) -> None:
    start, mean = drawn(), drawn(seed=1)
    server = Server(start, optimizer=name, **DECAYING)
    w = start.copy()
    optimizer = optimizers.build(RunConfig(dtype="float64", optimizer=name, **DECAYING), [w])
    for rows in (3, 4, 5):
        server.push(mean, rows)
        optimizer.update(0, optimizer.begin(LR * rows / ROWS) * mean)
    np.testing.assert_allclose(server.w, w, rtol=1e-12)


@pytest.mark.parametrize("name", ["momentum", "nesterov", "adam"])
def test_with_a_steady_gradient_four_quarters_go_as_far_as_one_whole(name: str) -> None:
    start, mean = drawn(), drawn(seed=1)
    server, whole = Server(start, optimizer=name), Server(start, optimizer=name)
    for _ in range(200):
        whole.push_together(mean)
        for _ in range(4):
            server.push(mean, ROWS // 4)
    moved = (server.w - start) / (whole.w - start)
    np.testing.assert_allclose(moved, 1, rtol=0.05)  # but for the start of the velocity


def test_weight_decay_of_pushes_is_that_of_their_share() -> None:
    start = drawn()
    server = Server(start, optimizer="sgd", weight_decay=0.3)
    for rows in (3, 9):
        server.push(np.zeros(7), rows)
    np.testing.assert_allclose(server.w, start * (1 - LR * 0.3 / 4) * (1 - LR * 0.3 * 3 / 4), rtol=1e-12)


@pytest.mark.parametrize("norm", [0.5, 2.0])
def test_a_push_is_clipped_at_its_share_of_the_bound(norm: float) -> None:
    start, mean = drawn(), drawn(seed=1)
    mean *= norm / np.linalg.norm(mean)
    server = Server(start, optimizer="sgd", clip=1.0)
    server.push(mean, 3)
    assert np.linalg.norm(server.w - start) == pytest.approx(LR * 3 / ROWS * min(norm, 1.0))


@pytest.mark.parametrize(
    ("rule", "factors"),
    [("constant", [1, 1, 1]), ("inverse", [1, 1, 1 / 4]), ("root", [1, 1 / math.sqrt(2), 0.4472136])],
)
def test_old_pushes_at_a_lower_rate(rule: str, factors: list[float]) -> None:
    assert [delay_factor(rule, delay) for delay in (0, 1, 4)] == pytest.approx(factors)
    start, mean = drawn(), drawn(seed=1)
    server = Server(start, optimizer="sgd", delay_rate=rule)
    server.push(mean, delay=4)
    np.testing.assert_allclose(start - server.w, LR * factors[2] * mean, rtol=1e-6)


def compensated(variant: str) -> list[float]:
    """Two ranks alternate on one weight, loss w^2/2 with noise: each gradient is one version old."""
    server = Server(np.array([1.0]), optimizer="sgd", delay_compensation=variant)
    seen = [0.0, 0.0]
    for rank in (0, 1):
        server.rules.pulled(rank)
        seen[rank] = float(server.w[0])
    trace = []
    for turn in range(4):
        rank = turn % 2
        server.push(np.array([2 * seen[rank]]), ROWS // 2, rank, delay=min(turn, 1))
        server.rules.pulled(rank)
        seen[rank] = float(server.w[0])
        trace.append(seen[rank])
    return trace


def test_two_ranks_alternate_compensated_by_hand() -> None:
    # w -= lr/2 (g + 0.04 g g (w - w_pulled)), g = 2 w_pulled: the mean gradient, not the push
    w0 = 1.0
    w1 = w0 - 0.05 * 2.0  # 0.9: nothing has moved
    w2 = w1 - 0.05 * (2.0 + 0.04 * 4.0 * (0.9 - 1.0))  # 0.8008
    w3 = w2 - 0.05 * (1.8 + 0.04 * 1.8**2 * (0.8008 - 0.9))
    w4 = w3 - 0.05 * (2 * w2 + 0.04 * (2 * w2) ** 2 * (w3 - w2))
    assert w2 == pytest.approx(0.8008)
    assert compensated("constant") == pytest.approx([w1, w2, w3, w4], rel=1e-12)


def test_two_ranks_alternate_compensated_adaptively_by_hand() -> None:
    w1 = 0.9
    s1 = 0.05 * 4.0
    s2 = 0.95 * s1 + 0.05 * 4.0
    w2 = w1 - 0.05 * (2.0 + 2.0 / math.sqrt(s2 + 1e-7) * 4.0 * (0.9 - 1.0))
    s3 = 0.95 * s2 + 0.05 * 1.8**2
    w3 = w2 - 0.05 * (1.8 + 2.0 / math.sqrt(s3 + 1e-7) * 1.8**2 * (w2 - 0.9))
    assert compensated("adaptive")[:3] == pytest.approx([w1, w2, w3], rel=1e-12)


@pytest.mark.parametrize("variant", ["constant", "adaptive"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_without_delay_nothing_is_compensated(name: str, variant: str) -> None:
    start, mean = drawn(), drawn(seed=1)
    plain, server = Server(start, optimizer=name), Server(start, optimizer=name, delay_compensation=variant)
    for rank in (0, 1, 2):
        server.rules.pulled(rank)
        plain.push(mean, 4)
        server.push(mean, 4, rank)
    np.testing.assert_allclose(server.w, plain.w, rtol=1e-12)


def test_each_rank_is_compensated_for_its_own_delay() -> None:
    """Not for the last update, as where one earlier copy of the parameters is kept for all ranks."""
    server = Server(np.array([1.0]), optimizer="sgd", delay_compensation="constant")
    server.rules.pulled(0)
    server.rules.pulled(1)
    for _ in range(3):
        server.push(np.array([1.0]), rank=1)
        server.rules.pulled(1)
    before = float(server.w[0])
    server.push(np.array([1.0]), rank=0, delay=3)
    assert before - float(server.w[0]) == pytest.approx(LR * (1 + Compensation.strength * (before - 1.0)))


def test_state_of_the_adaptive_factor_is_saved_with_the_optimizers() -> None:
    server = Server(drawn(), optimizer="adam", delay_compensation="adaptive")
    server.push(drawn(seed=1))
    squares = server.optimizer.state()[MEAN_SQUARE]
    np.testing.assert_allclose(np.concatenate(squares), 0.05 * drawn(seed=1) ** 2, rtol=1e-12)


def limit(**options: Any) -> MaxDelay:
    return MaxDelay(RunConfig(mode="async", dtype="float64", **options), [3])


def test_gradients_of_the_largest_delay_are_left_out() -> None:
    assert [limit(max_delay="3").accepts(delay) for delay in (0, 2, 3, 99)] == [True, True, False, False]
    assert limit().accepts(10**6)
    assert limit(max_delay="3", rows="shard").accepts(99)  # nobody else has its rows


@pytest.mark.parametrize("given", ["0", "-1", "1.5", "most", "", "9" * 30])
def test_a_max_delay_that_is_none(given: str) -> None:
    with pytest.raises(ConfigError, match=r"max_delay: got .* allowed is off, auto or a whole number from 1"):
        RunConfig(max_delay=given)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "k-of-n", "wait_for": 4}, "wait_for: got 4, but only 3 ranks have gradients"),
        ({"mode": "async", "heal": True}, "heal: has no effect in mode async"),
    ],
)
def test_what_says_nothing_to_a_server_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(JobError, match=message) as raised:
        check_fit(RunConfig(**options), Origin(), 3)
    assert raised.value.exit_code == EXIT_USAGE
    check_fit(RunConfig(mode="k-of-n", wait_for=3), Origin(), 3)


def test_rules_of_a_server_are_refused_where_none_serves() -> None:
    config = RunConfig(max_delay="3")
    with pytest.raises(
        JobError, match=r"max_delay: 3 has no effect in mode allreduce; .* choose --mode async"
    ) as raised:
        check_fit(config, Origin(), 2)
    assert raised.value.exit_code == EXIT_USAGE
    check_fit(config, Origin(folder="runs/of-async", mode="async"), 2)  # of the run to resume, now in another mode


def test_noise_scale_of_pairs() -> None:
    rng, noise, mean = np.random.default_rng(0), PairNoise([60, 40], "float64"), np.full(100, 0.3)
    for _ in range(8 * 400):  # |G|^2 = 9, tr(S) = 100 * 4: 44.4 rows
        rows = int(rng.integers(4, 12))
        gradient = (mean + rng.normal(size=100) * 2 / math.sqrt(rows)) * rows / ROWS
        noise.note([gradient[:60], gradient[60:]], rows / ROWS)
    scale, share = noise.take()
    assert scale == pytest.approx(400 / 9 / ROWS, rel=0.1)
    assert share == pytest.approx(7.5 / ROWS, rel=0.05)
    assert noise.take() == (None, 0)


def test_max_delay_follows_the_noise_at_an_epochs_end() -> None:
    chosen = limit(max_delay="auto")
    for _ in range(2):
        chosen.note([np.array([1.0, 2.0, 0.0]) / 4], 0.25)
    chosen.note([np.zeros(3)], 0.25)
    assert chosen.accepts(99)
    chosen.close_epoch()
    assert chosen.accepts(99)  # pushes that are alike have no noise
    chosen.note([np.array([1.0, 2.0, 0.0]) / 4], 0.25)  # |G|^2 is 1, and the squares are 5: the noise is 4 pushes
    chosen.note([np.array([1.0, 0.0, 2.0]) / 4], 0.25)
    chosen.close_epoch()
    assert chosen.limit == 4
    chosen.close_epoch()
    assert chosen.limit == 4
