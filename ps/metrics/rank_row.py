"""The row every rank hands to the coordinator at an epoch's end, gathered in one call."""

from typing import Any

import numpy as np
from mpi4py import MPI

from common import step_times
from common.flat import Array
from common.step_times import SAMPLE_MOST
from ps.metrics.contribution import ContributionMeter

NUMBERS = (
    "rows",
    "loss_sum",
    "validation_loss_sum",
    "validation_correct",
    "preemptions",
    "loop_s",
    "input_s",
    "compute_s",
    "reduce_s",
    "wait_s",
    "transfer_s",
    "sync_s",
    "sync_median_s",
    "wait_median_s",
    "transfer_median_s",
    "sampling_s",
    "evaluation_s",
    "checkpoint_s",
    "sent_bytes",
    "fingerprint",
    "signal",
    "finite",
)


def row_type(n_parameters: int) -> np.dtype[Any]:
    """Return the structured dtype of a row, all of it float64.

    One number a name, one a parameter for each contribution field, and for each sampled step the moments of its
    phases and the last rank's arrival, in seconds on rank 0's clock.
    """
    numbers = [(n, "f8") for n in NUMBERS]
    contributions = [(f, "f8", (n_parameters,)) for f in ContributionMeter.FIELDS]
    return np.dtype([*numbers, *contributions, ("moments", "f8", (SAMPLE_MOST, len(step_times.NAMES) + 1))])


def gather(comm: MPI.Comm, row: Array) -> Array | None:
    """Return all ranks' rows at rank 0, (size,) in rank order; None elsewhere. ``row``: (1,) of ``row_type``."""
    table = np.zeros(comm.size, row.dtype) if comm.rank == 0 else None
    comm.Gather(row.view("f8"), None if table is None else table.view("f8"))
    return table
