"""What a sum costs in theory: formulas of the modes, latency and bandwidth fitted to measured times, predictions."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

PREDICTED_RANKS = (16, 256, 4096)
POOR = 0.5
"""A fit that is off by more than this at a size it was made from describes nothing."""
WARNING = (
    "Predictions are extrapolations of a formula, not measurements: they leave out contention for memory and network, "
    "other algorithms the MPI library may choose, and slow ranks."
)
ONE_NODE = (
    " All was measured within one node: they hold for more ranks with its latency and its bandwidth each, which no "
    "network has and no memory has for all; measure on several nodes before planning with them."
)
Shape = tuple[float, float]
"""How often a cost takes the latency, and how often the time of the whole packet's bytes."""


def allreduce(ranks: int, nodes: int) -> Shape:
    """2 lg P a + 2 (P-1)/P m b: Rabenseifner's algorithm, for long vectors (Thakur et al. 2005, section 4)."""
    del nodes
    return 2 * _rounds(ranks), 2 * (ranks - 1) / ranks


def reduce_bcast(ranks: int, nodes: int) -> Shape:
    """2 lg P a + 2 (P-1)/P m b, then (lg P + P - 1) a + 2 (P-1)/P m b: both for long vectors (Thakur et al. 2005)."""
    del nodes
    return 3 * _rounds(ranks) + ranks - 1, 4 * (ranks - 1) / ranks


def star(ranks: int, nodes: int) -> Shape:
    """2 (P-1) (a + m b): all through rank 0."""
    del nodes
    return 2 * (ranks - 1), 2 * (ranks - 1)


def shared(ranks: int, nodes: int) -> Shape:
    """Two barriers of lg L rounds and (L+1)/L m b of memory traffic, for L ranks a node; then slices between K nodes.

    These are Rabenseifner's of m/L bytes over K nodes, with the same a and b: 2 lg K a + 2 (K-1)/K m/L b.
    """
    local = -(-ranks // nodes)
    memory = (local + 1) / local if local > 1 else 0.0
    return 2 * _rounds(local) + 2 * _rounds(nodes), memory + 2 * (nodes - 1) / nodes / local


FORMULAS: dict[str, tuple[Callable[[int, int], Shape], str]] = {
    "allreduce": (allreduce, "2 lg P a + 2 (P-1)/P m b"),
    "reduce-bcast": (reduce_bcast, "(3 lg P + P - 1) a + 4 (P-1)/P m b"),
    "send-recv": (star, "2 (P-1) (a + m b)"),
    "shared": (shared, "2 (lg L + lg K) a + ((L+1)/L + 2 (K-1)/(K L)) m b"),
    "factors": (shared, "as shared: a vector has no factors"),
}
"""Of a packet of m bytes on P ranks, L of them on each of K nodes; the cost of adding is part of b, being as often."""


def _rounds(n: int) -> int:
    """Return lg n, rounded up."""
    return (n - 1).bit_length()


@dataclass(frozen=True, slots=True)
class Fit:
    """Seconds of a sum = shape[0] alpha_s + shape[1] bytes beta_s_per_byte; what cannot be told is None, ``note`` why.

    ``largest_error``: of the sizes it was made from, (predicted - measured) / measured; None where two sizes leave
    nothing to check.
    """

    alpha_s: float | None = None
    beta_s_per_byte: float | None = None
    largest_error: float | None = None
    note: str = ""

    def seconds(self, shape: Shape, n_bytes: float) -> float | None:
        """Return the predicted time, if there is one."""
        if self.alpha_s is None or self.beta_s_per_byte is None:
            return None
        return shape[0] * self.alpha_s + shape[1] * n_bytes * self.beta_s_per_byte


def fit(shape: Shape, n_bytes: Sequence[float], seconds: Sequence[float]) -> Fit:
    """Fit latency and seconds per byte to times of several packet sizes by least squares of the relative errors.

    Relative, since times span orders of magnitude and their noise grows with them.
    """
    if min(shape) <= 0:
        return Fit(note="nothing to fit: one rank sends nothing")
    if len(set(n_bytes)) < 2:
        return Fit(note="latency and bandwidth cannot be told apart from one size; give at least two --sizes")
    t, m = np.array(seconds), np.array(n_bytes, float)
    scale = m.max()  # both columns of like size
    a = np.stack([shape[0] / t, shape[1] * m / scale / t], axis=1)
    solution, _, rank, _ = np.linalg.lstsq(a, np.ones(len(t)))
    alpha, beta = float(solution[0]), float(solution[1]) / float(scale)
    if rank < 2 or alpha <= 0 or beta <= 0:
        which = "bandwidth" if beta <= 0 else "latency"
        other = "larger" if beta <= 0 else "smaller"
        return Fit(note=f"{which} cannot be told: the best fit is not positive; add {other} --sizes or more --trials")
    errors = np.abs(shape[0] * alpha + shape[1] * m * beta - t) / t
    if len(set(n_bytes)) == 2:
        return Fit(alpha, beta, note="two sizes fix two numbers: a third would tell how good the fit is")
    worst = float(errors.max())
    note = f"poor fit, off by up to {100 * worst:.0f} %"
    return Fit(alpha, beta, worst, note if worst > POOR else "")


def report(mode: str, ranks: int, nodes: int, sizes: list[tuple[int, float]], packet_bytes: int) -> dict[str, Any]:
    """Return a mode's entry of the ``fit`` record. ``sizes``: bytes and measured seconds."""
    cost, formula = FORMULAS[mode]
    shape = cost(ranks, nodes)
    found = fit(shape, [n for n, _ in sizes], [t for _, t in sizes])
    points = []
    for n_bytes, measured in sizes:
        predicted = found.seconds(shape, n_bytes)
        error = None if predicted is None else (predicted - measured) / measured
        points.append({"bytes": n_bytes, "measured_s": measured, "predicted_s": predicted, "error": error})
    predictions = []
    for more in PREDICTED_RANKS:
        more_nodes = 1 if nodes == 1 else math.ceil(more * nodes / ranks)
        seconds = found.seconds(cost(more, more_nodes), packet_bytes)
        if seconds is not None:
            predictions.append({"ranks": more, "nodes": more_nodes, "seconds": seconds})
    return {
        "mode": mode,
        "formula": formula,
        "alpha_s": found.alpha_s,
        "beta_s_per_byte": found.beta_s_per_byte,
        "largest_error": found.largest_error,
        "note": found.note,
        "points": points,
        "predicted": predictions,
    }


def warning(nodes: int) -> str:
    """Return what must be said beside predictions."""
    return WARNING + (ONE_NODE if nodes == 1 else "")
