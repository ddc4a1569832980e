"""MPI_Allreduce at a thread level: ``mpirun -np 2 python -m tests.benchmarks.thread_level``.

``MPI4PY_RC_THREAD_LEVEL=funneled`` in the environment asks for another level. Prints the median microseconds of the
slowest rank for vectors of 10 to 10^7 float32 numbers.
"""

# ruff: noqa: E402, since MPI must not start before its settings are made
import statistics
import time

import mpi4py

mpi4py.rc.initialize, mpi4py.rc.finalize = False, True

import numpy as np
from mpi4py import MPI

from workers.launch.mpi import start_mpi

LEVELS = {MPI.THREAD_SINGLE: "single", MPI.THREAD_FUNNELED: "funneled", MPI.THREAD_MULTIPLE: "multiple"}
SIZES = (10, 1000, 5000, 20_000, 100_000, 1_000_000, 10_000_000)


def main() -> None:
    """Measure each length."""
    comm = start_mpi().Dup()
    found = []
    for n in SIZES:
        vector, times = np.ones(n, np.float32), []
        for _ in range(max(8, min(3000, 3_000_000 // n))):
            vector.fill(1)
            begin = time.perf_counter()
            comm.Allreduce(MPI.IN_PLACE, vector)
            times.append(time.perf_counter() - begin)
        slowest = np.array([statistics.median(times[3:])])
        comm.Allreduce(MPI.IN_PLACE, slowest, MPI.MAX)
        found.append(f"{n:,}: {1e6 * slowest[0]:.1f}")
    if comm.rank == 0:
        print(MPI.get_vendor()[0], comm.size, "ranks", LEVELS.get(MPI.Query_thread()), "us", "  ".join(found))


main()
