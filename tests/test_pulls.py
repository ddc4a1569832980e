"""Linear models on simulated ranks: none pulls against the others in a healthy run, one with other data does."""

import numpy as np
import pytest

from common.flat import Array
from ps.findings.pulls_against import PullsAgainst
from ps.findings.verdict import Verdict
from ps.metrics.contribution import SAMPLE_FIELDS
from ps.metrics.share_interval import intervals

ROWS, FEATURES, EPOCHS = 40, 10, 40


def samples(steps: list[Array]) -> Array:
    """Return what ranks with equal rows hand in; ``steps``: mean gradients, (ranks, features) each."""
    ranks = len(steps[0])
    table = np.zeros((ranks, len(steps), len(SAMPLE_FIELDS)))
    for k, means in enumerate(steps):
        g = means.mean(axis=0)
        whole = np.full(ranks, g @ g)
        table[:, k] = np.stack(
            [means @ g / ranks, np.square(means).sum(axis=1), whole, whole * ranks**2, whole / ranks], axis=1
        )
    return table


def train(seed: int, ranks: int, n_steps: int, *, shards: bool, odd: bool = False) -> list[Verdict]:
    """Return what is found while a model is trained; ``odd``: rank 1's targets follow the opposite weights."""
    rng = np.random.default_rng(seed)
    rate, noise = rng.choice([0.003, 0.02, 0.1]), rng.choice([0.1, 1.0, 3.0])
    x, w = rng.standard_normal((ranks * ROWS, FEATURES)), rng.standard_normal(FEATURES)
    y = x @ w + noise * rng.standard_normal(len(x))
    if odd:
        y[ROWS : 2 * ROWS] -= 2 * x[ROWS : 2 * ROWS] @ w
        rate = 0.003
    detector = PullsAgainst({"world": ranks, "config": {"rows": "shard" if shards else "shuffle"}})
    if odd:
        detector.note("targets-differ")
    found, params = [], np.zeros(FEATURES)
    for epoch in range(1, EPOCHS + 1):
        order = np.arange(len(x)) if shards else rng.permutation(len(x))
        own = np.stack([rng.permutation(part) for part in np.split(order, ranks)])
        steps = []
        for rows in np.split(own, n_steps, axis=1):
            errors = x[rows] @ params - y[rows]
            means = 2 * (x[rows] * errors[..., None]).mean(axis=1)
            params = params - rate * means.mean(axis=0)
            steps.append(means)
        table = samples(steps)
        record = {
            "epoch": epoch,
            "steps": n_steps,
            "sampled_steps": list(range(1, n_steps + 1)),
            "share_all": (table[..., 0].sum(axis=1) / table[0, :, 2].sum()).tolist(),
            "diversity_all": float(table[..., 1].sum() / table[0, :, 3].sum()),
            **intervals(table, n_steps),
        }
        found.append(detector.add(record))
    return [verdict for verdict in (*found, detector.finish()) if verdict]


@pytest.mark.parametrize("ranks", [2, 4, 16])
@pytest.mark.parametrize(("shards", "n_steps"), [(True, 1), (True, 8), (False, 8), (False, 20)])
def test_no_rank_of_a_healthy_run_pulls_against(ranks: int, n_steps: int, shards: bool) -> None:
    assert [train(seed, ranks, n_steps, shards=shards) for seed in range(15)] == [[]] * 15


@pytest.mark.parametrize("ranks", [4, 16])
def test_a_rank_with_other_data_does(ranks: int) -> None:
    for seed in range(10):
        found = train(seed, ranks, 1, shards=True, odd=True)
        assert any(1 in verdict.ranks for verdict in found), seed
