"""Wire ``topk``: each rank sends the largest of its numbers, and adds the others to those of the next step."""

import math
from typing import ClassVar

import numpy as np

from common.flat import N_SLOTS
from ps.sync.wires.packet_wire import PacketWire, WireSetup
from ps.sync.wires.passing import pass_around


class TopKWire(PacketWire):
    """Sparse sums with error feedback (Stich et al. 2018, Sparsified SGD with memory), added in rank order.

    A rank sends the k largest of c = g + e in absolute value, by place and value, and keeps the others as its next e.
    NumPy sorts NaN last, as if it were the largest, so what is not finite is sent.
    """

    feeds_back: ClassVar[bool] = True
    options: ClassVar[tuple[str, ...]] = ("wire_keep",)
    vectors: ClassVar[float] = 6.0

    def __init__(self, setup: WireSetup) -> None:
        super().__init__(setup)
        n, dtype, size = len(self.numbers), self.packet.dtype, self.comm.size
        self.k = k = max(1, math.ceil(setup.config.wire_keep * n))
        item = np.dtype([("status", dtype, N_SLOTS), ("value", dtype, k), ("place", np.uint32, k)], align=True)
        self._messages = np.zeros(size, item)
        self._bytes = list(self._messages.view(np.uint8).reshape(size, -1))
        self._largest, self._gathered = np.empty(n, dtype), np.empty(k, dtype)
        self.sent_to = {(self.comm.rank + 1) % size: (size - 1) * item.itemsize} if size > 1 else {}

    def _sum(self) -> None:
        assert self.error is not None
        rest, own = self.error.next, self._messages[self.comm.rank]
        np.add(self.numbers, self.error.now, out=rest)
        np.abs(rest, out=self._largest)
        own["place"] = np.argpartition(self._largest, -self.k)[-self.k :]
        np.take(rest, own["place"], out=own["value"], mode="clip")
        rest[own["place"]] = 0
        own["status"] = self.status
        pass_around(self.comm, self._bytes)
        self.packet[:] = 0
        for message in self._messages:  # in rank order, so that all ranks have the same bits
            np.add(self.status, message["status"], out=self.status)
            np.take(self.numbers, message["place"], out=self._gathered, mode="clip")
            np.add(self._gathered, message["value"], out=self._gathered)
            self.numbers[message["place"]] = self._gathered


WIRE = TopKWire
