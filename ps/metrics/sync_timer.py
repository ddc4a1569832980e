"""How long a rank waits and transfers in each step, from arrival times that are compared once an epoch."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from mpi4py import MPI

from common.flat import Array, numbers
from ps.comm.topology import Topology
from ps.metrics.clock_offset import clock_offset

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncTimes:
    """Seconds of one rank in an epoch's synchronisations; ``sync = wait + transfer``.

    ``last``: of each step, when the last rank arrived, on rank 0's clock. ``align``: turns times of this rank's clock
    in the epoch into those of rank 0's.
    """

    last: Array
    align: Callable[[Array], Array]
    wait_s: float
    transfer_s: float
    sync_s: float
    wait_median_s: float
    transfer_median_s: float
    sync_median_s: float

    def figures(self) -> dict[str, float]:
        """Return the seconds by name."""
        return {name: getattr(self, name) for name in self.__slots__ if name.endswith("_s")}


def median(values: Array) -> float:
    """Return the median of at least one number, in a tenth of the time NumPy's takes for a few hundred."""
    ordered, n = np.sort(values), len(values)
    return float(ordered[(n - 1) // 2] + ordered[n // 2]) / 2


class SyncTimer:
    """Keeps when this rank came to and left each synchronisation of an epoch.

    With a_i the arrival of rank i, A the last arrival and E_i the end on rank i:
    wait_i = A - a_i, transfer_i = E_i - A. A needs no message in the step: one MPI_Allreduce(MAX) of the
    arrivals per epoch gives it for every step. Clocks of several nodes are compared at both ends of the
    epoch, and the offset is interpolated between them, so a steady drift cancels.
    """

    def __init__(self, topology: Topology, max_steps: int, clock: Clock = time.perf_counter) -> None:
        self.clock = clock
        self.resize(max_steps)
        self.rebind(topology)

    def rebind(self, topology: Topology) -> None:
        """Begin again among other ranks. Collective."""
        self.topology = topology
        self.steps = 0
        self.offset, self.offset_error_s = self._offset()
        self.offset_at = self.clock()

    def _offset(self) -> tuple[float, float]:
        return clock_offset(self.topology, self.clock) if self.topology.count > 1 else (0.0, 0.0)

    def resize(self, max_steps: int) -> None:
        """Keep the times of so many steps, none so far."""
        self.arrived, self.left = np.zeros(max_steps), np.zeros(max_steps)
        self._arrived, self._left = numbers(self.arrived), numbers(self.left)
        self.steps = 0

    def add(self, arrived: float, left: float) -> None:
        """Keep the times of one synchronisation."""
        self._arrived[self.steps] = arrived
        self._left[self.steps] = left
        self.steps += 1

    def close_epoch(self) -> SyncTimes:
        """Compare arrivals with the other ranks, return this rank's sums and begin again. Collective."""
        arrived, left = self.arrived[: self.steps], self.left[: self.steps]
        offset, self.offset_error_s = self._offset()
        now = self.clock()
        slope = (offset - self.offset) / max(now - self.offset_at, 1e-9)
        begin, begin_at = self.offset, self.offset_at

        def align(times: Array) -> Array:
            return times + begin + slope * (times - begin_at)

        aligned = align(arrived)
        last = self._last(aligned)
        sync = left - arrived
        wait = np.minimum(np.maximum(last - aligned, 0), sync)
        self.offset, self.offset_at, self.steps = offset, now, 0
        figures = {}
        for name, seconds in ("wait", wait), ("transfer", sync - wait), ("sync", sync):
            figures[f"{name}_s"] = float(seconds.sum())
            figures[f"{name}_median_s"] = median(seconds) if len(seconds) else 0.0
        return SyncTimes(last=last, align=align, **figures)

    def _last(self, arrived: Array) -> Array:
        """Return when the last rank arrived at each synchronisation, on rank 0's clock like ``arrived``. Collective."""
        last = arrived.copy()
        self.topology.comm.Allreduce(MPI.IN_PLACE, last, MPI.MAX)
        return last


class ParkedTimer(SyncTimer):
    """Where ranks synchronise with a server, each as often as it does: how long a rank was parked is told by that."""

    def resize(self, max_steps: int) -> None:
        """See SyncTimer."""
        super().resize(max_steps)
        self.parked = np.zeros(max_steps)

    def add_parked(self, arrived: float, left: float, parked_s: float) -> None:
        """Keep the times of one push and its reply."""
        if self.steps == len(self.parked):  # rows were dealt again
            kept = self.arrived, self.left, self.parked
            self.resize(2 * self.steps + 1)
            self.steps = len(kept[0])
            for new, old in zip((self.arrived, self.left, self.parked), kept, strict=True):
                new[: self.steps] = old
        self.parked[self.steps] = parked_s
        self.add(arrived, left)

    def _last(self, arrived: Array) -> Array:
        """Return when each reply could be sent."""
        return arrived + self.parked[: len(arrived)]
