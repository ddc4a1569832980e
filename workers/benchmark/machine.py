"""What a benchmark measures of the machine: memory, matrix products, the time since the launcher started."""

import contextlib
import gc
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from common.host import affinity, eldest_launcher, host, process_start
from common.wording import count
from ps.comm.collectives import allgather
from ps.comm.topology import Topology
from workers.training.environment import blas, mpi_vendor

PRODUCT = 1024
"""Rows and columns of the matrices whose product a step is compared with."""


def summary(topology: Topology, threads: tuple[int, str]) -> dict[str, Any]:
    """Return what the figures depend on. Collective; ``threads``: BLAS threads of this rank, and who set them."""
    library = blas()
    ranks = allgather(topology.comm, [host(), affinity(), threads[0]])
    return {
        "ranks": topology.comm.size,
        "nodes": topology.count,
        "cores": len({(name, core) for name, cores, _ in ranks for core in cores}),
        "threads": [n for _, _, n in ranks],
        "threads_set_by": threads[1],
        "mpi": mpi_vendor(),
        "numpy": np.__version__,
        "blas": f"{library['internal_api']} {library['version']} ({library['architecture']})" if library else None,
    }


def job_line(job: dict[str, Any]) -> str:
    """Return the facts of ``summary`` as a line."""
    *others, most = sorted(set(job["threads"]))
    threads = " or ".join([*map(str, others), count(most, "BLAS thread")])
    return (
        f"{count(job['ranks'], 'rank')} on {count(job['nodes'], 'node')}, {count(job['cores'], 'core')}, "
        f"{threads} a rank; {job['mpi']}, NumPy {job['numpy']}, {job['blas']}"
    )


def product_rates(comm: MPI.Comm, dtype: str) -> Iterator[float]:
    """Yield the FLOP/s of matrix products on all ranks at once, over the slowest's time: the most a step could reach.

    Each is measured when it is asked for. Collective.
    """
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((PRODUCT, PRODUCT)).astype(dtype) for _ in range(2))
    out = np.dot(a, b)
    while True:
        comm.Barrier()
        start = time.perf_counter()
        np.dot(a, b, out)
        yield comm.size * 2 * PRODUCT**3 / slowest(comm, time.perf_counter() - start)


def reduced(comm: MPI.Comm, value: float, op: MPI.Op) -> Any:
    """Return the sum, or the most, of all ranks' numbers. Collective."""
    values = np.array([value])
    comm.Allreduce(MPI.IN_PLACE, values, op)
    return values.item()


def slowest(comm: MPI.Comm, seconds: float) -> float:
    """Return the longest of all ranks' times. Collective."""
    return float(reduced(comm, seconds, MPI.MAX))


def reset_peak() -> None:
    """Reset the peak of this process's memory, where Linux allows it, after freeing what is no longer used."""
    gc.collect()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def memory(topology: Topology) -> dict[str, int]:
    """Return bytes: the peak of the rank that has most, and what the node that has most uses now. Collective.

    A rank's peak counts the shared memory it touched; the node's sum, of proportional shares, counts that once.
    """
    peak, used = (reported_bytes(*place) for place in (("self/status", "VmHWM"), ("self/smaps_rollup", "Pss")))
    found = {"rank_peak_bytes": peak, "node_bytes": reduced(topology.local, used, MPI.SUM)}
    return {name: reduced(topology.comm, n_bytes, MPI.MAX) for name, n_bytes in found.items()}


def reported_bytes(place: str, key: str) -> int:
    """Return the bytes that a line of a file in /proc gives in kilobytes; 0 where the system has none."""
    lines = _proc_text(place).splitlines()
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:")), 0)


def since_launch() -> tuple[float, str]:
    """Return the seconds since this job was started, and by which program on this node; NaN if it is not known.

    It is the eldest of the launchers among this process's ancestors, or the process itself.
    """
    eldest, name = eldest_launcher()
    ticks = process_start(eldest)
    started = math.nan if ticks is None else ticks / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started, name


def _proc_text(place: str) -> str:
    """Return a file in /proc; nothing if there is none."""
    try:
        return Path("/proc", place).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
