"""On every rank: each reducer sums exactly, repeats its bits, and takes any length and order of ``ready`` calls."""

import hashlib
from typing import Any

import numpy as np
from mpi4py import MPI

from ps.sync.chosen_sum import WireSum
from ps.sync.reduce_bcast import ReduceBcastWire
from ps.sync.send_recv import SendRecv
from ps.sync.wire import Wire

comm = MPI.COMM_WORLD.Dup()
rank, size = comm.rank, comm.size


def check_sums(make: type[Any], n: int, dtype: str) -> None:
    """Small whole numbers, whose sum every dtype holds exactly; three steps, to catch what is set up lazily."""
    packet = np.zeros(n, dtype)
    reducer = make(comm, packet)
    for step in range(3):
        packet[:] = np.arange(n) % 7 + rank * (step + 1)
        for start in sorted({n // 2, n // 3}, reverse=True) if step else []:
            reducer.ready(start)
        reducer.sum()
        expected = (np.arange(n) % 7) * size + (step + 1) * size * (size - 1) // 2
        np.testing.assert_array_equal(packet, expected.astype(dtype), err_msg=f"{make.__name__} {n} {dtype} {step}")
    reducer.close()


def bits(make: type[Any], n: int) -> list[str]:
    """Return the digests of repeated sums of the same random packets, after checking all ranks have the same."""
    packet = np.empty(n, np.float32)
    reducer = make(comm, packet)
    digests = []
    for _ in range(4):
        packet[:] = np.random.default_rng(rank).standard_normal(n)
        reducer.sum()
        digest = np.frombuffer(hashlib.sha256(packet.tobytes()).digest(), np.uint8)
        table = np.empty((size, digest.size), np.uint8)
        comm.Allgather(digest, table)
        assert (table == digest).all(), f"{make.__name__}: ranks differ"
        digests.append(digest.tobytes().hex())
    reducer.close()
    return digests


class SmallChunks(SendRecv):
    """Chunks of 64 bytes, so that a short packet has many, an odd and an even number of them."""

    def __init__(self, comm: MPI.Comm, packet: np.ndarray) -> None:
        super().__init__(comm, packet, chunk_bytes=64)


class Allreduce(WireSum):
    """By MPI_Allreduce."""

    def __init__(self, comm: MPI.Comm, packet: np.ndarray) -> None:
        super().__init__(Wire(comm), packet)


class ReduceBcast(WireSum):
    """By MPI_Reduce and MPI_Bcast."""

    def __init__(self, comm: MPI.Comm, packet: np.ndarray) -> None:
        super().__init__(ReduceBcastWire(comm), packet)


KINDS: list[type[Any]] = [Allreduce, ReduceBcast, SendRecv, SmallChunks]
for make in KINDS:
    for n in (1, 16, 17, 33, 1000):
        for dtype in ("float32", "float64"):
            check_sums(make, n, dtype)
    digests = bits(make, 4099)
    assert len(set(digests)) == 1, make.__name__
for n in (300_000, 900_001):  # two and four chunks of send-recv's own size
    check_sums(SendRecv, n, "float32")

# send-recv adds in rank order: the very bits of a loop over the ranks
packet = np.random.default_rng(rank).standard_normal(5000).astype(np.float32)
everyone = np.empty((size, 5000), np.float32)
comm.Allgather(packet, everyone)
reducer = SmallChunks(comm, packet)
reducer.sum()
expected = everyone[0].copy()
for other in everyone[1:]:
    expected += other
np.testing.assert_array_equal(packet, expected)
assert rank or reducer.inbox.shape[1:] == (2, 16), "two chunks per worker, not whole packets"
reducer.close()
if rank == 0:
    print("ok", size)
