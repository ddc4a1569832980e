"""From the rows that ranks hand in to the figures of an epoch's record: numbers in, numbers out, no MPI."""

import math
from typing import Any

import numpy as np

from common.flat import Array

Ratio = float | None


def ratio(top: float, bottom: float) -> Ratio:
    """Return top / bottom; None where undefined: JSON and other languages have no common NaN."""
    value = float(top) / float(bottom) if bottom > 0 else math.nan
    return value if math.isfinite(value) else None


def _finite(value: float) -> Ratio:
    return value if math.isfinite(value) else None


def _ratios(tops: Array, bottoms: Array) -> list[Ratio]:
    return [ratio(t, b) for t, b in zip(tops, bottoms, strict=True)]


def _root(value: Ratio) -> Ratio:
    return None if value is None else math.sqrt(max(value, 0.0))


def _by_rank(table: Array) -> dict[str, list[Ratio]]:
    """Return what one parameter, or all of them together, gives by rank; ``table``: sums by field, (ranks,) each.

    Yin et al. 2018 for diversity, in ``diversity``; the others are told in docs/log-format.md.
    """
    own_sq, dot, all_sq = table["own_sq"], table["dot"], table["all_sq"]
    return {
        "norm_ratio": [_root(r) for r in _ratios(own_sq, table["plain_sq"])],
        "share": _ratios(table["own_dot"], all_sq),
        "cosine": _ratios(dot, np.sqrt(own_sq * all_sq)),
        "leave_one_out": [_root(r) for r in _ratios(table["without_sq"], all_sq)],
    }


def contribution(table: Array, names: list[str]) -> dict[str, Any]:
    """Return an epoch record's fields on who contributed what.

    ``table``: (ranks,) of ``ps.rows.row_type``, whose contribution fields are (ranks, parameters).
    """
    columns = {f: table[f] for f in ("own_sq", "dot", "own_dot", "all_sq", "plain_sq", "without_sq")}
    single = [_by_rank({f: column[:, i] for f, column in columns.items()}) for i in range(len(names))]  # type: ignore[arg-type]
    together = _by_rank({f: column.sum(axis=1) for f, column in columns.items()})  # type: ignore[arg-type]
    fields: dict[str, Any] = {
        "gradient_mean": {n: [_finite(v) for v in table["mean"][:, i].tolist()] for i, n in enumerate(names)}
    }
    for key in ("norm_ratio", "share", "cosine", "leave_one_out"):
        fields[key] = {n: single[i][key] for i, n in enumerate(names)}
        fields[f"{key}_all"] = together[key]
    own_sq, plain_sq = table["own_sq"].sum(axis=0), table["plain_sq"][0]
    fields["diversity"] = {n: ratio(own_sq[i], plain_sq[i]) for i, n in enumerate(names)}
    diversity = fields["diversity_all"] = ratio(own_sq.sum(), plain_sq.sum())
    fields["effective_ranks"] = None if diversity is None else int((table["rows"] > 0).sum()) * min(diversity, 1.0)
    trace, bias = table["noise"].sum(axis=0), table["noise_share"].sum(axis=0)
    squares = table["noise_sq"][0] - bias
    fields["noise_trace"] = {n: _finite(float(trace[i])) for i, n in enumerate(names)}
    fields["noise_gradient_sq"] = {n: _finite(float(squares[i])) for i, n in enumerate(names)}
    return fields


class NoiseScale:
    """B_simple = tr(Sigma) / |G|^2 (McCandlish et al. 2018, arXiv 1812.06162), from moving averages of both.

    Both estimates are unbiased and noisy, so each is averaged over the epochs before they are divided; their
    appendix A.1 for equal shares, here for unequal ones too.
    """

    KEEP = 0.8

    def __init__(self) -> None:
        self.trace = self.gradient_sq = 0.0

    def update(self, traces: list[Ratio], gradient_sqs: list[Ratio]) -> Ratio:
        """Return the rows a step beyond which more ranks stop paying; None while it cannot be told.

        ``traces``, ``gradient_sqs``: the epoch's estimates by parameter.
        """
        trace, gradient_sq = (sum(math.nan if v is None else v for v in values) for values in (traces, gradient_sqs))
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
    known = load_balance is not None and communication is not None
    return {
        "load_balance": load_balance,
        "communication": communication,
        "parallel": load_balance * communication if known else None,  # type: ignore[operator]
    }


def bus_bandwidth(n_bytes: float, n_ranks: int, seconds: float) -> Ratio:
    """Return bytes a second as nccl-tests' PERFORMANCE.md counts: 2 (P-1)/P of the vector over the time of a sum."""
    return ratio(n_bytes * 2 * (n_ranks - 1) / n_ranks, seconds) if n_ranks > 1 else None
