"""What each rank contributed to the update, by parameter, in sums that the coordinator turns into ratios."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from common.flat import Array

Part = tuple[int, Array, Array]
"""Which parameter, and the same piece of its gradient: this rank's, and all ranks' together."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a step: this rank's, all ranks', and how many ranks have any."""

    own: int
    total: int
    active: int


class ContributionMeter:
    """Sums over an epoch's sampled steps, of which shares and ratios are made (ps/analytics.py).

    With g_i the mean gradient of rank i's n_i rows (0 if it has none), w_i = n_i/n, g = sum_i w_i g_i, S = sum_j g_j
    and P ranks that have rows, per parameter: ``own_sq`` = |g_i|^2, ``dot`` = <g_i, g>, ``own_dot`` = w_i <g_i, g>,
    ``all_sq`` = <g, g>, ``plain_sq`` = |S|^2, ``without_sq`` = |g - g_-i|^2 with g_-i the mean gradient of all other
    rows, ``mean`` = mean of g_i's entries. ``noise`` = n/(P-1) w_i (|g_i|^2 - |g|^2), which summed over the ranks
    estimates the trace of the covariance of single rows' gradients, ``noise_share`` the same over n, and ``noise_sq`` =
    <g, g>, all three only of steps with P > 1.
    """

    FIELDS = (
        "mean",
        "own_sq",
        "dot",
        "own_dot",
        "all_sq",
        "plain_sq",
        "without_sq",
        "noise",
        "noise_share",
        "noise_sq",
    )

    def __init__(self, sizes: list[int]) -> None:
        """``sizes``: numbers in each parameter."""
        self.sizes = np.array(sizes, np.float64)
        self.sums = {field: np.zeros(len(sizes)) for field in self.FIELDS}
        self.samples = 0
        self.noise_samples = 0
        self._step = np.zeros((4, len(sizes)))  # entries, squares and products of one step, as they come scaled

    def measure(self, parts: Iterable[Part], rows: Rows, scale: float, plain: float) -> None:
        """Add one step's numbers.

        ``parts``: gradients of sums of losses, times ``scale``, that together cover all parameters. ``plain``: S as a
        multiple of g, or 0 if ``measure_plain`` is told S.
        """
        step = self._step
        step[:] = 0
        for i, own, g in parts:
            step[:, i] += own.sum(dtype=np.float64), np.dot(own, own), np.dot(own, g), np.dot(g, g)
        to_own = 1 / (scale * rows.own) if rows.own and scale else 0.0
        to_all = 1 / (scale * rows.total) if scale else 0.0
        own_sq, dot, all_sq = step[1] * to_own**2, step[2] * to_own * to_all, step[3] * to_all**2
        weight, sums = rows.own / rows.total, self.sums
        sums["mean"] += step[0] * to_own / self.sizes
        sums["own_sq"] += own_sq
        sums["dot"] += dot
        sums["own_dot"] += weight * dot
        sums["all_sq"] += all_sq
        sums["plain_sq"] += plain**2 * all_sq
        if rows.own == rows.total:  # without this rank there is nothing
            sums["without_sq"] += np.inf
        elif rows.own:
            apart = np.maximum(own_sq - 2 * dot + all_sq, 0)  # rounding may leave less than nothing
            sums["without_sq"] += (weight / (1 - weight)) ** 2 * apart
        if rows.active > 1:
            noise = weight * (own_sq - all_sq) / (rows.active - 1)
            sums["noise"] += rows.total * noise
            sums["noise_share"] += noise
            sums["noise_sq"] += all_sq
            self.noise_samples += 1
        self.samples += 1

    def measure_plain(self, parts: Iterable[tuple[int, Array]]) -> None:
        """Add |S|^2, where ranks had unequal rows, from the pieces of S."""
        for i, s in parts:
            self.sums["plain_sq"][i] += float(np.dot(s, s))

    def close_epoch(self) -> dict[str, np.ndarray]:
        """Return the sums by field, (n_parameters,) each, means for ``mean`` and what is of noise; start anew."""
        sums = {field: values.copy() for field, values in self.sums.items()}
        sums["mean"] /= max(self.samples, 1)
        for field in ("noise", "noise_share", "noise_sq"):
            sums[field] /= max(self.noise_samples, 1)
        for values in self.sums.values():
            values[:] = 0
        self.samples = self.noise_samples = 0
        return sums
