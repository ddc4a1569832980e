"""The built-in set ``reference``: data and starting weights of an experiment (docs/reference-experiment.md)."""

import numpy as np

from common.data.dataset import Raw
from common.flat import Array

ROWS_PER_RANK = 25
N_FEATURES = 10


def draw(rank: int) -> tuple[Array, Array, dict[str, Array]]:
    """Return X (25, 10), y (25, 1) and the initial W (10, 1), b (1,) of one rank.

    Everything comes from NumPy's legacy generator seeded with the rank, true weights included: that is the
    published recipe, and its fault.
    """
    rng = np.random.RandomState(rank)
    x = rng.rand(ROWS_PER_RANK, N_FEATURES)
    true_weights = rng.rand(N_FEATURES, 1)
    y = x @ true_weights + 0.1 * rng.randn(ROWS_PER_RANK, 1)
    return x, y, {"W": rng.rand(N_FEATURES, 1), "b": rng.rand(1)}


def draw_ranks(rank: int, size: int) -> Raw:
    """Return the rows of all ``size`` ranks, rank 0's first, with the initial parameters of ``rank``."""
    xs, ys, initial = zip(*map(draw, range(size)), strict=True)
    return Raw("reference", np.concatenate(xs), np.concatenate(ys), initial=initial[rank])
