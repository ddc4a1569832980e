"""What a wire is: it sums packets over the ranks, in place, in messages of its own form."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from mpi4py import MPI

from common.config import RunConfig
from common.flat import N_SLOTS, Array
from ps.sync.wires import EXACT, find
from ps.sync.wires.error_buffer import ErrorBuffer


@dataclass(frozen=True, slots=True)
class WireSetup:
    """What a wire is made of.

    ``comm``: the ranks whose packets are summed, which all make one. ``packet``: this rank's, (16 + n,) =
    [status | numbers]. ``shapes``: of the parameters that the numbers belong to, in their order.
    """

    comm: MPI.Intracomm
    packet: Array
    shapes: Mapping[str, tuple[int, ...]]
    config: RunConfig


class PacketWire:
    """Sums one packet in place; all ranks end with the same bits, on which their parameters staying equal depends.

    The status slots are summed exactly, whatever becomes of the other numbers. A number that is not finite on any rank
    makes one of the sums so. A wire adds ``_sum`` and sets ``sent_to``: payload bytes of a sum by the rank of ``comm``
    that this one sends them to. Making and closing are collective.

    ``lossy``: sums are not exact; it then has an ``exact`` wire for what must be. ``options``: of RunConfig, those that
    have an effect with this wire alone. ``feeds_back``: it has an ``error``: what this rank has not sent yet.
    ``vectors``: how many vectors of n numbers it takes beside the packet, about.
    """

    lossy: ClassVar[bool] = True
    feeds_back: ClassVar[bool] = False
    options: ClassVar[tuple[str, ...]] = ()
    vectors: ClassVar[float] = 1.0

    def __init__(self, setup: WireSetup) -> None:
        self.comm, self.packet = setup.comm, setup.packet
        self.status, self.numbers = self.packet[:N_SLOTS], self.packet[N_SLOTS:]
        self.sent_to: dict[int, int] = {}
        self.error = ErrorBuffer(len(self.numbers), self.packet.dtype) if self.feeds_back else None
        self.exact: PacketWire = find(EXACT)(setup) if self.lossy else self

    @classmethod
    def check(cls, shapes: Mapping[str, tuple[int, ...]], config: RunConfig) -> None:
        """Raise JobError where it can do nothing for parameters of these shapes; ranks look before they make one."""

    def sum(self) -> None:
        """Sum the packet on all ranks. What a wire with errors has not sent counts once ``accept`` is called."""
        if self.comm.size > 1:
            self._sum()
        elif self.error is not None:  # what several ranks had not sent before
            np.add(self.numbers, self.error.now, out=self.numbers)
            self.error.next.fill(0)

    def accept(self) -> None:
        """Keep what the last sum has not sent: its result is applied, on all ranks."""
        if self.error is not None:
            self.error.accept()

    def close(self) -> None:
        """Give back what MPI holds; nothing may be under way."""

    def _sum(self) -> None:
        raise NotImplementedError
