"""The same steps on 1, 2, ... ranks of the job, while the others sleep."""

import time
from collections.abc import Callable
from typing import Any, cast

from mpi4py import MPI

from common.errors import JobError
from ps.comm.agreement import at_root
from ps.comm.topology import Topology
from workers.benchmark.options import BenchConfig
from workers.benchmark.steps import in_turn, prepare
from workers.launch.signals import StopRequest

POLL_S = 0.01
ALL_UP_TO = 8


def counts(size: int) -> list[int]:
    """Return the numbers of ranks to measure: all up to 8, then doubling, and all ranks."""
    doubled = [1 << k for k in range(4, 32) if 1 << k < size]
    return sorted({*range(1, min(size, ALL_UP_TO) + 1), *doubled, size})


def karp_flatt(speed_up: float, ranks: int) -> float | None:
    """Return the experimentally determined serial fraction, (1/S - 1/p) / (1 - 1/p) (Karp & Flatt 1990)."""
    return (1 / speed_up - 1 / ranks) / (1 - 1 / ranks) if ranks > 1 else None


def measure(topology: Topology, bench: BenchConfig, stop: StopRequest) -> dict[str, Any]:
    """Measure every number of ranks, one after the other. Collective."""
    comm = topology.comm
    table: list[dict[str, Any]] = []
    for ranks in counts(comm.size):
        batch = bench.batch * (ranks if bench.kind == "weak" else 1)
        table.append({"ranks": ranks, "batch": batch, **_measure_on(comm, ranks, bench, batch, stop)})
        for mode, figures in table[-1]["modes"].items():
            ratio = table[0]["modes"][mode]["median_s"] / figures["median_s"]
            figures["speed_up"] = ratio * (ranks if bench.kind == "weak" else 1)  # weak: the work grew as the ranks did
            figures["efficiency"] = figures["speed_up"] / ranks
            figures["karp_flatt"] = karp_flatt(figures["speed_up"], ranks)
    return {"table": table}


def _measure_on(comm: MPI.Intracomm, ranks: int, bench: BenchConfig, batch: int, stop: StopRequest) -> dict[str, Any]:
    """Time all modes in turn on the first ranks; return the result, or raise their JobError, on all ranks."""
    return among(
        comm,
        lambda topology: in_turn(prepare(topology, bench, batch, stop), bench),
        takes_part=comm.rank < ranks,
        ranks_per_node=bench.ranks_per_node,
    )


def among(
    comm: MPI.Intracomm, act: Callable[[Topology], dict[str, Any]], *, takes_part: bool, ranks_per_node: int = 0
) -> dict[str, Any]:
    """Do something on some ranks, rank 0 among them, while the others sleep; return plain values on all.

    Collective; raises their JobError on all ranks.
    """
    some = comm.Split(0 if takes_part else MPI.UNDEFINED, comm.rank)
    found: dict[str, Any] = {}
    fault: JobError | None = None
    if some != MPI.COMM_NULL:
        topology = Topology(cast("MPI.Intracomm", some), ranks_per_node)
        try:
            found = act(topology)
        except JobError as error:
            fault = error
        topology.close()
        some.Free()
    met = comm.Ibarrier()
    while not met.Test():  # MPI's own waiting would take a core from the ranks that work
        time.sleep(POLL_S)

    def outcome() -> dict[str, Any]:
        if fault:
            raise fault
        return found

    return cast("dict[str, Any]", at_root(comm, outcome))
