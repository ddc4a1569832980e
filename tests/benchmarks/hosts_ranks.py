"""The ranks of tests/benchmarks/hosts.py: each mode's sum of a vector, and what the interface counts meanwhile."""

# ruff: noqa: E402, since MPI must not start before its settings are made
import json
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import mpi4py

mpi4py.rc.initialize, mpi4py.rc.finalize = False, True

import numpy as np

from ps.comm.topology import Topology
from workers.benchmark.machine import slowest
from workers.benchmark.runner import closing
from workers.benchmark.vectors import RAW, VectorSums
from workers.launch.mpi import start_mpi
from workers.launch.signals import StopRequest

DEVICE = "eth0"
SEND = 4 << 20
CALLS = 5


def counted() -> int:
    """Return how many bytes this host's interface has sent."""
    line = next(line for line in Path("/proc/self/net/dev").read_text().splitlines() if line.strip().startswith(DEVICE))
    return int(line.split(":")[1].split()[8])


def link_rate(topology: Topology) -> float:
    """Return the bytes a second of a one-way send from rank 0 to the first rank on another host. Collective."""
    comm, other = topology.comm, next(r for r, leader in enumerate(topology.leaders) if leader != 0)
    vector, rates = np.ones(SEND, np.uint8), []
    for _ in range(CALLS):
        comm.Barrier()
        begin = time.perf_counter()
        if comm.rank == 0:
            comm.Send(vector, other)
            comm.Recv(vector[:1], other)
        elif comm.rank == other:
            comm.Recv(vector, 0)
            comm.Send(vector[:1], 0)
        rates.append(SEND / (time.perf_counter() - begin))
    rate = np.array([statistics.median(rates)])
    comm.Bcast(rate)
    return float(rate[0])


def measure(topology: Topology, n: int, rate: float, modes: list[str]) -> None:
    """Print a line of MPI_Allreduce and of each mode. Collective."""
    comm, stop = topology.comm, StopRequest()
    bound = 2 * (topology.count - 1) / topology.count * 4 * n / rate
    sums = VectorSums(topology, stop, modes, "float32", 1)
    with closing(topology) as stack:
        for name in (RAW, *modes):
            begin = time.perf_counter()
            runner = sums._start_raw(n) if name == RAW else sums._start(n, name, stack)
            made = slowest(comm, time.perf_counter() - begin)
            runner.time(1, update=False)
            count = max(3, min(20, int(0.5 / bound)))
            comm.Barrier()
            before = counted()
            seconds = runner.time(count, update=False)[0]
            comm.Barrier()
            sent = np.array([counted() - before]) / count
            of_nodes = np.zeros(comm.size)
            comm.Allgather(sent, of_nodes)
            sync = runner.parts.sync
            ours = np.array([0.0 if name == RAW else float(sync.sent_bytes)])
            by_rank = np.zeros(comm.size)
            comm.Allgather(ours, by_rank)
            if comm.rank:
                continue
            leaders = sorted(set(topology.leaders))
            said = [sum(by_rank[r] for r in range(comm.size) if topology.leaders[r] == leader) for leader in leaders]
            facts: dict[str, Any] = {} if name == RAW else sync.facts()["sum"] or {}
            line = {
                "n": n, "mode": name, "ms": 1e3 * seconds, "bound_ms": 1e3 * bound, "times_bound": seconds / bound,
                "counted_mb": [round(of_nodes[leader] / 1e6, 3) for leader in leaders],
                "sent_mb": [round(s / 1e6, 3) for s in said], "made_s": made, **facts,
            }  # fmt: skip
            print(json.dumps(line), flush=True)


def main() -> None:
    """Measure modes with vectors, as the command line says: both with commas between."""
    topology = Topology(start_mpi().Dup())
    rate = link_rate(topology)
    if topology.comm.rank == 0:
        print(json.dumps({"rate": rate}), flush=True)
    modes, sizes = (word.split(",") for word in sys.argv[1:])
    for n in map(int, sizes):
        measure(topology, n, rate, modes)
    if topology.comm.rank == 0:
        print(json.dumps({"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}), flush=True)


if __name__ == "__main__":
    main()
