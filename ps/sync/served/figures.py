"""What a rank tells of an epoch in which it pushed gradients out of step."""

import numpy as np
from mpi4py import MPI

from ps.sync.served.messages import NOT_APPLIED


class PushFigures:
    """Adds up what the replies to a rank's pushes say. ``pushes``: of the epoch so far.

    ``grouped``: whether an update is of several pushes, of which some may come late; else each is one of its own.
    """

    def __init__(self, *, grouped: bool) -> None:
        self._grouped = grouped
        self._begin()

    def _begin(self) -> None:
        self.pushes = self._applied = self._rows = self._late = 0
        self._staleness = self._most = self._gap = 0.0

    def add(self, staleness: float, lead: float, rows: int) -> None:
        """Take note of a push. ``staleness``: see ``messages``; ``lead``: of the clock over the slowest rank's."""
        self.pushes += 1
        self._gap = max(self._gap, lead)
        if staleness == NOT_APPLIED:
            return
        self._applied += 1
        self._rows += rows
        self._late += staleness > 0
        self._staleness += staleness
        self._most = max(self._most, staleness)

    def close_epoch(self, comm: MPI.Comm) -> dict[str, float]:
        """Return the epoch's figures and begin again. Collective."""
        rows = np.array([float(self._rows)])
        comm.Allreduce(MPI.IN_PLACE, rows)
        figures = {
            "pushes": self.pushes,
            "staleness_mean": self._staleness / max(self._applied, 1),
            "staleness_most": self._most,
            "clock_gap": self._gap,
            **({"late": self._late} if self._grouped else {}),
            "dropped": self.pushes - self._applied,
            "update_share": self._rows / max(float(rows[0]), 1.0),
        }
        self._begin()
        return figures
