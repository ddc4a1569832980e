"""What a sum costs in theory: latency and bandwidth fitted to measured times by a mode's formula, and predictions."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ps.sync.mode import Mode
from workers.benchmark.step_model import Line, ModeCosts, Place, fit_line

PREDICTED_RANKS = (16, 256, 4096)
LEAST_BETWEEN = 0.05
"""What a sum over several nodes takes between them, at least, of its time: a fit within one may say more than all."""
POOR = 0.5
"""A fit that is off by more than this at a size it was fitted to describes nothing."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Seconds of a sum = terms[0] alpha_s + terms[1] bytes beta_s_per_byte, with the terms of a CostFormula.

    None stands for what the sizes leave open; ``note`` says why. ``largest_error``: (predicted - measured) / measured
    among the sizes it was fitted to; None if there are only two, which fit exactly.
    """

    alpha_s: float | None = None
    beta_s_per_byte: float | None = None
    largest_error: float | None = None
    note: str = ""

    def seconds(self, terms: tuple[float, float], n_bytes: float) -> float | None:
        """Return the predicted time, if there is one."""
        if self.alpha_s is None or self.beta_s_per_byte is None:
            return None
        return terms[0] * self.alpha_s + terms[1] * n_bytes * self.beta_s_per_byte


def fit(terms: tuple[float, float], n_bytes: Sequence[float], seconds: Sequence[float]) -> Fit:
    """Fit latency and seconds per byte to times of several packet sizes by least squares of the relative errors.

    Relative, since times span orders of magnitude and their noise grows with them.
    """
    if min(terms) <= 0:
        return Fit(note="nothing to fit: one rank sends nothing")
    if len(set(n_bytes)) < 2:
        return Fit(note="one size does not separate latency from bandwidth; give at least two --sizes")
    t, m = np.array(seconds), np.array(n_bytes, float)
    scale = m.max()  # both columns of like size
    a = np.stack([terms[0] / t, terms[1] * m / scale / t], axis=1)
    solution, _, rank, _ = np.linalg.lstsq(a, np.ones(len(t)))
    alpha, beta = float(solution[0]), float(solution[1]) / float(scale)
    if rank < 2 or alpha <= 0 or beta <= 0:
        which, other = ("bandwidth", "larger") if beta <= 0 else ("latency", "smaller")
        return Fit(
            note=f"{which} cannot be estimated: the best fit is not positive; add {other} --sizes or more --trials"
        )
    if len(set(n_bytes)) == 2:
        return Fit(alpha, beta, note="two sizes determine both numbers; a third shows how good the fit is")
    worst = float((np.abs(terms[0] * alpha + terms[1] * m * beta - t) / t).max())
    return Fit(alpha, beta, worst, f"poor fit: up to {100 * worst:.0f} % off" if worst > POOR else "")


def report(
    mode: Mode,
    place: Place,
    sizes: list[tuple[int, float]],
    packet_bytes: int,
    within: Sequence[tuple[int, float]] = (),
) -> dict[str, Any]:
    """Return a mode's entry of the ``fit`` record.

    ``sizes``: bytes and measured seconds; ``within``: those among the ranks of the largest of several nodes.
    """
    if place.nodes > 1:
        return _of_nodes(mode, place, dict(sizes), packet_bytes, dict(within))
    terms = mode.cost.terms(place.ranks, 1)
    found = fit(terms, [n for n, _ in sizes], [t for _, t in sizes])
    points = []
    for n_bytes, measured in sizes:
        predicted = found.seconds(terms, n_bytes)
        error = None if predicted is None else (predicted - measured) / measured
        points.append({"bytes": n_bytes, "measured_s": measured, "predicted_s": predicted, "error": error})
    predictions = [
        {"ranks": more, "nodes": 1, "seconds": found.seconds(mode.cost.terms(more, 1), packet_bytes)}
        for more in (PREDICTED_RANKS if found.alpha_s is not None else ())
    ]
    formula = {"mode": mode.name, "formula": mode.cost.text}
    return {**formula, **asdict(found), "points": points, "predicted": predictions}


def _of_nodes(
    mode: Mode, place: Place, sizes: dict[int, float], packet_bytes: int, within: dict[int, float]
) -> dict[str, Any]:
    """Return the entry of a mode that summed on several nodes: latency and bandwidth within them and between them.

    Predictions are for nodes with as many ranks each as the largest has.
    """
    cost = mode.cost
    inner = fit_line(cost.terms(place.per_node, 1), within) if within else Line()
    alone = ModeCosts(inner)
    rest = {n: max(t - alone.sum_s(cost, place, n), LEAST_BETWEEN * t) for n, t in sizes.items()}
    costs = ModeCosts(inner, fit_line(cost.between(place.nodes, place.elsewhere), rest))
    points = []
    for n_bytes, measured in sizes.items():
        predicted = costs.sum_s(cost, place, n_bytes)
        error = (predicted - measured) / measured
        points.append({"bytes": n_bytes, "measured_s": measured, "predicted_s": predicted, "error": error})
    worst = max((abs(point["error"]) for point in points), default=0.0)
    note = f"poor fit: up to {100 * worst:.0f} % off" if worst > POOR else ""
    if len(sizes) < 2:
        note = "one size does not separate latency from bandwidth; give at least two --sizes"
    predictions = []
    for more in PREDICTED_RANKS if len(sizes) > 1 else ():
        ahead = Place(more, math.ceil(more / place.per_node), largest=place.per_node)
        predictions.append({"ranks": more, "nodes": ahead.nodes, "seconds": costs.sum_s(cost, ahead, packet_bytes)})
    return {
        "mode": mode.name,
        "formula": f"{cost.text}, of L on a node; between nodes {cost.network_text}",
        "alpha_s": inner.latency_s if within else None,
        "beta_s_per_byte": inner.s_per_byte if within else None,
        "network_alpha_s": costs.network.latency_s,
        "network_beta_s_per_byte": costs.network.s_per_byte,
        "largest_error": worst if len(sizes) > 2 else None,
        "note": note,
        "points": points,
        "predicted": predictions,
    }


def warning(nodes: int) -> str:
    """Return what must be said next to predictions."""
    text = (
        "Predictions are extrapolations of a formula, not measurements: they leave out contention for memory and "
        "network, other algorithms the MPI library may choose, and slow ranks."
    )
    one_node = (
        " All was measured within one node: they hold for more ranks with its latency and its bandwidth each, which no "
        "network has and no memory has for all; measure on several nodes before planning with them."
    )
    return text + one_node * (nodes == 1)
