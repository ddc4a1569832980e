"""What each rank contributed to the update, by parameter, in sums that the coordinator turns into ratios."""

from collections.abc import Iterable

import numpy as np

from common.flat import Array

Part = tuple[int, Array, Array]
"""Which parameter, and the same piece of its gradient: this rank's, and all ranks' together."""


class ContributionMeter:
    """Sums over an epoch's sampled steps, what share and norm ratio are made of.

    With g_i the mean gradient of rank i's n_i rows (0 if it has none), w_i = n_i/n, g = sum_i w_i g_i and
    S = sum_j g_j, per parameter: ``own_sq`` = |g_i|^2, ``own_dot`` = w_i <g_i, g>, ``all_sq`` = <g, g>,
    ``plain_sq`` = |S|^2, ``mean`` = mean of g_i's entries. Then share_i = sum own_dot / sum all_sq (adds up
    to 1 over the ranks) and norm_ratio_i = sqrt(sum own_sq / sum plain_sq).
    """

    FIELDS = ("mean", "own_sq", "own_dot", "all_sq", "plain_sq")

    def __init__(self, sizes: list[int]) -> None:
        """``sizes``: numbers in each parameter."""
        self.sizes = np.array(sizes, np.float64)
        self.sums = {field: np.zeros(len(sizes)) for field in self.FIELDS}
        self.samples = 0

    def measure(self, parts: Iterable[Part], rows: tuple[int, int], scale: float, plain: float) -> None:
        """Add one step's numbers.

        ``parts``: gradients of sums of losses, times ``scale``, that together cover all parameters. ``rows``: this
        rank's and all ranks'. ``plain``: S as a multiple of g, or 0 if ``measure_plain`` is told S.
        """
        own_rows, all_rows = rows
        to_own = 1 / (scale * own_rows) if own_rows and scale else 0.0
        to_all = 1 / (scale * all_rows) if scale else 0.0
        sums = self.sums
        for i, own, g in parts:
            all_sq = float(np.dot(g, g)) * to_all**2
            sums["mean"][i] += float(own.sum(dtype=np.float64)) * to_own / self.sizes[i]
            sums["own_sq"][i] += float(np.dot(own, own)) * to_own**2
            sums["own_dot"][i] += float(np.dot(own, g)) * to_all**2
            sums["all_sq"][i] += all_sq
            sums["plain_sq"][i] += plain**2 * all_sq
        self.samples += 1

    def measure_plain(self, parts: Iterable[tuple[int, Array]]) -> None:
        """Add |S|^2, where ranks had unequal rows, from the pieces of S."""
        for i, s in parts:
            self.sums["plain_sq"][i] += float(np.dot(s, s))

    def close_epoch(self) -> dict[str, np.ndarray]:
        """Return the sums by field, (n_parameters,) each, ``mean`` averaged over the samples; start anew."""
        sums = {field: values.copy() for field, values in self.sums.items()}
        sums["mean"] /= max(self.samples, 1)
        for values in self.sums.values():
            values[:] = 0
        self.samples = 0
        return sums
