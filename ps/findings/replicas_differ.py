"""TODO."""

import numpy as np
from mpi4py import MPI

from common.flat import Array
from ps.findings.verdict import Verdict


def replicas_differ(comm: MPI.Comm, params: Array) -> Verdict | None:
    """Compare every rank's parameters with rank 0's. Collective; the same verdict on every rank."""
    root = params.copy()
    comm.Bcast(root)
    largest = np.empty(comm.size)
    comm.Allgather(np.array([np.abs(params - root).max()]), largest)
    odd = np.flatnonzero(largest)
    if not len(odd):
        return None
    return Verdict(
        code="replicas-differ",
        severity="error",
        ranks=[int(r) for r in odd],
        text=f"replicas differ from the start: the initial parameters were not broadcast; those of rank "
        f"{', '.join(str(r) for r in odd)} are up to {largest.max():.3g} away from rank 0's, and equal updates never "
        "close the gap",
        remedy='start with init = "broadcast"',
        evidence={"max_abs_difference": largest.tolist()},
    )
