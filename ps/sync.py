"""When ranks exchange what: here, the whole packet in every step."""

import math
import time

import numpy as np

from common.flat import N_SLOTS, Array, Flat, Slot
from common.optim import Optimizer
from ps.contribution import ContributionMeter
from ps.reduce import Reducer
from ps.timing import SyncTimer


class NotFiniteError(Exception):
    """The summed loss or gradient is not finite; raised on every rank in the same step, before the update."""


def _long_norm(vector: Array) -> float:
    """Return the Euclidean norm of a vector whose square overflows."""
    largest = np.abs(vector).max()
    return float(largest) * float(np.linalg.norm(vector / largest))


class EveryStep:
    """Sums the packet over the ranks in each step, divides once by the global row count, and updates."""

    def __init__(
        self,
        flat: Flat,
        optimizer: Optimizer,
        reducer: Reducer,
        timer: SyncTimer,
        meter: ContributionMeter,
        size: int,
        clip: float,
    ) -> None:
        self.flat = flat
        self.optimizer = optimizer
        self.reducer = reducer
        self.timer = timer
        self.meter = meter
        self.size = size
        self.clip = clip
        self.sampling_s = 0.0
        self._names = flat.names
        self._final: set[str] = set()
        self._open = len(self._names)  # parameters from here to the end are final

    def ready(self, name: str) -> None:
        """Take notice that a parameter's gradient is final; passed on as far as everything behind is too."""
        self._final.add(name)
        before = self._open
        while self._open and self._names[self._open - 1] in self._final:
            self._open -= 1
        if self._open < before:
            self.reducer.ready(N_SLOTS + self.flat.slices[self._names[self._open]].start)

    def step(self, lr: float, loss_sum: float, n_rows: int, *, stop: bool, sample: bool) -> bool:
        """Exchange and update; return whether any rank asked to stop.

        ``loss_sum`` and ``n_rows`` are this rank's. Raises NotFiniteError on all ranks.
        """
        flat, status = self.flat, self.flat.status
        self._final.clear()
        self._open = len(self._names)
        status[Slot.LOSS_SUM] = loss_sum
        status[Slot.ROWS] = n_rows
        status[Slot.ROWS_SQUARED] = n_rows * n_rows
        status[Slot.STOP] = stop
        sampling = 0.0
        if sample:
            start = time.perf_counter()
            self.meter.capture()
            sampling = time.perf_counter() - start

        arrived = time.perf_counter()
        self.reducer.sum()
        left = time.perf_counter()
        self.timer.add(arrived, left)

        norm_sq = float(np.dot(flat.grad, flat.grad))
        if not np.isfinite(status[Slot.LOSS_SUM]) or (not np.isfinite(norm_sq) and not np.isfinite(flat.grad).all()):
            raise NotFiniteError
        rows = float(status[Slot.ROWS])
        np.multiply(flat.grad, 1 / rows, out=flat.grad)
        if sample:
            start = time.perf_counter()
            equal = self.size * float(status[Slot.ROWS_SQUARED]) == rows * rows
            self.meter.measure(n_rows, round(rows), equal_rows=equal)
            sampling += time.perf_counter() - start
        self.sampling_s += sampling
        norm = math.sqrt(norm_sq) / rows if math.isfinite(norm_sq) else _long_norm(flat.grad)
        if self.clip and norm > self.clip:
            np.multiply(flat.grad, self.clip / norm, out=flat.grad)
        self.optimizer.step(flat.params, flat.grad, lr)
        return bool(status[Slot.STOP] > 0)
