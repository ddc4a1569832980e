"""How far shares of the update may be off, and what chance alone would make of them, from an epoch's sampled steps."""

import math
from statistics import NormalDist
from typing import Any

import numpy as np

from common.flat import Array
from ps.metrics.contribution import SAMPLE_FIELDS

CONFIDENCE = 0.95
BAND = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
SLIGHTLY, MOST_DIVERSITY = 1.1, 1.5
"""Diversity up to which gradients do not count as cancelling (independent ones have 1), and above which they do,
whatever the interval."""
CANCELLED = 0.1
"""Ranks that point against the others count where they take away so much of what all have in common."""
OPPOSED = 0.5
"""Cosine to the others below minus this from which a rank counts as pointing against them in a single sample."""


def student_t(freedom: int, confidence: float = CONFIDENCE) -> float:
    """Return what a deviation in standard errors stays below with this confidence, both sides together.

    Exact for 1 and 2 degrees of freedom, then by Abramowitz & Stegun 26.7.5: off by less than 0.5 % at 95 %.
    """
    p = (1 + confidence) / 2
    if freedom == 1:
        return math.tan(math.pi * (p - 0.5))
    if freedom == 2:
        return (2 * p - 1) * math.sqrt(1 / (2 * p * (1 - p)))
    z, n = NormalDist().inv_cdf(p), freedom
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return float(z + sum(term / n**k for k, term in enumerate(terms, 1)))


def ratio_of_sums(tops: Array, bottoms: Array) -> tuple[Array, Array]:
    """Return ratios of sums and half the width of their intervals; NaN where undefined.

    ``tops``: (..., groups), ``bottoms``: (groups,). The variance of R = sum y / sum x over n pairs is
    n/(n-1) sum (y - R x)^2 / (sum x)^2 (Cochran 1977, "Sampling Techniques", section 6.4).
    """
    n, total = len(bottoms), bottoms.sum()
    with np.errstate(all="ignore"):
        ratios = tops.sum(axis=-1) / total
        squares = np.square(tops - ratios[..., None] * bottoms).sum(axis=-1)
        half = student_t(n - 1) * np.sqrt(n / (n - 1) * squares) / total if n > 1 else np.full(ratios.shape, np.nan)
    return ratios, half


def intervals(samples: Array, n_samples: int) -> dict[str, Any]:
    """Return an epoch record's fields on how certain shares and effective ranks are; lists hold None where undefined.

    ``samples``: (ranks, groups, SAMPLE_FIELDS) of ``ContributionMeter``; ``n_samples``: how many steps were sampled.
    """
    used = samples[:, : min(n_samples, samples.shape[1])]
    projected, own_sq, all_sq, plain_sq, expected = (used[..., k] for k in range(len(SAMPLE_FIELDS)))
    g_sq, s_sq = all_sq[:1].sum(axis=0), plain_sq[:1].sum(axis=0)
    shares, half = ratio_of_sums(projected, g_sq)
    weights = np.divide(expected, g_sq, out=np.zeros_like(expected), where=g_sq > 0)
    fair, chance = _band(projected, expected, weights, g_sq)
    alone = np.square(weights) * own_sq
    return {
        "samples": n_samples,
        "share_low": _listed(shares - half),
        "share_high": _listed(shares + half),
        "chance_low": _listed(fair - chance),
        "chance_high": _listed(fair + chance),
        **_effective_ranks(own_sq, s_sq, projected - alone, alone),
    }


def _band(projected: Array, expected: Array, weights: Array, g_sq: Array) -> tuple[Array, Array]:
    """Return the middle and half the width of what chance makes of shares, (ranks,).

    If all rows come from one distribution, p_i = w_i <g_i, g> has the mean w_i <g, g>, and given g the variance
    w_i (1 - w_i) v, with v the variance of a mean of n rows' gradients along g, times <g, g>. The ranks estimate it:
    v = sum_i (p_i - w_i <g, g>)^2 / w_i / (P - 1). With equal rows w_i (1 - w_i) v is just the variance of p_i over all
    ways to deal the step's ranks their names anew (a permutation test; Pitman 1937, Fisher 1935). Steps add up.
    """
    total = g_sq.sum()
    with np.errstate(all="ignore"):
        fair = expected.sum(axis=1) / total
        active = (weights > 0).sum(axis=0)
        own = np.divide(np.square(projected - expected), weights, out=np.zeros_like(weights), where=weights > 0)
        v = np.divide(own.sum(axis=0), active - 1, out=np.zeros(len(g_sq)), where=active > 1)
        spread = np.sqrt((weights * (1 - weights) * v).sum(axis=1)) / total
    if not (active > 1).any():
        spread = np.full(len(fair), np.nan)
    return fair, BAND * spread


def _effective_ranks(own_sq: Array, s_sq: Array, overlap: Array, alone: Array) -> dict[str, float | None]:
    """Return how many independent ranks are as diverse, and its interval; all None where gradients cancel.

    ``own_sq``: (ranks, groups), |g_i|^2. ``s_sq``: (groups,), |sum_i g_i|^2. ``overlap``: (ranks, groups), <h_i, g -
    h_i> with h_i = w_i g_i, what a rank has in common with the others. ``alone``: (ranks, groups), |h_i|^2.

    Diversity is a net figure: of four ranks, two that cancel and two that agree have that of four independent ones. So
    ranks are looked at one by one, too.
    """
    ranks = int((own_sq.sum(axis=1) > 0).sum())
    diversity, half = (float(value) for value in ratio_of_sums(own_sq.sum(axis=0), s_sq))
    fields = ("effective_ranks", "effective_ranks_low", "effective_ranks_high")
    if not math.isfinite(diversity) or _cancel(overlap, alone):
        return dict.fromkeys(fields)
    by_chance = diversity - half <= 1 or diversity <= SLIGHTLY
    if diversity > 1 and not (by_chance and diversity <= MOST_DIVERSITY):
        return dict.fromkeys(fields)
    ends = (diversity - half, diversity + half) if math.isfinite(half) else (None, None)
    low, high = (None if end is None else ranks * min(max(end, 0.0), 1.0) for end in ends)
    return dict(zip(fields, (ranks * min(diversity, 1.0), low, high), strict=True))


def _cancel(overlap: Array, alone: Array) -> bool:
    """Say whether ranks' gradients cancel by more than chance, and by more than a tenth of what they have in common."""
    n_ranks, n = overlap.shape
    sums, own = overlap.sum(axis=1), alone.sum(axis=1)
    if n > 1:
        scatter = np.sqrt(n * overlap.var(axis=1, ddof=1))
        certain = sums + student_t(n - 1, 1 - (1 - CONFIDENCE) / n_ranks) * scatter < 0
    else:
        whole = overlap.sum() + own.sum()  # |g|^2, of which the others' part is what is left without this rank's
        others = np.maximum(whole - 2 * sums - own, 0)
        certain = sums < -OPPOSED * np.sqrt(own * others)
    against = float(-sums[certain & (sums < 0)].sum())
    return against > CANCELLED * float(np.abs(sums).sum() + own.sum())


def _listed(values: Array) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values.tolist()]
