"""Verdict ``replicas-differ``: ranks start from other parameters than rank 0."""

import numpy as np

from common.ranges import named_ranks
from ps.findings.verdict import TrainingStart, Verdict


def replicas_differ(start: TrainingStart) -> Verdict | None:
    """Compare every rank's parameters with rank 0's. Collective; the same verdict on every rank."""
    if start.config.init != "per-rank":
        return None
    comm, params = start.comm, start.params
    root = params.copy()
    comm.Bcast(root)
    largest = np.empty(comm.size)
    comm.Allgather(np.array([np.abs(params - root).max()]), largest)
    odd = np.flatnonzero(largest).tolist()
    if not odd:
        return None
    return Verdict(
        code="replicas-differ",
        severity="error",
        ranks=odd,
        text="replicas differ from the start: the initial parameters were not broadcast. Those of "
        f"{named_ranks(odd)} are up to {largest.max():.3g} away from rank 0's, and equal updates never close the gap",
        remedy="start with --init broadcast",
        evidence={"max_abs_difference": largest.tolist()},
    )
