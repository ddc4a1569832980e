"""Medians of a few repeats, how far they may be off and whether two differ, whatever the repeats are distributed like.

Hoefler & Belli 2015, "Scientific Benchmarking of Parallel Computing Systems" (SC15), ask for just this: nonparametric
intervals of medians, and a rank test before one is called faster.
"""

import functools
import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.flat import Array

CONFIDENCE = 0.95
LEVEL = 0.05
"""Of a test below which a difference is shown."""
EXACT_UP_TO = 20
"""Repeats up to which the values themselves are dealt again."""
DRAWS = 20_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A median with the ends of its interval, and the probability that these enclose the true one."""

    median: float
    low: float
    high: float
    confidence: float

    def as_dict(self) -> dict[str, float]:
        """Return what a record holds; the confidence is that of all intervals of as many repeats."""
        return {"median": self.median, "low": self.low, "high": self.high}

    def seconds(self) -> dict[str, float]:
        """Return ``median_s``, ``low_s``, ``high_s`` and ``confidence``."""
        return {"median_s": self.median, "low_s": self.low, "high_s": self.high, "confidence": self.confidence}


def interval(values: Sequence[float]) -> Interval:
    """Return the median of at least one value and its interval.

    The k-th smallest and k-th largest of n values enclose the true median with probability 1 - 2 P(Bin(n, 1/2) < k),
    e.g. David & Nagaraja 2003, "Order Statistics", section 7.1: the largest k that keeps 95 %, or all values where
    even these do not (n < 6).
    """
    ordered, n = sorted(values), len(values)
    k = max((k for k in range(1, n // 2 + 1) if _confidence(n, k) >= CONFIDENCE), default=1)
    return Interval(statistics.median(ordered), ordered[k - 1], ordered[n - k], _confidence(n, k))


def _confidence(n: int, k: int) -> float:
    outside = sum(math.comb(n, i) for i in range(k)) * 0.5 ** (n - 1)
    return max(0.0, 1 - outside)


def slower_p(samples: Sequence[Sequence[float]]) -> list[float]:
    """Return, for each sample but the first, how often chance alone would make one look so much larger than the first.

    ``samples``: the least median first. That one was picked by these very figures, and so looks small by luck: a rank
    test against it as if it had been named before finds a difference among five equal modes in up to 9 % of cases, not
    5. So chance does the picking too: all values are dealt again, the sample with the least median is picked, and what
    counts is the largest U (Mann & Whitney 1947) of the others against it. Those farthest off are then set aside, and
    the next is judged among the rest (Westfall & Young 1993, "Resampling-Based Multiple Testing": steps down). So with
    equal modes none is called slower in 95 % of cases, and neither is one that is as fast as the fastest.
    """
    first, *others = samples
    shares = [_share_above(other, first) for other in others]
    found, largest = [0.0] * len(others), 0.0
    left = sorted(range(len(others)), key=lambda i: -shares[i])
    for place, i in enumerate(left):
        sizes = (len(first), *(len(others[j]) for j in left[place:]))
        largest = max(largest, _chance(sizes, shares[i]))
        found[i] = largest
    return found


def smallest_p(trials: int, samples: int) -> float:
    """Return the least p that so many samples can give, of so many values each."""
    return _chance((trials,) * samples, 1.0)


def _share_above(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the share of pairs in which the value of the first is the larger; equal ones count half."""
    differences = np.subtract.outer(np.asarray(one, float), np.asarray(other, float))
    return float((np.sign(differences).mean() + 1) / 2)


def _chance(sizes: tuple[int, ...], share: float) -> float:
    """Return how often the largest share of ``_share_above`` against the sample picked is at least this by chance."""
    found = _drawn(sizes)
    return float((found >= share - 1e-9).mean())


@functools.lru_cache(maxsize=64)
def _drawn(sizes: tuple[int, ...]) -> Array:
    """Return the largest share in each of ``DRAWS`` deals of ranks to samples of these sizes.

    Of large samples, mean ranks are drawn as normals, and the lowest is picked.
    """
    rng = np.random.default_rng(0)
    if max(sizes) > EXACT_UP_TO:
        means = rng.standard_normal((DRAWS, len(sizes)))
        n = min(sizes)
        return np.asarray(0.5 + np.ptp(means, axis=1) * math.sqrt((2 * n + 1) / 24) / n)
    edges = np.cumsum((0, *sizes))
    ranks = rng.permuted(np.tile(np.arange(edges[-1]), (DRAWS, 1)), axis=1)
    parts = [ranks[:, a:b] for a, b in itertools.pairwise(edges.tolist())]
    picked = np.argmin([np.median(part, axis=1) for part in parts], axis=0)
    largest = np.zeros(DRAWS)
    for i, part in enumerate(parts):
        rows = picked == i
        for other in parts[:i] + parts[i + 1 :]:
            above = (other[rows, :, None] > part[rows, None, :]).mean(axis=(1, 2))
            largest[rows] = np.maximum(largest[rows], above)
    return largest
