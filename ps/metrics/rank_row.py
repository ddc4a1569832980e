"""The row every rank hands to the coordinator at an epoch's end, gathered in one call."""

from typing import Any

import numpy as np
from mpi4py import MPI

from common.flat import Array
from common.step_times import SAMPLE_MOST, TIMESTAMPS
from ps.logfile.epoch_fields import EPOCH_FIELDS
from ps.metrics.contribution import GROUPS, SAMPLE_FIELDS, ContributionMeter

UNLOGGED = ("weight", "loss_sum", "validation_loss_sum", "validation_score", "signal", "finite", "watchdogs")
"""Of a rank, what the coordinator needs and the record does not list by rank."""
_LOOSE = dict.fromkeys((field.name for field in EPOCH_FIELDS if field.loose), np.nan)
"""What a mode need not give; NaN stands for what it did not."""


def row_type(n_parameters: int) -> np.dtype[Any]:
    """Return the structured dtype of a row, all of it float64.

    One number for each gathered field of ``EPOCH_FIELDS`` and of ``UNLOGGED``, one a parameter for each contribution
    field, what groups of sampled steps gave over all parameters, and for the sampled steps of the timeline their
    timestamps and the last rank's arrival, in seconds on rank 0's clock.
    """
    gathered = [field.name for field in EPOCH_FIELDS if field.gathered]
    return np.dtype([
        *((name, "f8") for name in (*gathered, *UNLOGGED)),
        *((name, "f8", (n_parameters,)) for name in ContributionMeter.FIELDS),
        ("samples", "f8", (GROUPS, len(SAMPLE_FIELDS))),
        ("timestamps", "f8", (SAMPLE_MOST, len(TIMESTAMPS) + 1)),
    ])  # fmt: skip


class RankRow:
    """This rank's row."""

    def __init__(self, n_parameters: int) -> None:
        self._row: Array = np.zeros(1, row_type(n_parameters))

    def gather(self, comm: MPI.Comm, figures: dict[str, Any]) -> Array | None:
        """Return all ranks' rows at rank 0, (size,) of ``row_type`` in rank order; None elsewhere. Collective.

        ``figures``: this rank's, by name; names that the row has not are left out.
        """
        known = _LOOSE | figures
        for name in self._row.dtype.fields or ():
            self._row[name] = known[name]
        table = np.zeros(comm.size, self._row.dtype) if comm.rank == 0 else None
        comm.Gather(self._row.view("f8"), None if table is None else table.view("f8"))
        return table
