"""What each rank contributed to the update, by parameter, in sums that the coordinator turns into ratios."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from common.flat import Array

MEASURED_BLOCK = 1 << 15
"""Numbers of a block: two such stay in the core's cache while all that is asked of them is computed."""
GradBlock = tuple[int, Array, Array]
"""Which parameter, and the same block of its gradient: this rank's, and all ranks' together."""


@dataclass(frozen=True, slots=True)
class StepRows:
    """Rows of a step: this rank's, all ranks', and how many ranks have any."""

    own: int
    total: int
    active: int


class ContributionMeter:
    """Sums over an epoch's sampled steps, of which shares and ratios are made (ps/metrics/epoch_metrics.py).

    With g_i the mean gradient of rank i's n_i rows (0 if it has none), w_i = n_i/n, g = sum_i w_i g_i, S = sum_j g_j
    and P ranks that have rows, per parameter: ``own_sq`` = |g_i|^2, ``dot`` = <g_i, g>, ``own_dot`` = w_i <g_i, g>,
    ``all_sq`` = <g, g>, ``plain_sq`` = |S|^2, ``without_sq`` = |g - g_-i|^2 with g_-i the mean gradient of all other
    rows, ``mean`` = mean of g_i's entries. ``noise`` = n/(P-1) w_i (|g_i|^2 - |g|^2), which summed over the ranks
    estimates the trace of the covariance of single rows' gradients, ``noise_share`` the same over n, and ``noise_sq`` =
    <g, g>, all three only of steps with P > 1.
    """

    FIELDS = (
        "mean", "own_sq", "dot", "own_dot", "all_sq", "plain_sq", "without_sq", "noise", "noise_share", "noise_sq"
    )  # fmt: skip
    PLAIN, WITHOUT = FIELDS.index("plain_sq"), FIELDS.index("without_sq")

    def __init__(self, sizes: list[int]) -> None:
        """``sizes``: numbers in each parameter."""
        self.sizes = np.array(sizes, np.float64)
        self._plain_sq = np.zeros(len(sizes))
        self._steps: list[tuple[StepRows, float, float, list[list[float]]]] = []
        self._ones = np.ones(0)

    def measure(self, grad_blocks: Iterable[GradBlock], rows: StepRows, scale: float, plain: float) -> None:
        """Add one step's numbers; what can wait is done when the epoch is closed, for all its steps together.

        ``grad_blocks``: gradients of sums of losses, times ``scale``, that together cover all parameters. ``plain``: S
        as a multiple of g, or 0 if ``measure_plain`` gets S.
        """
        self._steps.append((rows, scale, plain, self._reduce(grad_blocks)))

    def _fields(self, rows: StepRows, scale: float, plain: float, reduced: Array) -> Array:
        """Return what steps add to the fields, (steps, fields, parameters); ``reduced``: (steps, parameters, 4)."""
        added: Array = self._coefficients(rows, scale, plain) @ reduced.transpose(0, 2, 1)
        without = added[:, self.WITHOUT]
        if rows.own == rows.total:  # without this rank there is nothing
            without[:] = np.inf
        else:
            np.maximum(without, 0, out=without)  # rounding may leave less than nothing
        return added

    def _coefficients(self, rows: StepRows, scale: float, plain: float) -> Array:
        """Return how much of what ``_reduce`` returns makes each field, (n_fields, 4)."""
        own = 1 / (scale * rows.own) if rows.own and scale else 0.0
        g = 1 / (scale * rows.total) if scale else 0.0
        weight = rows.own / rows.total
        rest = (weight / (1 - weight)) ** 2 if weight < 1 else 0.0
        noise = weight / (rows.active - 1) if rows.active > 1 else 0.0
        return np.array([
            [own, 0, 0, 0],
            [0, own**2, 0, 0],
            [0, 0, own * g, 0],
            [0, 0, weight * own * g, 0],
            [0, 0, 0, g**2],
            [0, 0, 0, (plain * g) ** 2],
            [0, rest * own**2, -2 * rest * own * g, rest * g**2],
            [0, rows.total * noise * own**2, 0, -rows.total * noise * g**2],
            [0, noise * own**2, 0, -noise * g**2],
            [0, 0, 0, g**2 if rows.active > 1 else 0],
        ])  # fmt: skip

    def _reduce(self, grad_blocks: Iterable[GradBlock]) -> list[list[float]]:
        """Return, by parameter, the sum of entries, |own|^2, <own, g> and |g|^2 as they come scaled."""
        step = [[0.0] * 4 for _ in self.sizes]
        for i, own, g in grad_blocks:
            found = self._products(own, g)
            if not math.isfinite(sum(found)):  # squares leave float32 long before the numbers do
                found = self._products(own.astype(np.float64), g.astype(np.float64))
            sums = step[i]
            for k, value in enumerate(found):
                sums[k] += value
        return step

    def _products(self, own: Array, g: Array) -> tuple[float, float, float, float]:
        if len(self._ones) < len(own) or self._ones.dtype != own.dtype:
            self._ones = np.ones(len(own), own.dtype)
        ones = self._ones[: len(own)]  # a dot takes half the time of a sum
        return float(own.dot(ones)), float(own.dot(own)), float(own.dot(g)), float(g.dot(g))

    def measure_plain(self, plain_blocks: Iterable[tuple[int, Array]]) -> None:
        """Add |S|^2, where ranks had unequal rows, from the blocks of S."""
        for i, s in plain_blocks:
            square = float(np.dot(s, s))
            self._plain_sq[i] += square if math.isfinite(square) else float(np.square(s, dtype=np.float64).sum())

    def close_epoch(self) -> dict[str, np.ndarray]:
        """Return the sums by field, (n_parameters,) each, means for ``mean`` and the noise; begin again."""
        total = np.zeros((len(self.FIELDS), len(self.sizes)))
        alike: dict[tuple[StepRows, float, float], list[list[list[float]]]] = {}
        for rows, scale, plain, reduced in self._steps:
            alike.setdefault((rows, scale, plain), []).append(reduced)
        for how, steps in alike.items():
            total += self._fields(*how, np.array(steps)).sum(axis=0)
        total[self.PLAIN] += self._plain_sq
        sums = dict(zip(self.FIELDS, total, strict=True))
        sums["mean"] /= self.sizes * max(len(self._steps), 1)
        with_others = sum(rows.active > 1 for rows, *_ in self._steps)
        for field in ("noise", "noise_share", "noise_sq"):
            sums[field] /= max(with_others, 1)
        self._plain_sq[:] = 0
        self._steps.clear()
        return sums
