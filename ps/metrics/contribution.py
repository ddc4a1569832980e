"""What each rank contributed to the update, by parameter, in sums that the coordinator turns into ratios."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from common.flat import Array

MEASURED_BLOCK = 1 << 15
"""Numbers of a block: two such stay in the core's cache while all that is asked of them is computed."""
GROUPS = 32
"""A row holds what an epoch's sampled steps gave in at most so many groups, consecutive steps together."""
SAMPLE_FIELDS = ("own_dot", "own_sq", "all_sq", "plain_sq", "expected")
"""Of a group of sampled steps, over all parameters: see ContributionMeter; ``expected`` = w_i <g, g>, what rank i's
projection would be if its rows were no different from the others'."""
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
    OF_SAMPLES = tuple(map(FIELDS.index, SAMPLE_FIELDS[:-1]))

    def __init__(self, sizes: list[int]) -> None:
        """``sizes``: numbers in each parameter."""
        self.sizes = np.array(sizes, np.float64)
        self._steps: list[tuple[StepRows, float, float, list[list[float]]]] = []
        self._plain_sq: dict[int, list[float]] = {}
        """By number of a sampled step and parameter, where ranks had unequal rows."""
        self._ones = np.ones(0)

    def measure(self, grad_blocks: Iterable[GradBlock], rows: StepRows, scale: float, plain: float) -> None:
        """Add one step's numbers; what can wait is done when the epoch is closed, for all its steps together.

        ``grad_blocks``: gradients of sums of losses, times ``scale``, that together cover all parameters. ``plain``: S
        as a multiple of g, or 0 if ``measure_plain`` gets S.
        """
        self._steps.append((rows, scale, plain, self._reduce(grad_blocks)))

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
        """Add the last step's |S|^2, where ranks had unequal rows, from the blocks of S."""
        sums = self._plain_sq.setdefault(len(self._steps) - 1, [0.0] * len(self.sizes))
        for i, s in plain_blocks:
            square = float(np.dot(s, s))
            sums[i] += square if math.isfinite(square) else float(np.square(s, dtype=np.float64).sum())

    def close_epoch(self) -> dict[str, np.ndarray]:
        """Return the sums by field, (n_parameters,) each, means for ``mean`` and the noise; begin again.

        ``samples``: (GROUPS, len(SAMPLE_FIELDS)), what groups of sampled steps gave, zeros for groups without any.
        """
        by_step, rows = self._by_step()
        sums = dict(zip(self.FIELDS, by_step.sum(axis=0), strict=True))
        sums["mean"] /= self.sizes * max(len(rows), 1)
        with_others = int((rows[:, 2] > 1).sum())
        for field in ("noise", "noise_share", "noise_sq"):
            sums[field] /= max(with_others, 1)
        sums["samples"] = np.zeros((GROUPS, len(SAMPLE_FIELDS)))
        if len(rows):
            of_samples = by_step[:, list(self.OF_SAMPLES)].sum(axis=2)
            expected = rows[:, :1] / rows[:, 1:2] * of_samples[:, 2:3]
            first = np.arange(min(len(rows), GROUPS)) * len(rows) // min(len(rows), GROUPS)
            sums["samples"][: len(first)] = np.add.reduceat(np.hstack([of_samples, expected]), first)
        self._steps.clear()
        self._plain_sq.clear()
        return sums

    def _by_step(self) -> tuple[Array, Array]:
        """Return what each step adds to the fields, (steps, fields, parameters), and its rows, (steps, 3)."""
        n = len(self._steps)
        rows = np.array([(step.own, step.total, step.active) for step, *_ in self._steps], np.float64).reshape(n, 3)
        scale, plain = (np.array([step[k] for step in self._steps], np.float64) for k in (1, 2))
        reduced = np.array([step[3] for step in self._steps], np.float64).reshape(n, len(self.sizes), 4)
        added: Array = self._coefficients(rows, scale, plain) @ reduced.transpose(0, 2, 1)
        for number, squares in self._plain_sq.items():
            added[number, self.PLAIN] += squares
        without = added[:, self.WITHOUT]
        np.maximum(without, 0, out=without)  # rounding may leave less than nothing
        without[rows[:, 0] == rows[:, 1]] = np.inf  # without this rank there is nothing
        return added, rows

    def _coefficients(self, rows: Array, scale: Array, plain: Array) -> Array:
        """Return how much of what ``_reduce`` returns makes each field, (steps, n_fields, 4); ``rows``: (steps, 3)."""
        n_own, n, active = rows.T
        own = np.divide(1.0, scale * n_own, out=np.zeros(len(rows)), where=scale * n_own != 0)
        g = np.divide(1.0, scale * n, out=np.zeros(len(rows)), where=scale != 0)
        weight = n_own / n
        rest = np.square(np.divide(weight, 1 - weight, out=np.zeros(len(rows)), where=weight < 1))
        noise = np.divide(weight, active - 1, out=np.zeros(len(rows)), where=active > 1)
        of = np.zeros((len(rows), len(self.FIELDS), 4))
        of[:, 0, 0] = own
        of[:, 1, 1] = own**2
        of[:, 2, 2] = own * g
        of[:, 3, 2] = weight * own * g
        of[:, 4, 3] = g**2
        of[:, 5, 3] = (plain * g) ** 2
        of[:, 6, 1:] = np.stack([rest * own**2, -2 * rest * own * g, rest * g**2], axis=1)
        of[:, 7, 1], of[:, 7, 3] = n * noise * own**2, -n * noise * g**2
        of[:, 8, 1], of[:, 8, 3] = noise * own**2, -noise * g**2
        of[:, 9, 3] = g**2 * (active > 1)
        return of
