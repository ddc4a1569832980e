"""Figures of an epoch against their definitions, computed from every rank's gradient by hand."""

import math

import numpy as np
import pytest

from common.flat import Array
from ps.metrics import epoch_metrics
from ps.metrics.contribution import ContributionMeter, StepRows
from ps.metrics.rank_row import row_type
from tests.ranks import program

NAMES = ["w", "b"]
SIZES = [6, 2]


def gather(steps: list[tuple[list[int], Array]], scale: float = 0.5) -> Array:
    """Return all ranks' rows after sampled steps, each given as rows by rank and mean gradients (ranks, 8)."""
    ranks = len(steps[0][0])
    table = np.zeros(ranks, row_type(len(NAMES)))
    for rank in range(ranks):
        meter = ContributionMeter(SIZES)
        for counts, means in steps:
            total = sum(counts)
            sums = means * np.array(counts)[:, None] * scale
            whole, plain = sums.sum(axis=0), sum(m for m, n in zip(means, counts, strict=True) if n)
            cuts = (slice(0, 6), slice(6, 8))
            rows = StepRows(counts[rank], total, sum(n > 0 for n in counts))
            meter.measure(((i, sums[rank, s], whole[s]) for i, s in enumerate(cuts)), rows, scale, 0)
            meter.measure_plain((i, plain[s]) for i, s in enumerate(cuts))
        for field, values in meter.close_epoch().items():
            table[field][rank] = values
        table["rows"][rank] = sum(counts[rank] for counts, _ in steps)
    return table


def draw(ranks: int, seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal((ranks, 8))


def test_one_step_with_uneven_rows_equals_the_definitions() -> None:
    counts, means = [5, 1, 3, 0], draw(4, 0)
    means[3] = 0
    weights = np.array(counts) / 9
    g = weights @ means
    found = epoch_metrics.contribution(gather([(counts, means)]), NAMES)
    for part, name in ((slice(0, 6), "w"), (slice(6, 8), "b")):
        own, whole = means[:, part], g[part]
        norms = np.linalg.norm(own, axis=1)
        assert found["share"][name] == pytest.approx(weights * (own @ whole) / (whole @ whole))
        assert sum(found["share"][name]) == pytest.approx(1)
        assert found["cosine"][name][:3] == pytest.approx(own[:3] @ whole / norms[:3] / np.linalg.norm(whole))
        assert found["cosine"][name][3] is None
        assert found["norm_ratio"][name] == pytest.approx(norms / np.linalg.norm(own.sum(axis=0)))
        assert found["diversity"][name] == pytest.approx((norms**2).sum() / np.square(own.sum(axis=0)).sum())
        assert found["gradient_mean"][name] == pytest.approx(own.mean(axis=1))
        for rank, n in enumerate(counts):
            others = [r for r in range(4) if r != rank]
            without = (weights[others] @ own[others]) / weights[others].sum()
            shift = np.linalg.norm(whole - without) / np.linalg.norm(whole) if n else 0.0
            assert found["leave_one_out"][name][rank] == pytest.approx(shift)
    assert sum(found["share_all"]) == pytest.approx(1)


def test_several_steps_are_ratios_of_sums() -> None:
    steps = [([2, 2], draw(2, 1)), ([2, 2], 10 * draw(2, 2))]
    found = epoch_metrics.contribution(gather(steps), NAMES)
    g = [means.mean(axis=0) for _, means in steps]
    top = sum(0.5 * means[0] @ whole for (_, means), whole in zip(steps, g, strict=True))
    assert found["share_all"][0] == pytest.approx(top / sum(whole @ whole for whole in g))


def test_the_only_rank_has_no_others() -> None:
    found = epoch_metrics.contribution(gather([([7], draw(1, 3))]), NAMES)
    assert found["share_all"] == pytest.approx([1])
    assert found["cosine_all"] == pytest.approx([1])
    assert found["leave_one_out_all"] == [None]
    assert epoch_metrics.NoiseScale().update({**found, "noise_gradient_sq": {"w": 0.0}}) is None
    assert epoch_metrics.bus_bandwidth(8.0, 1, 1.0) is None


def test_a_gradient_of_zero_leaves_ratios_undefined() -> None:
    found = epoch_metrics.contribution(gather([([1, 1], np.zeros((2, 8)))]), NAMES)
    assert found["share_all"] == found["cosine_all"] == found["norm_ratio_all"] == [None, None]
    assert found["diversity_all"] is None


def test_noise_scale_is_unbiased_for_uneven_rows() -> None:
    """Rows' gradients are drawn around G with a known covariance: averages over many steps find both."""
    rng = np.random.default_rng(5)
    counts, true, deviation = [8, 32, 96], np.full(8, 0.5), np.linspace(0.5, 3, 8)
    traces, squares = [], []
    for _ in range(4000):
        means = true + rng.standard_normal((3, 8)) * deviation / np.sqrt(counts)[:, None]
        found = epoch_metrics.contribution(gather([(counts, means)]), NAMES)
        traces.append(sum(found["noise_trace"].values()))
        squares.append(sum(found["noise_gradient_sq"].values()))
    assert np.mean(traces) == pytest.approx(np.square(deviation).sum(), rel=0.05)
    assert np.mean(squares) == pytest.approx(true @ true, rel=0.05)


def test_noise_scale_is_smoothed_before_it_is_divided() -> None:
    def estimates(trace: float, gradient_sq: float) -> dict[str, dict[str, float]]:
        return {"noise_trace": {"w": trace}, "noise_gradient_sq": {"w": gradient_sq}}

    noise = epoch_metrics.NoiseScale()
    assert noise.update(estimates(10.0, 0.5)) == pytest.approx(20)
    assert noise.update(estimates(20.0, 1.5)) == pytest.approx((0.8 * 2 + 4) / (0.8 * 0.1 + 0.3))
    assert noise.update(estimates(0.0, 0.0)) is None
    assert epoch_metrics.NoiseScale().update(estimates(1.0, -1.0)) is None


def test_squares_beyond_float32_are_measured_all_the_same() -> None:
    rng = np.random.default_rng(0)
    for dtype, rtol in ((np.float32, 1e-4), (np.float64, 1e-9)):
        own = (2e19 * rng.standard_normal(8)).astype(dtype)
        meter = ContributionMeter(SIZES)
        cuts = (slice(0, 6), slice(6, 8))
        with np.errstate(over="ignore"):  # as in training
            meter.measure([(i, own[s], own[s]) for i, s in enumerate(cuts)], StepRows(2, 2, 1), 1.0, 1)
        found = meter.close_epoch()
        np.testing.assert_allclose(found["own_sq"], [np.square(own[s], dtype=np.float64).sum() / 4 for s in cuts], rtol)


def test_efficiency_is_that_of_pop() -> None:
    found = epoch_metrics.efficiency(np.array([1.0, 2.0, 3.0]), np.array([4.0, 4.0, 3.9]))
    assert found == pytest.approx({"load_balance": 2 / 3, "communication": 0.75, "parallel": 0.5})
    assert epoch_metrics.efficiency(np.zeros(2), np.ones(2))["parallel"] is None


def test_bus_bandwidth_counts_what_each_rank_must_move() -> None:
    assert epoch_metrics.bus_bandwidth(100.0, 4, 0.5) == pytest.approx(300)
    assert epoch_metrics.bus_bandwidth(100.0, 4, 0.0) is None
    assert epoch_metrics.ratio(math.inf, 1.0) is None


@pytest.mark.parametrize("n", [3, 4])
def test_every_mode_measures_what_ranks_contributed(n: int) -> None:
    assert program(n, "contributions.py").out == f"ok {n}\n"
