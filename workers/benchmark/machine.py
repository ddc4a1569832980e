"""What a benchmark asks of the machine: memory, matrix products, the time since the launcher started."""

import gc
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from common.host import affinity, host, process_start
from ps.comm.collectives import allgather
from ps.comm.topology import Topology
from workers.training.environment import blas, mpi_vendor

PRODUCT = 1024
"""Rows and columns of the matrices whose product is the yardstick."""
LAUNCHERS = ("mpirun", "mpiexec", "hydra", "prte", "orted", "orterun", "srun", "slurmstepd")


def summary(topology: Topology, threads: tuple[int, str]) -> dict[str, Any]:
    """Return what the figures depend on. Collective."""
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
    """The matrix product of all ranks at once, each with its threads: the most a step could get."""

    def __init__(self, comm: MPI.Comm, dtype: str) -> None:
        self.comm = comm
        rng = np.random.default_rng(0)
        self.a, self.b = (rng.standard_normal((PRODUCT, PRODUCT)).astype(dtype) for _ in range(2))
        self.out = np.empty_like(self.a)
        self.rates: list[float] = []
        """FLOP/s of all ranks together, one a round."""
        np.dot(self.a, self.b, self.out)

    def measure(self) -> None:
        """Add one round: all ranks' operations over the slowest rank's time. Collective."""
        self.comm.Barrier()
        start = time.perf_counter()
        np.dot(self.a, self.b, self.out)
        self.rates.append(self.comm.size * 2 * PRODUCT**3 / slowest(self.comm, time.perf_counter() - start))


def slowest(comm: MPI.Comm, seconds: float) -> float:
    """Return the longest of all ranks' times. Collective."""
    longest = np.array([seconds])
    comm.Allreduce(MPI.IN_PLACE, longest, MPI.MAX)
    return float(longest[0])


def reset_peak() -> None:
    """Let the peak of this process's memory start anew, where Linux allows it, without what nobody uses any more."""
    gc.collect()
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def memory(topology: Topology) -> dict[str, int]:
    """Return bytes: the peak of the rank that has most, and what the node that has most uses now. Collective.

    A rank's peak counts the shared memory it touched; the node's sum, of proportional shares, counts that once.
    """
    peaks = np.array([_kilobytes("self/status", "VmHWM")])
    topology.comm.Allreduce(MPI.IN_PLACE, peaks, MPI.MAX)
    shares = np.array([_kilobytes("self/smaps_rollup", "Pss")])
    topology.local.Allreduce(MPI.IN_PLACE, shares)
    topology.comm.Allreduce(MPI.IN_PLACE, shares, MPI.MAX)
    return {"rank_peak_bytes": 1024 * int(peaks[0]), "node_bytes": 1024 * int(shares[0])}


def available_bytes() -> int:
    """Return how much memory this node could give away without swapping; 0 where the system does not say."""
    return 1024 * _kilobytes("meminfo", "MemAvailable")


def _kilobytes(place: str, key: str) -> int:
    """Return a line of a file in /proc; 0 where the system has none."""
    try:
        lines = Path("/proc", place).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{key}:")), 0)


def since_launch() -> tuple[float, str]:
    """Return the seconds since this job was started, and by which program on this node; NaN if it is not known.

    It is the eldest of the launchers among this process's ancestors, or the process itself.
    """
    eldest, name = os.getpid(), "the process"
    pid = eldest
    while pid > 1:
        try:
            text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            break
        # proc(5): the program's name in brackets, then state and parent
        head, _, tail = text.rpartition(")")
        command = head.partition("(")[2]
        if command.startswith(LAUNCHERS):
            eldest, name = pid, command
        elif pid != os.getpid():
            break
        pid = int(tail.split()[1])
    ticks = process_start(eldest)
    if ticks is None:
        return float("nan"), name
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"), name
