"""What a benchmark measures of the machine: memory, matrix products, the time since the launcher started."""

import contextlib
import gc
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from common.host import affinity, host, process_start, stat_fields
from ps.comm.collectives import allgather
from ps.comm.topology import Topology
from workers.training.environment import blas, mpi_vendor

PRODUCT = 1024
"""Rows and columns of the matrices whose product a step is compared with."""
LAUNCHERS = ("mpirun", "mpiexec", "hydra", "prte", "orted", "orterun", "srun", "slurmstepd")


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
    threads = " or ".join(map(str, sorted(set(job["threads"]))))
    return (
        f"{job['ranks']} rank(s) on {job['nodes']} node(s), {job['cores']} core(s), {threads} BLAS thread(s) a rank; "
        f"{job['mpi']}, NumPy {job['numpy']}, {job['blas']}"
    )


class Products:
    """Matrix products on all ranks at once, each with its threads: the most that a step could reach."""

    def __init__(self, comm: MPI.Comm, dtype: str) -> None:
        self.comm = comm
        rng = np.random.default_rng(0)
        self.a, self.b = (rng.standard_normal((PRODUCT, PRODUCT)).astype(dtype) for _ in range(2))
        self.out = np.dot(self.a, self.b)

    def measure(self) -> float:
        """Return FLOP/s of all ranks together, over the slowest rank's time. Collective."""
        self.comm.Barrier()
        start = time.perf_counter()
        np.dot(self.a, self.b, self.out)
        return self.comm.size * 2 * PRODUCT**3 / slowest(self.comm, time.perf_counter() - start)


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
    rank, node = _bytes("self/status", "VmHWM"), reduced(topology.local, _bytes("self/smaps_rollup", "Pss"), MPI.SUM)
    found = {"rank_peak_bytes": rank, "node_bytes": node}
    return {name: reduced(topology.comm, n_bytes, MPI.MAX) for name, n_bytes in found.items()}


def available_bytes() -> int:
    """Return how much memory this node could give away without swapping; 0 where the system does not say."""
    return _bytes("meminfo", "MemAvailable")


def _bytes(place: str, key: str) -> int:
    """Return a line of a file in /proc, which has kilobytes; 0 where the system has none."""
    try:
        lines = Path("/proc", place).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:")), 0)


def since_launch() -> tuple[float, str]:
    """Return the seconds since this job was started, and by which program on this node; NaN if it is not known.

    It is the eldest of the launchers among this process's ancestors, or the process itself.
    """
    eldest, name, pid = os.getpid(), "the process", os.getppid()
    while (command := _name(pid)).startswith(LAUNCHERS):
        eldest, name, pid = pid, command, int(stat_fields(pid)[1])  # proc(5): the state, then the parent
    ticks = process_start(eldest)
    if ticks is None:
        return float("nan"), name
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"), name


def _name(pid: int) -> str:
    """Return the name of a process's program; nothing if there is none."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
