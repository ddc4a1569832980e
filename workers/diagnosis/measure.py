"""What ranks measure together: messages of pairs, sums of all, memory that ranks of a host share. Collective."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
from mpi4py import MPI

from common.flat import Array
from ps.comm.collectives import gather
from ps.comm.topology import Topology
from workers.diagnosis.facts import Pair, Sum

SIZES = (4 << 10, 256 << 10, 4 << 20)
"""Bytes of the sums: a small model's gradient, a usual one's, a large one's."""
LONG = 4 << 20
"""Bytes of a message whose rate counts."""
LATENCY_S, RATE_S, SUM_S = 0.1, 0.4, 0.4
"""How long each is repeated, about."""
TRIPS, MESSAGES, SUMS = (10, 300), (2, 12), (3, 30)
"""Fewest and most repeats."""
PAUSE_S = 0.001
TAG = 7


def quiet_barrier(comm: MPI.Intracomm) -> None:
    """Wait for all ranks without using the processor, which those who are measured need."""
    request = comm.Ibarrier()
    while not request.Test():
        time.sleep(PAUSE_S)


def pair_rounds(hosts: Sequence[Sequence[int]]) -> tuple[list[list[tuple[int, int]]], list[list[tuple[int, int]]]]:
    """Return rounds of pairs of ranks, those within hosts and those between; no rank is twice in a round.

    ``hosts``: the ranks of each. On each host its first rank is with its second and its last one; between, first ranks
    of neighbours in the list. So the number of rounds does not grow with the hosts, and each host is in one.
    """
    within = [[(ranks[0], ranks[1]) for ranks in hosts if len(ranks) > 1]]
    within.append([(ranks[0], ranks[-1]) for ranks in hosts if len(ranks) > 2])
    first = [ranks[0] for ranks in hosts]
    between = [list(zip(first[start::2], first[start + 1 :: 2], strict=False)) for start in (0, 1)]
    return [pairs for pairs in within if pairs], [pairs for pairs in between if pairs]


def run_rounds(
    comm: MPI.Intracomm, rounds: Sequence[Sequence[tuple[int, int]]], names: Sequence[str], *, between: bool
) -> list[Pair]:
    """Return what the pairs of these rounds measured, at rank 0.

    ``names``: the host of each rank; ``between``: whether each pair is on two hosts.
    """
    own = []
    for pairs in rounds:
        quiet_barrier(comm)
        for a, b in pairs:
            if comm.rank == a:
                own.append([a, b, *_ping(comm, b)])
            elif comm.rank == b:
                _pong(comm, a)
    quiet_barrier(comm)
    return [
        Pair(a=a, b=b, hosts=(names[a], names[b]), latency_s=latency, rate=rate, between=between)
        for some in gather(comm, own)
        for a, b, latency, rate in some
    ]


def _repeats(seconds: float, wanted_s: float, limits: tuple[int, int]) -> int:
    return int(min(max(wanted_s / max(seconds, 1e-9), limits[0]), limits[1]))


def _ping(comm: MPI.Intracomm, other: int) -> tuple[float, float]:
    """Return latency and bytes/s of messages to another rank, which calls ``_pong``."""
    short, long = np.zeros(1), np.zeros(LONG, np.uint8)

    def trip(message: Array) -> float:
        begin = time.perf_counter()
        comm.Send(message, other, TAG)
        comm.Recv(short, other, TAG)
        return time.perf_counter() - begin

    def several(message: Array, warm_up: int, wanted_s: float, limits: tuple[int, int]) -> float:
        first = [trip(message) for _ in range(warm_up)]
        n = _repeats(first[-1], wanted_s, limits)
        comm.Send(np.array([n], np.int64), other, TAG)
        return statistics.median(trip(message) for _ in range(n))

    latency = several(short, 3, LATENCY_S, TRIPS) / 2
    trip_s = several(long, 2, RATE_S, MESSAGES)
    return latency, LONG / max(trip_s - latency, trip_s / 2)  # a latency may have waited for a core


def _pong(comm: MPI.Intracomm, other: int) -> None:
    short, long, number = np.zeros(1), np.empty(LONG, np.uint8), np.zeros(1, np.int64)

    def answer(message: Array, times: int) -> None:
        for _ in range(times):
            comm.Recv(message, other, TAG)
            comm.Send(short, other, TAG)

    for message, warm_up in ((short, 3), (long, 2)):
        answer(message, warm_up)
        comm.Recv(number, other, TAG)
        answer(message, int(number[0]))


def run_sums(comm: MPI.Intracomm, tick: Callable[[str], None]) -> tuple[list[Sum], bool]:
    """Return the times of ``MPI_Allreduce`` at each size, and whether all sums were right on all ranks."""
    found, right = [], True
    expected = comm.size * (comm.size + 1) / 2
    for n_bytes in SIZES:
        vector = np.empty(n_bytes // 4, np.float32)

        def one(vector: Array = vector, n_bytes: int = n_bytes) -> float:
            tick(f"sums of {n_bytes >> 10} KiB")
            vector[:] = comm.rank + 1
            comm.Barrier()
            begin = time.perf_counter()
            comm.Allreduce(MPI.IN_PLACE, vector)
            return time.perf_counter() - begin

        first = np.array([one(), one()])
        comm.Allreduce(MPI.IN_PLACE, first, MPI.MAX)
        times = np.array([one() for _ in range(_repeats(first[1], SUM_S, SUMS))])
        comm.Allreduce(MPI.IN_PLACE, times, MPI.MAX)
        found.append(Sum(n_bytes=n_bytes, seconds=float(np.median(times))))
        right = right and bool(np.allclose(vector, expected, rtol=1e-6))
    return found, _all(comm, right)


def _all(comm: MPI.Intracomm, mine: bool) -> bool:
    value = np.array([int(mine)])
    comm.Allreduce(MPI.IN_PLACE, value, MPI.MIN)
    return bool(value[0])


def shares_memory(topology: Topology) -> bool:
    """Say whether on each host every rank sees what its last rank wrote to memory that they share."""
    local = topology.local
    window = MPI.Win.Allocate_shared(8 if local.rank == 0 else 0, 8, comm=local)
    shared = cast("Array", np.frombuffer(window.Shared_query(0)[0], np.float64))  # type: ignore[call-overload]
    if local.rank == local.size - 1:
        shared[:] = topology.comm.size
    local.Barrier()
    seen = bool((shared == topology.comm.size).all())
    local.Barrier()
    window.Free()
    return _all(topology.comm, seen)
