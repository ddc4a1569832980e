"""Verdict ``targets-differ``: no single linear relation explains the rows of all ranks."""

import math
from typing import TYPE_CHECKING

import numpy as np

from common.data.sampler import RowSampler
from common.flat import Array
from ps.findings.verdict import NotJudged, TrainingStart, Verdict

if TYPE_CHECKING:
    from mpi4py import MPI

MIN_F = 10.0
"""F of the test from which ranks count as following different relations. Chance gives about 1."""
MAX_FEATURES = 256
"""The test solves dense systems of this size on every rank; wider data are not tested."""
TAILS = (0.05, 0.95)
"""Rows count as sorted if these quantiles of the ranks' targets do not overlap: a few rows may be out of order."""
BETWEEN = 0.5
"""How much of what one fit for all explains is between ranks, as a multiple of the same fraction of the targets.
About 1 for sorted rows, and 0 to 0.35 in simulations of 2 to 16 ranks with other weights, offsets or units."""
MOST_NUMBERS = 1 << 20
"""Features of the rows that a rank compares, 8 MiB in float64; of more rows, it takes some that are spread over all."""
CHANCE = 1.0
"""Deviations of the root of a chi-square (Fisher 1922); beyond them, ranks' features differ by more than chance."""


CODE = "targets-differ"


def targets_differ(start: TrainingStart) -> Verdict | NotJudged | None:
    """Compare the ranks' fixed rows, if a linear model is trained on them. Collective; the same on every rank."""
    comm, config, data = start.comm, start.config, start.data
    if config.rows != "shard" or config.model != "linear":
        return None
    own = data.train[np.sort(RowSampler.of(config, len(data.train), comm.size).order(1, comm.rank))]
    some = own[:: max(1, -(-len(own) * data.x.shape[1] // MOST_NUMBERS))]
    return chow_test(comm, data.x[some], data.y[some], data.target_mean, data.target_scale, len(own))


def chow_test(
    comm: "MPI.Comm", x: Array, y: Array, mean: Array, scale: Array, n_own: int
) -> Verdict | NotJudged | None:
    """Test whether one linear relation explains all ranks' rows as well as one per rank does.

    ``x``: (n_i, features), ``y``: (n_i, targets), this rank's rows, or some of its ``n_own``. ``mean``, ``scale``:
    (targets,), what was taken off ``y`` and what it was divided by. Chow 1960, Econometrica 28(3), over P groups with
    k = features + 1 coefficients each and n rows in all, from QR factors:
    F = ((RSS - sum RSS_i) / (k (P - 1))) / (sum RSS_i / (n - P k)). Collective; the same verdict on every rank.

    NotJudged where rows are too few or features too many for the test. None also where rows are merely sorted by their
    target, which ``skewed-targets`` reports: each rank then sees part of its range, which flattens its own fit
    (Goldberger 1981, Journal of Econometrics 15), though one relation made all rows.
    """
    n_i, k, targets = len(x), x.shape[1] + 1, y.shape[1]
    table = np.empty((comm.size, 2), np.int64)
    comm.Allgather(np.array([n_i, n_own], np.int64), table)
    counts, held = table.T
    if comm.size < 2:
        return None
    if k > MAX_FEATURES:
        return NotJudged(CODE, f"{k - 1} features; it solves for at most {MAX_FEATURES - 1}")
    if counts.min() <= k:
        return NotJudged(CODE, f"a rank has {counts.min()} rows; a fit of {k - 1} features needs more than {k}")
    n, rounding = int(counts.sum()), 100 * float(np.finfo(x.dtype).eps)
    a = np.concatenate([x, np.ones((n_i, 1)), y], axis=1, dtype=np.float64)
    r = np.asarray(np.linalg.qr(a, mode="r"))
    by_target, totals = _sum(comm, np.array([np.square(r[k:, k:]).sum(axis=0), np.square(r[:, k:]).sum(axis=0)]))
    # as rounding goes by the numbers that were read, the mean counts
    rss, total = float(by_target.sum()), float((totals + n * np.square(mean / scale)).sum())
    tops = np.empty((comm.size, k, k + targets))
    comm.Allgather(np.ascontiguousarray(r[:k]), tops)
    # what the ranks' fits lose when they must share one: the residual of their stacked triangles (no squares taken)
    stacked = tops.reshape(-1, k + targets)
    shared = np.asarray(np.linalg.qr(stacked, mode="r"))
    extra_by_target = np.square(shared[k:, k:]).sum(axis=0)
    extra = float(extra_by_target.sum())
    own_rss = max(rss, rounding**2 * total)  # an exact fit leaves rounding errors: no evidence
    f = extra / (k * (comm.size - 1) * targets) / (own_rss / ((n - comm.size * k) * targets))
    weights = np.linalg.lstsq(stacked[:, :k], stacked[:, k:], rcond=None)[0]
    # asked on all ranks whatever f is, whose last digits another processor may round otherwise
    if _sorted_by_target(comm, a, weights) or f < MIN_F:
        return None
    rms_own, rms_pooled = (
        math.sqrt(float((squares * np.square(scale)).sum()) / (n * targets))
        for squares in (by_target, by_target + extra_by_target)
    )
    own, pooled = _alike(rms_own, rms_pooled)
    return Verdict(
        code=CODE,
        severity="error",
        ranks=list(range(comm.size)),
        text="the ranks' data do not follow one linear relation: one fit per rank leaves error "
        f"{own}, one for all {pooled}. {_rows(held)}",
        remedy="make the targets in the same way on every rank; if they belong together, shuffle the rows (--rows "
        "shuffle) or use a model that is not linear",
        evidence={"f": f, "rms_one_fit_per_rank": rms_own, "rms_one_fit": rms_pooled, "rows": held.tolist()},
    )


def _sorted_by_target(comm: "MPI.Comm", a: Array, weights: Array) -> bool:
    """Return whether rows of one relation were sorted by a target before they were cut into shards. Collective.

    ``a``: this rank's features, ones, targets; ``weights``: (features + 1, targets), the one fit for all rows. Sorted
    rows have targets that do not overlap between ranks because their features differ, so the fit separates the ranks
    as the targets do. Where ranks have other weights or units it does not: it cannot know which rank's row it sees.
    """
    k, targets = weights.shape
    y, fitted = a[:, k:], a[:, :k] @ weights
    tails = np.quantile(y, TAILS, axis=0)
    own = np.concatenate([[np.full(targets, float(len(a)))], y.mean(axis=0)[None], fitted.mean(axis=0)[None], tails])
    table = np.empty((comm.size, *own.shape))
    comm.Allgather(own, table)
    n, means, fits, low, high = np.moveaxis(table, 1, 0)  # (ranks, targets) each
    middle = (n * means).sum(axis=0) / n.sum(axis=0)
    explained, total = _sum(comm, np.array([np.square(fitted - middle).sum(axis=0), np.square(y - middle).sum(axis=0)]))
    between = (n * (fits - middle) * (means - middle)).sum(axis=0)
    # if the ranks' features have one distribution: what k weights can make of the chance differences of their means
    of_targets = (n * np.square(means - middle)).sum(axis=0)
    by_chance = (math.sqrt(k) + CHANCE) * np.sqrt(explained / n.sum(axis=0) * of_targets)
    order = means.argsort(axis=0)
    apart = (np.take_along_axis(low, order, 0)[1:] >= np.take_along_axis(high, order, 0)[:-1]).all(axis=0)
    return bool((apart & (between * total >= BETWEEN * explained * of_targets) & (between > by_chance)).any())


def _alike(small: float, large: float) -> tuple[str, str]:
    """Return both errors with as many decimals as show two digits of the smaller one."""
    decimals = 1 - math.floor(math.log10(small)) if small > 0 else 0
    if not 0 <= decimals <= 6:
        return f"{small:.2g}", f"{large:.3g}"
    return f"{small:.{decimals}f}", f"{large:.{decimals}f}"


def _rows(counts: Array) -> str:
    least, most = int(counts.min()), int(counts.max())
    if least == most:
        return f"All hold {least} rows: this is not imbalance"
    return f"They hold {least} to {most} rows; this is not what makes the difference"


def _sum(comm: "MPI.Comm", own: Array) -> Array:
    total = np.empty_like(own)
    comm.Allreduce(own, total)
    return total
