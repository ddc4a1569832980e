"""What this rank contributed to each parameter, measured on a few steps of every epoch."""

import numpy as np
from mpi4py import MPI

from common.flat import Flat


class ContributionMeter:
    """Sums, over an epoch's sampled steps, what share and norm ratio are made of.

    With g_i the mean gradient of rank i's n_i rows (0 if it has none), w_i = n_i/n, g = sum_i w_i g_i and
    S = sum_j g_j, per parameter: ``own_sq`` = |g_i|^2, ``own_dot`` = w_i <g_i, g>, ``all_sq`` = <g, g>,
    ``plain_sq`` = |S|^2, ``mean`` = mean of g_i's entries. Then share_i = sum own_dot / sum all_sq (adds up
    to 1 over the ranks) and norm_ratio_i = sqrt(sum own_sq / sum plain_sq).
    """

    FIELDS = ("mean", "own_sq", "own_dot", "all_sq", "plain_sq")

    def __init__(self, comm: MPI.Comm, flat: Flat) -> None:
        self.comm = comm
        self.flat = flat
        self.own = np.zeros(flat.n, flat.dtype)
        self.plain: np.ndarray | None = None
        self.sums = {field: np.zeros(len(flat.shapes)) for field in self.FIELDS}
        self.samples = 0

    def capture(self) -> None:
        """Keep this rank's gradient sum before it is summed in place."""
        np.copyto(self.own, self.flat.grad)

    def measure(self, own_rows: int, all_rows: int, *, equal_rows: bool) -> None:
        """Add one step's numbers; ``flat.grad`` now holds g. Collective where ranks had unequal rows.

        With equal rows S = size * g, else the sum of the ranks' means needs a reduction of its own.
        """
        own, flat = self.own, self.flat
        if own_rows:
            np.divide(own, own_rows, out=own)
        plain, scale = flat.grad, float(self.comm.size)
        if not equal_rows:
            if self.plain is None:
                self.plain = np.empty_like(own)
            np.copyto(self.plain, own)
            self.comm.Allreduce(MPI.IN_PLACE, self.plain)
            plain, scale = self.plain, 1.0
        for i, where in enumerate(flat.slices.values()):
            g_own, g, s = own[where], flat.grad[where], plain[where]
            self.sums["mean"][i] += float(g_own.mean(dtype=np.float64))
            self.sums["own_sq"][i] += float(np.dot(g_own, g_own))
            self.sums["own_dot"][i] += own_rows / all_rows * float(np.dot(g_own, g))
            self.sums["all_sq"][i] += float(np.dot(g, g))
            self.sums["plain_sq"][i] += scale**2 * float(np.dot(s, s))
        self.samples += 1

    def close_epoch(self) -> dict[str, np.ndarray]:
        """Return the sums by field, (n_parameters,) each, ``mean`` averaged over the samples; start anew."""
        sums = {field: values.copy() for field, values in self.sums.items()}
        sums["mean"] /= max(self.samples, 1)
        for values in self.sums.values():
            values[:] = 0
        self.samples = 0
        return sums
