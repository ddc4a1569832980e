"""What a way to sum a packet over the ranks is, for modes in which every rank then updates all parameters."""

from mpi4py import MPI

from common.flat import Array, blocks
from ps.comm.collectives import MAX_BYTES


class Reducer:
    """Sums one packet in place; all ranks end with the same values. Made once per run.

    Here: once the packet is complete, in as few chunks as MPI can count. ``comm``: where it exchanges. ``early``:
    whether ``ready`` does anything. ``sent_bytes``: payload this rank hands to MPI in one step. Making and
    closing one are collective.
    """

    early = False

    def __init__(self, comm: MPI.Comm, packet: Array) -> None:
        self.comm = comm
        self.chunks = blocks(packet, MAX_BYTES // packet.itemsize)
        self.sent_bytes = packet.nbytes

    def ready(self, start: int) -> None:
        """Take notice that ``packet[start:]`` is final for this step; later calls never have a larger start."""

    def sum(self) -> None:
        """Sum the packet, which is now final as a whole."""
        raise NotImplementedError

    def close(self) -> None:
        """Give back what MPI holds; nothing may be under way."""
