"""Intervals of shares and effective ranks cover what they should, on gradients whose true figures are known."""

import itertools
from typing import Any

import numpy as np
import pytest

from common.flat import Array
from ps.metrics.contribution import GROUPS, SAMPLE_FIELDS, ContributionMeter, StepRows
from ps.metrics.share_interval import intervals, ratio_of_sums, student_t


def found(steps: list[Array], counts: list[int]) -> dict[str, Any]:
    """Return the figures of an epoch; ``steps``: mean gradients, (ranks, numbers) each; ``counts``: rows by rank."""
    weights = np.array(counts) / sum(counts)
    samples = np.zeros((len(counts), GROUPS, len(SAMPLE_FIELDS)))
    for rank, own in enumerate(counts):
        meter = ContributionMeter([steps[0].shape[1]])
        for means in steps:
            sums, g = own * means[rank], sum(counts) * (weights @ means)
            meter.measure([(0, sums, g)], StepRows(own, sum(counts), sum(n > 0 for n in counts)), 1.0, 0)
            meter.measure_plain([(0, means[weights > 0].sum(axis=0))])
        samples[rank] = meter.close_epoch()["samples"]
    return intervals(samples, len(steps))


def draw(rng: np.random.Generator, counts: list[int], signal: float, steps: int) -> list[Array]:
    """Return steps of a healthy run: every row's gradient is the true one and noise, in ten dimensions."""
    true = np.full(10, signal)
    noise = rng.standard_normal((steps, len(counts), 10)) / np.sqrt(counts)[:, None]
    return list(true + noise)


@pytest.mark.parametrize("freedom", [1, 2, 3, 5, 10, 30, 1000])
def test_quantiles_are_those_of_student(freedom: int) -> None:
    known = {1: 12.7062, 2: 4.30265, 3: 3.18245, 5: 2.57058, 10: 2.22814, 30: 2.04227, 1000: 1.96234}
    assert student_t(freedom) == pytest.approx(known[freedom], rel=0.005)


@pytest.mark.parametrize(("counts", "signal"), [([8, 8], 0.0), ([8, 8, 8, 8], 0.1), ([16, 4, 8], 0.3), ([3] * 16, 0.1)])
def test_shares_of_a_healthy_run_lie_in_the_band_of_chance(counts: list[int], signal: float) -> None:
    rng, inside, runs = np.random.default_rng(1), 0, 400
    fair = np.array(counts) / sum(counts)
    for _ in range(runs):
        figures = found(draw(rng, counts, signal, 8), counts)
        low, high = np.array(figures["chance_low"]), np.array(figures["chance_high"])
        assert (low + high) / 2 == pytest.approx(fair)
        share = (np.array(figures["share_low"]) + figures["share_high"]) / 2
        inside += int(((low <= share) & (share <= high)).sum())
    assert 0.91 < inside / (runs * len(counts)) < 0.98


def test_intervals_hold_the_true_share() -> None:
    """Rank 0's gradient points the other way by a known part; steps differ in length by a factor of three."""
    rng, held, below, runs = np.random.default_rng(2), 0, 0, 400
    true = np.array([[-0.5] * 10, [1.0] * 10, [1.0] * 10])
    wide = [true + rng.standard_normal((3, 10)) / 2 for _ in range(20_000)]
    means = [np.mean(step, axis=0) for step in wide]
    share = sum(step[0] @ g for step, g in zip(wide, means, strict=True)) / 3 / sum(g @ g for g in means)
    for _ in range(runs):
        steps = [rng.uniform(0.5, 1.5) * (true + rng.standard_normal((3, 10)) / 2) for _ in range(8)]
        figures = found(steps, [4, 4, 4])
        held += figures["share_low"][0] <= share <= figures["share_high"][0]
        below += figures["share_high"][0] < figures["chance_low"][0]
    assert below > 0.95 * runs
    assert 0.9 < held / runs < 0.985


def test_more_samples_narrow_the_interval() -> None:
    rng = np.random.default_rng(3)
    few, many = (found(draw(rng, [4] * 4, 0.2, n), [4] * 4) for n in (8, 200))
    assert many["samples"] == 200
    for low, high in (("share_low", "share_high"), ("chance_low", "chance_high")):
        widths = [np.subtract(own[high], own[low]).mean() for own in (few, many)]
        assert 3 < widths[0] / widths[1] < 8  # about the root of 25


def test_the_band_is_what_all_ways_to_name_the_ranks_give() -> None:
    rng = np.random.default_rng(4)
    (means,) = draw(rng, [5] * 4, 0.1, 1)
    g = means.mean(axis=0)
    shares = means @ g / 4 / (g @ g)
    dealt = [shares[list(order)][0] for order in itertools.permutations(range(4))]
    figures = found([means], [5] * 4)
    assert figures["chance_high"][0] - 0.25 == pytest.approx(1.959964 * np.std(dealt))
    assert figures["share_low"] == figures["share_high"] == [None] * 4  # one sample has no scatter


def test_a_rank_without_others_or_rows_has_no_band() -> None:
    alone = found([np.ones((1, 4))] * 3, [5])
    assert (alone["chance_low"], alone["chance_high"], alone["share_low"]) == ([None], [None], [pytest.approx(1)])
    figures = found([np.array([[1.0, 2], [2, 1], [0, 0]])] * 2, [5, 5, 0])
    assert figures["chance_low"][2] == figures["chance_high"][2] == 0
    nothing = found([np.zeros((2, 4))], [5, 5])
    assert nothing["effective_ranks"] is None
    assert nothing["chance_low"] == [None, None]


X, Y = np.eye(2, 8)


@pytest.mark.parametrize(
    ("ranks", "effective"),
    [([X, X, X, X], 1), ([X, 2 * X], 10 / 9), ([X, Y], 2), ([X, Y, X, Y], 2), ([X, -X], None), ([X, -0.9 * X], None),
     ([X, Y, -X, -Y], None), ([X, Y, -X, -0.5 * Y], None), ([X, -X, Y, Y], None), ([X, X, X, -X], None),
     ([X] * 63 + [-X], 64 * 64 / 62**2)],
)  # fmt: skip
def test_effective_ranks_of_constructed_gradients(ranks: list[Array], effective: float | None) -> None:
    """Equal in all steps, so that nothing is left to chance; 1 and P are reached, and no number where they cancel."""
    figures = found([np.array(ranks)] * 8, [3] * len(ranks))
    assert figures["effective_ranks"] == (None if effective is None else pytest.approx(effective))
    if effective is not None:
        assert figures["effective_ranks_low"] == pytest.approx(effective)


def test_independent_gradients_count_in_full_and_those_that_cancel_do_not() -> None:
    rng, full, cancelled = np.random.default_rng(5), 0, 0
    for _ in range(100):
        steps = draw(rng, [4] * 4, 0.0, 8)
        figures = found(steps, [4] * 4)
        full += figures["effective_ranks"] is not None and figures["effective_ranks"] > 3.2
        cancelled += found([step - 0.8 * step.mean(axis=0) for step in steps], [4] * 4)["effective_ranks"] is None
    assert full > 90
    assert cancelled == 100


def test_one_sample_that_cancels_is_not_measurable() -> None:
    assert found([np.array([X, Y - 0.3 * X])], [1, 1])["effective_ranks"] is None
    assert found([np.array([X, Y + 0.3 * X])], [1, 1])["effective_ranks"] == pytest.approx(2 * 2.09 / 2.69)


def test_a_ratio_of_sums_is_not_a_mean_of_ratios() -> None:
    ratio, half = ratio_of_sums(np.array([1.0, 30.0]), np.array([2.0, 20.0]))
    assert float(ratio) == pytest.approx(31 / 22)
    assert float(half) == pytest.approx(12.7062 * np.sqrt(2 * 2 * (30 - 20 * 31 / 22) ** 2) / 22, rel=1e-4)
