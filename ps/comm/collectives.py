"""Small structured messages between ranks as msgpack in buffers: at start and epoch end, never in a step."""

import time
from typing import Any

import msgpack
import numpy as np
from mpi4py import MPI

NAMES = "surrogatepass"
"""Names of files need not be UTF-8."""


HEAD, IN_FIRST = 8, 1016
"""Bytes of the first message of a value: its length, and what follows of the value."""
LOOKS, FIRST_PAUSE_S, LONGEST_PAUSE_S = 100, 1e-4, 5e-3


def meet(comm: MPI.Comm) -> None:
    """Wait until all ranks are here, and leave the processor to those who are not.

    Where ranks share cores, a call of MPI that waits takes time from the ranks that it waits for. Collective; while a
    job starts only, for what is known of deaths in it is not known of this call.
    """
    request, pause_s = comm.Ibarrier(), FIRST_PAUSE_S
    for _ in range(LOOKS):
        if request.Test():
            return
    while not request.Test():
        time.sleep(pause_s)
        pause_s = min(LONGEST_PAUSE_S, 1.5 * pause_s)


def bcast(comm: MPI.Comm, value: Any, root: int = 0) -> Any:
    """Give every rank the root's value (plain maps, lists, texts, numbers)."""
    packed = msgpack.packb(value, unicode_errors=NAMES) if comm.rank == root else b""
    first = np.zeros(HEAD + IN_FIRST, np.uint8)  # its length and its beginning, which is mostly all
    if comm.rank == root:
        first[:HEAD] = np.array([len(packed)], np.int64).view(np.uint8)
        first[HEAD : HEAD + len(packed)] = np.frombuffer(packed[:IN_FIRST], np.uint8)
    comm.Bcast(first, root)
    length = int(first[:HEAD].view(np.int64)[0])
    rest = np.frombuffer(packed[IN_FIRST:], np.uint8).copy()
    if length > IN_FIRST:
        rest = rest if comm.rank == root else np.empty(length - IN_FIRST, np.uint8)
        comm.Bcast(rest, root)
    whole = first[HEAD : HEAD + min(length, IN_FIRST)].tobytes() + rest.tobytes()
    return msgpack.unpackb(whole, unicode_errors=NAMES)


def allgather(comm: MPI.Comm, value: Any) -> list[Any]:
    """Give every rank the values of all ranks, in rank order."""
    packed = np.frombuffer(msgpack.packb(value, unicode_errors=NAMES), np.uint8)
    lengths = np.empty(comm.size, np.int64)
    comm.Allgather(np.array([len(packed)], np.int64), lengths)
    buffer = np.empty(int(lengths.sum()), np.uint8)
    comm.Allgatherv(packed, [buffer, lengths.tolist()])
    ends = np.cumsum(lengths)
    return [
        msgpack.unpackb(buffer[end - n : end].tobytes(), unicode_errors=NAMES)
        for end, n in zip(ends, lengths, strict=True)
    ]


def gather(comm: MPI.Comm, value: Any) -> list[Any]:
    """Give rank 0 the values of all ranks, in rank order; the others nothing."""
    packed = np.frombuffer(msgpack.packb(value, unicode_errors=NAMES), np.uint8)
    lengths = np.empty(comm.size, np.int64) if comm.rank == 0 else None
    comm.Gather(np.array([len(packed)], np.int64), lengths)
    if lengths is None:
        comm.Gatherv(packed, None)
        return []
    buffer = np.empty(int(lengths.sum()), np.uint8)
    comm.Gatherv(packed, [buffer, lengths.tolist()])
    parts = np.split(buffer, np.cumsum(lengths)[:-1])
    return [msgpack.unpackb(part.tobytes(), unicode_errors=NAMES) for part in parts]


MAX_BYTES = 1 << 30
"""Of one MPI call: counts are 32-bit in MPI before version 4, and so is a size in bytes inside some libraries."""
