"""From the rows that ranks hand in to the figures of an epoch's record: numbers in, numbers out, no MPI."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from common.flat import Array

Ratio = float | None


def ratio(top: float, bottom: float) -> Ratio:
    """Return top / bottom; None where undefined: JSON and other languages have no common NaN."""
    value = float(top) / float(bottom) if bottom > 0 else math.nan
    return value if math.isfinite(value) else None


def _by_rank(sums: dict[str, Array]) -> dict[str, Array]:
    """Return what parameters give by rank, NaN where undefined; ``sums``: by field, (parameters, ranks).

    Yin et al. 2018 for diversity, in ``diversity``; docs/log-format.md has the others.
    """
    own_sq, all_sq = sums["own_sq"], sums["all_sq"]
    tops = np.stack([own_sq, sums["own_dot"], sums["dot"], sums["without_sq"]])
    bottoms = np.stack([sums["plain_sq"], all_sq, np.sqrt(own_sq * all_sq), all_sq])
    ratios: Array = np.full(tops.shape, np.nan)
    np.divide(tops, bottoms, out=ratios, where=bottoms > 0)
    norm_ratio, share, cosine, leave_one_out = ratios
    return {
        "norm_ratio": np.sqrt(np.maximum(norm_ratio, 0)),
        "share": share,
        "cosine": cosine,
        "leave_one_out": np.sqrt(np.maximum(leave_one_out, 0)),
    }


def plain(values: Array) -> list[Any]:
    """Return plain numbers, None for what is not finite."""
    if np.isfinite(values).all():
        listed: list[Any] = values.tolist()
        return listed
    if values.ndim > 1:
        return [plain(row) for row in values]
    return [value if math.isfinite(value) else None for value in values.tolist()]


def contribution(table: Array, names: list[str]) -> dict[str, Any]:
    """Return an epoch record's fields on who contributed what.

    ``table``: (ranks,) of ``rank_row.row_type``, whose contribution fields are (ranks, parameters).
    """
    sums = {}
    for field in ("own_sq", "dot", "own_dot", "all_sq", "plain_sq", "without_sq"):
        each = table[field].T  # a line for each parameter, then one for all together
        sums[field] = np.concatenate([each, each.sum(axis=0, keepdims=True)])
    fields: dict[str, Any] = {"gradient_mean": dict(zip(names, plain(table["mean"].T), strict=True))}
    for key, values in _by_rank(sums).items():
        *single, together = plain(values)
        fields[key] = dict(zip(names, single, strict=True))
        fields[f"{key}_all"] = together
    own_sq, plain_sq = sums["own_sq"].sum(axis=1).tolist(), sums["plain_sq"][:, 0].tolist()
    *single, diversity = map(ratio, own_sq, plain_sq)
    fields["diversity"], fields["diversity_all"] = dict(zip(names, single, strict=True)), diversity
    trace, bias = table["noise"].sum(axis=0), table["noise_share"].sum(axis=0)
    fields["noise_trace"] = dict(zip(names, plain(trace), strict=True))
    fields["noise_gradient_sq"] = dict(zip(names, plain(table["noise_sq"][0] - bias), strict=True))
    return fields


def gradient_norm(table: Array, n_sampled: int) -> Ratio:
    """Return |g|, the root of its mean square over the sampled steps; each rank's row has the sum of squares."""
    mean_sq = ratio(float(table["all_sq"][0].sum()), n_sampled)
    return None if mean_sq is None else math.sqrt(max(mean_sq, 0.0))


class NoiseScale:
    """B_simple = tr(Sigma) / |G|^2 (McCandlish et al. 2018, arXiv 1812.06162), from moving averages of both.

    Both estimates are unbiased and noisy, so each is averaged over the epochs before they are divided; their
    appendix A.1 for equal shares, here for unequal ones too.
    """

    KEEP = 0.8

    def __init__(self) -> None:
        self.trace = self.gradient_sq = 0.0

    def update(self, record: Mapping[str, Any]) -> Ratio:
        """Return the rows a step above which more rows gain little; None while it is not known.

        ``record``: an epoch's, with estimates by parameter.
        """
        trace, gradient_sq = (
            sum(math.nan if v is None else v for v in record[name].values())
            for name in ("noise_trace", "noise_gradient_sq")
        )
        if not (math.isfinite(trace) and math.isfinite(gradient_sq)) or (trace == 0 and gradient_sq == 0):
            return None
        self.trace = self.KEEP * self.trace + (1 - self.KEEP) * trace
        self.gradient_sq = self.KEEP * self.gradient_sq + (1 - self.KEEP) * gradient_sq
        return ratio(self.trace, self.gradient_sq) if self.trace > 0 else None


def efficiency(busy_s: Array, loop_s: Array) -> dict[str, Ratio]:
    """Return load balance, communication and parallel efficiency (POP, co-design.pop-coe.eu/metrics).

    LB = mean(c) / max(c), CommE = max(c) / runtime, PE = LB CommE, with c the seconds of useful work by rank.
    """
    load_balance = ratio(float(busy_s.mean()), float(busy_s.max()))
    communication = ratio(float(busy_s.max()), float(loop_s.max()))
    parallel = None if load_balance is None or communication is None else load_balance * communication
    return {"load_balance": load_balance, "communication": communication, "parallel": parallel}


def bus_bandwidth(n_bytes: float, n_ranks: int, seconds: float) -> Ratio:
    """Return bytes a second as nccl-tests' PERFORMANCE.md counts: 2 (P-1)/P of the vector over the time of a sum."""
    return ratio(n_bytes * 2 * (n_ranks - 1) / n_ranks, seconds) if n_ranks > 1 else None


RUN_TIME = ("compute_s", "input_s", "sync_s")
"""What the steps of an epoch take on a rank, without measuring contributions and checkpoints."""


def useful_s(times: Mapping[str, Any] | Array) -> Array:
    """Return the seconds of useful work by rank, of an epoch's record or of a table with its fields.

    Input and computing, without what ranks spend on summing and updating slices: that is part of the exchange.
    """
    return np.asarray(np.add(times["compute_s"], times["input_s"]) - np.asarray(times["reduce_s"]))
