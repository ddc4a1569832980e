"""What a way to sum a packet over the ranks is, for modes in which every rank then updates all parameters."""

from typing import Protocol

from mpi4py import MPI

from common.flat import Array, blocks
from ps.comm.collectives import MAX_BYTES


class Reducer(Protocol):
    """Sums one packet in place; all ranks end with the same values. Made once per run, with the packet."""

    comm: MPI.Comm
    """Where it exchanges."""
    early: bool
    """Whether ``ready`` does anything."""
    sent_bytes: int
    """Payload bytes this rank hands to MPI in one step."""

    def __init__(self, comm: MPI.Comm, packet: Array) -> None: ...

    def ready(self, start: int) -> None:
        """Take notice that ``packet[start:]`` is final for this step; later calls never have a larger start."""

    def sum(self) -> None:
        """Sum the packet, which is now final as a whole."""

    def close(self) -> None:
        """Give back what MPI holds; nothing may be under way. Collective, as is making one."""


class WholePacketReducer:
    """Sums the packet once it is complete, in as few chunks as MPI can count."""

    early = False

    def __init__(self, comm: MPI.Comm, packet: Array) -> None:
        self.comm = comm
        self.chunks = blocks(packet, MAX_BYTES // packet.itemsize)
        self.sent_bytes = packet.nbytes

    def ready(self, start: int) -> None:
        """Do nothing: the packet goes as a whole."""

    def close(self) -> None:
        """Do nothing: MPI holds nothing."""
