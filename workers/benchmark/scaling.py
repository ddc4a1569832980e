"""The same steps on 1, 2, ... ranks of the job, while the others sleep."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from mpi4py import MPI

from common.errors import JobError
from ps.comm.agreement import together
from ps.comm.collectives import allgather, bcast
from ps.comm.topology import Topology
from workers.benchmark.bench_options import BenchConfig
from workers.benchmark.steps import in_turn, prepare
from workers.launch.signals import StopFlag

POLL_S = 0.01
ALL_UP_TO = 8


def counts(size: int) -> list[int]:
    """Return the numbers of ranks to measure: all up to 8, then doubling, and all ranks."""
    doubled = [1 << k for k in range(4, 32) if 1 << k < size]
    return sorted({*range(1, min(size, ALL_UP_TO) + 1), *doubled, size})


def karp_flatt(speed_up: float, ranks: int) -> float | None:
    """Return the experimentally determined serial fraction, (1/S - 1/p) / (1 - 1/p) (Karp & Flatt 1990)."""
    return (1 / speed_up - 1 / ranks) / (1 - 1 / ranks) if ranks > 1 else None


def measure(comm: MPI.Intracomm, bench: BenchConfig, stop: StopFlag) -> dict[str, Any]:
    """Measure every number of ranks, one after the other. Collective."""
    table = []
    for ranks in counts(comm.size):
        batch = bench.batch * (ranks if bench.kind == "weak" else 1)
        found = _among(comm, ranks, partial(_steps, bench=bench, batch=batch, stop=stop))
        table.append({"ranks": ranks, "batch": batch, **found})
    for row in table:
        for mode, figures in row["modes"].items():
            ratio = table[0]["modes"][mode]["median_s"] / figures["median_s"]
            # weak: the work grew as the ranks did
            speed_up = ratio * (row["ranks"] if bench.kind == "weak" else 1)
            figures["speed_up"] = speed_up
            figures["efficiency"] = speed_up / row["ranks"]
            figures["karp_flatt"] = karp_flatt(speed_up, row["ranks"])
    return {"table": table}


def _steps(comm: MPI.Intracomm, bench: BenchConfig, batch: int, stop: StopFlag) -> dict[str, Any]:
    """Time all modes in turn on these ranks."""
    topology = Topology(comm, bench.ranks_per_node)
    try:
        return in_turn(topology, bench, batch, together(comm, lambda: prepare(bench, batch)), stop)
    finally:
        topology.close()


def _among(comm: MPI.Intracomm, ranks: int, act: Callable[[MPI.Intracomm], dict[str, Any]]) -> dict[str, Any]:
    """Do something on the first ranks and give all its result; a JobError there is raised by all."""
    part = comm.Split(0 if comm.rank < ranks else MPI.UNDEFINED, comm.rank)
    result: dict[str, Any] = {}
    fault = None
    if part != MPI.COMM_NULL:
        try:
            result = act(cast("MPI.Intracomm", part))
        except JobError as error:
            fault = [str(error), error.exit_code]
        part.Free()
    met = comm.Ibarrier()
    while not met.Test():  # MPI's own waiting would take a core from those who work
        time.sleep(POLL_S)
    for found in allgather(comm, fault)[:1]:
        if found is not None:
            raise JobError(*found)
    return cast("dict[str, Any]", bcast(comm, result))
