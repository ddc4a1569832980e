"""Medians of a few repeats, how far they may be off and whether two differ, whatever the repeats are distributed like.

Hoefler & Belli 2015, "Scientific Benchmarking of Parallel Computing Systems" (SC15), ask for just this: nonparametric
intervals of medians, and a rank test before one is called faster.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
LEVEL = 0.05
"""Of a test below which a difference is shown."""
EXACT_UP_TO = 20
"""Repeats of each of two up to which a rank test counts all orders."""


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


def rank_sum_p(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the two-sided p of the rank-sum test: how often chance alone sets two samples so far apart.

    Wilcoxon 1945; Mann & Whitney 1947. Equal values share their mean rank. Up to 20 values each, all ways to deal the
    ranks are counted; above, the sum is taken as normal.
    """
    ranks = _doubled_ranks([*a, *b])
    total, n, m = sum(ranks[: len(a)]), len(a), len(b)
    middle = n * (n + m + 1)
    if max(n, m) <= EXACT_UP_TO:
        ways = _ways(ranks, n)
        far = sum(count for s, count in ways.items() if abs(s - middle) >= abs(total - middle))
        return far / math.comb(n + m, n)
    spread = math.sqrt(sum((rank - (n + m + 1)) ** 2 for rank in ranks) * n * m / ((n + m) * (n + m - 1)))
    return math.erfc(abs(total - middle) / spread / math.sqrt(2)) if spread else 1.0


def _doubled_ranks(values: Sequence[float]) -> list[int]:
    """Return twice the rank of each value, from 1, so that shared ranks are whole too."""
    ordered = sorted(values)
    first = {value: i for i, value in reversed(list(enumerate(ordered)))}
    return [2 * first[value] + 1 + ordered.count(value) for value in values]


def _ways(ranks: list[int], n: int) -> dict[int, int]:
    """Return, for each sum of n of the ranks, how many choices give it."""
    ways: list[dict[int, int]] = [{0: 1}, *({} for _ in range(n))]
    for rank in ranks:
        for size in range(n, 0, -1):
            for s, count in ways[size - 1].items():
                ways[size][s + rank] = ways[size].get(s + rank, 0) + count
    return ways[n]


def holm(ps: Sequence[float]) -> list[float]:
    """Return p values raised for how many there are: below 5 % none is by chance, in 95 % of cases (Holm 1979)."""
    raised, largest = [0.0] * len(ps), 0.0
    for place, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        largest = max(largest, min(1.0, (len(ps) - place) * ps[i]))
        raised[i] = largest
    return raised


def smallest_p(trials: int, tests: int) -> float:
    """Return the least p that so many trials each and so many tests can give."""
    return min(1.0, tests * 2 / math.comb(2 * trials, trials))
