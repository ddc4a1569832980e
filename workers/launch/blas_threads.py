"""BLAS threads per rank: the cores a rank may use, shared with the ranks that may use the same ones."""

import threadpoolctl

from common.host import affinity
from ps.comm.collectives import allgather
from ps.comm.topology import Topology
from workers import THREADS_SET_BY_USER


def share_cores(masks: list[list[int]], own: int) -> int:
    """Return how many threads rank ``own`` of a node may start so that together they never exceed the cores."""
    mine = set(masks[own])
    rivals = sum(1 for mask in masks if mine & set(mask))
    return max(1, len(mine) // rivals)


def limit_threads(topology: Topology, *, most: int = 0) -> tuple[int, str]:
    """Set this rank's BLAS threads, unless the user did; return (threads, who set them). Collective on the node.

    ``most``: of them, if that is limited.
    """
    masks = allgather(topology.local, affinity())
    if not THREADS_SET_BY_USER:
        share = share_cores(masks, topology.local.rank)
        threadpoolctl.threadpool_limits(min(share, most) if most else share, "blas")
    return blas_threads(), THREADS_SET_BY_USER or "rankwise"


def blas_threads() -> int:
    """Return how many threads BLAS may start in this process now."""
    blas = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    return max((int(pool["num_threads"]) for pool in blas), default=1)
