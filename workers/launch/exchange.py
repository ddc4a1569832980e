"""What ``rankwise doctor`` runs on two ranks: they sum a vector and share memory, and say how that went."""

import json
import sys
import time

from common import start_guard

LENGTH = 250_000
"""Of float32: 1 MB."""
ROUNDS = 20


def main() -> int:
    """Exchange on this rank; rank 0 prints a line of JSON. Return the exit code."""
    from workers.launch.mpi import connect

    comm = connect(lambda: None)
    start_guard.over()
    if isinstance(comm, int):
        return comm
    import numpy as np
    from mpi4py import MPI

    vector, seconds = np.empty(LENGTH, np.float32), []
    for _ in range(ROUNDS):
        vector[:] = comm.rank + 1
        comm.Barrier()
        begin = time.perf_counter()
        comm.Allreduce(MPI.IN_PLACE, vector)
        seconds.append(time.perf_counter() - begin)
    expected = comm.size * (comm.size + 1) / 2
    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    assert isinstance(node, MPI.Intracomm)
    window = MPI.Win.Allocate_shared(4 * (LENGTH if node.rank == 0 else 0), 4, comm=node)
    shared = np.frombuffer(window.Shared_query(0)[0], np.float32)  # type: ignore[call-overload]
    if node.rank == node.size - 1:
        shared[:] = expected
    node.Barrier()
    found = {
        "ranks": comm.size,
        "sum_is_right": bool((vector == expected).all()),
        "memory_is_shared": bool((shared == expected).all()),
        "node_ranks": node.size,
        "seconds": sorted(seconds)[ROUNDS // 2],
    }
    node.Barrier()
    window.Free()
    if comm.rank == 0:
        sys.stdout.write(f"{json.dumps(found)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
