"""The median of a few repeats and how far it may be off, whatever they are distributed like."""

import math
import statistics

CONFIDENCE = 0.95


def median_interval(values: list[float]) -> dict[str, float]:
    """Return ``median_s``, ``low_s``, ``high_s`` and ``confidence``.

    The k-th smallest and k-th largest of n values enclose the true median with probability 1 - 2 P(Bin(n, 1/2) < k),
    e.g. David & Nagaraja 2003, "Order Statistics", section 7.1: the largest k that keeps 95 %, or all values where
    even these do not (n < 6).
    """
    ordered, n = sorted(values), len(values)
    k = max((k for k in range(1, n // 2 + 1) if _confidence(n, k) >= CONFIDENCE), default=1)
    return {
        "median_s": statistics.median(ordered),
        "low_s": ordered[k - 1],
        "high_s": ordered[n - k],
        "confidence": _confidence(n, k),
    }


def _confidence(n: int, k: int) -> float:
    outside = sum(math.comb(n, i) for i in range(k)) * 0.5 ** (n - 1)
    return max(0.0, 1 - outside)
