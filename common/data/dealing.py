"""How many of some rows each rank takes, in whole rows, if ranks have unequal shares."""

import functools
import heapq

import numpy as np

from common.data.scaling import Rows


@functools.lru_cache(maxsize=16)
def edges(n: int, shares: tuple[float, ...]) -> Rows:
    """Return where each rank's part of ``n`` rows in a line begins, and last their end: (ranks + 1,).

    ``shares``: numbers above 0, of any sum. The rank that takes longest, n_i / share_i, takes as short as whole rows
    allow. Everyone gets a row, if there are as many: what it takes for them says how fast it is.
    """
    weights = np.array(shares) / sum(shares)
    least = int(n >= len(shares))
    counts = np.maximum(np.floor(n * weights).astype(np.int64), least)
    left = n - int(counts.sum())
    # one row after the other to whom it costs least, or from whom it frees most: fewer than ranks
    step = 1 if left > 0 else -1
    heap = [_next(counts, weights, rank, step, least) for rank in range(len(shares))]
    heapq.heapify(heap)
    for _ in range(abs(left)):
        rank = heap[0][1]
        counts[rank] += step
        heapq.heapreplace(heap, _next(counts, weights, rank, step, least))
    found: Rows = np.concatenate([[0], np.cumsum(counts)])
    found.setflags(write=False)
    return found


def _next(counts: Rows, weights: np.ndarray, rank: int, step: int, least: int) -> tuple[float, int]:
    """Return a rank's place in the order: its time with a row more; or the present one, longest first."""
    if step > 0:
        return float((counts[rank] + 1) / weights[rank]), rank
    return (-float(counts[rank] / weights[rank]) if counts[rank] > least else 0.0), rank
