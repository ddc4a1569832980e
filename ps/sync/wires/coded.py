"""Wires that code each number in fewer bytes: ranks exchange chunks, add them in float32, pass on the sums."""

from typing import ClassVar

import numpy as np
from mpi4py import MPI

from common.flat import Array
from ps.sync.wires.packet_wire import PacketWire, WireSetup
from ps.sync.wires.passing import edges, pass_around

TAG = 3


class CodedWire(PacketWire):
    """Rank j gets chunk j of all ranks, adds them in rank order, and passes the coded sum around the ring.

    So a number is rounded twice, whatever the number of ranks: once where it is sent, and as a sum. What rank j itself
    adds to its chunk is not rounded. A rank also sends every other one its status slots as they are, which each adds up
    by itself. A coding gives ``coded_bytes``, ``encode`` and ``decode``; ``unit``: chunks have a multiple of so many
    numbers.
    """

    unit: ClassVar[int] = 1

    def __init__(self, setup: WireSetup) -> None:
        super().__init__(setup)
        rank, size = self.comm.rank, self.comm.size
        whole = -(-len(self.numbers) // self.unit)
        self._chunks = [self.numbers[a * self.unit : b * self.unit] for a, b in edges(whole, size)]
        longest = max(len(chunk) for chunk in self._chunks)
        self._plain, self._added = np.empty(longest, np.float32), np.empty(longest, np.float32)
        self._make_room(longest)
        head = self.status.nbytes
        sizes = [self.coded_bytes(len(chunk)) for chunk in self._chunks]
        self._outbox = [np.empty(head + size, np.uint8) for size in sizes]
        self._inbox = [np.empty(head + sizes[rank], np.uint8) for _ in self._chunks]
        self._sums = [np.empty(size, np.uint8) for size in sizes]
        self._slots = [box[:head].view(self.packet.dtype) for box in self._inbox]
        self._slots[rank] = self.status.copy()
        self._codes = [box[head:] for box in self._inbox]
        others = [other for other in range(size) if other != rank]
        self.sent_to = {other: len(self._outbox[other]) for other in others}
        if others:
            self.sent_to[(rank + 1) % size] += sum(sizes) - sizes[(rank + 1) % size]

    def coded_bytes(self, n: int) -> int:
        """Return the bytes of n coded numbers."""
        raise NotImplementedError

    def encode(self, numbers: Array, codes: Array) -> None:
        """Write float32 numbers, which may be changed, as bytes."""
        raise NotImplementedError

    def decode(self, codes: Array, numbers: Array) -> None:
        """Write bytes as numbers, of float32."""
        raise NotImplementedError

    def _make_room(self, longest: int) -> None:
        """Take memory to code at most so many numbers at a time."""

    def _sum(self) -> None:
        self._exchange()
        self._add()
        pass_around(self.comm, self._sums)
        for chunk, codes in zip(self._chunks, self._sums, strict=True):
            plain = self._plain[: len(chunk)]
            self.decode(codes, plain)
            np.copyto(chunk, plain)

    def _exchange(self) -> None:
        """Send each rank its chunk, all at the same time, and get those of this rank's."""
        comm, rank, size = self.comm, self.comm.rank, self.comm.size
        under_way = [comm.Irecv(self._inbox[other], other, TAG) for other in range(size) if other != rank]
        for distance in range(1, size):
            to = (rank + distance) % size
            chunk, box = self._chunks[to], self._outbox[to]
            plain = self._plain[: len(chunk)]
            np.copyto(plain, chunk, casting="same_kind")
            box[: self.status.nbytes] = self.status.view(np.uint8)
            self.encode(plain, box[self.status.nbytes :])
            under_way.append(comm.Isend(box, to, TAG))
        MPI.Request.Waitall(under_way)

    def _add(self) -> None:
        """Add all ranks' status slots, and their numbers of this rank's chunk, which are then coded."""
        rank = self.comm.rank
        own = self._chunks[rank]
        total, plain = self._added[: len(own)], self._plain[: len(own)]
        total[:] = 0
        self._slots[rank][:] = self.status
        self.status[:] = 0
        for other, (slots, codes) in enumerate(zip(self._slots, self._codes, strict=True)):
            np.add(self.status, slots, out=self.status)
            if other == rank:
                np.copyto(plain, own, casting="same_kind")
            else:
                self.decode(codes, plain)
            np.add(total, plain, out=total)
        self.encode(total, self._sums[rank])
