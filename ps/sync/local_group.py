"""The ranks of a node, which in mode ``local`` may take the steps between averages together."""

from mpi4py import MPI

from common.flat import N_SLOTS, Array, blocks, numbers
from ps.comm.collectives import MAX_BYTES


class NodeGroup:
    """Sums the gradients of a node's ranks, in place, so that they keep the same parameters between averages.

    By MPI_Allreduce among them, which goes through their memory: at most twice as slow as adding slices there, and a
    death is noticed (``--elastic``).
    """

    def __init__(self, comm: MPI.Intracomm, packet: Array) -> None:
        """``packet``: (16 + n,) = [status | gradient]."""
        self.comm, self._chunks = comm, blocks(packet, MAX_BYTES // packet.itemsize)
        self._slots, self._status = packet[:N_SLOTS], numbers(packet[:N_SLOTS])
        self.sent_bytes = packet.nbytes

    def sum(self, rows: float) -> float:
        """Sum the gradients, and the ranks' rows, which it returns: not finite if one's are not. Collective."""
        self._slots.fill(0)
        self._status[0] = rows
        for chunk in self._chunks:
            self.comm.Allreduce(MPI.IN_PLACE, chunk)
        return self._status[0]
