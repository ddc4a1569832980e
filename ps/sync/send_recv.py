"""Mode ``send-recv``: point to point through rank 0, in pipelined chunks, added in rank order."""

from functools import partial

import numpy as np
from mpi4py import MPI

from common.flat import Array, blocks
from ps.comm.topology import Topology
from ps.sync.mode import CostFormula, Mode
from ps.sync.reducer import Reducer
from ps.sync.replicated import ReplicatedSync


class SendRecv(Reducer):
    """Point to point through the coordinator, in chunks from the end of the packet to its head.

    A worker sends a chunk as soon as backward has freed it. Rank 0 keeps two chunks per worker in flight, and
    whenever its own backward frees a layer it adds what has come, in rank order (0 + 1 + 2 + ...), so equal
    runs give equal bits, and sends the result back at once: receiving, adding and sending overlap, and the
    packet may be of any length.
    """

    early = True
    CHUNK_BYTES = 1 << 20
    REPLIES_UNDER_WAY = 8
    PUSH, REPLY = 1, 2  # tags; chunks of one tag keep their order

    def __init__(self, comm: MPI.Comm, packet: Array, chunk_bytes: int = CHUNK_BYTES) -> None:
        super().__init__(comm.Dup(), packet)  # its own: receives wait here for a next step, and must catch nothing else
        length = max(1, chunk_bytes // packet.itemsize)
        self.starts = list(range(0, len(packet), length))[::-1]
        self.chunks = blocks(packet, length)[::-1]
        self.workers = range(1, comm.size)
        self.sends: list[MPI.Request] = []
        self.done = 0  # chunks sent (worker) or summed (coordinator) in this step
        self.worker = 1  # whose chunk the coordinator adds next
        if comm.rank == 0:
            self.sent_bytes *= len(self.workers)
            self.in_flight = min(2, len(self.chunks))
            self.inbox = np.empty((comm.size, self.in_flight, min(length, len(packet))), packet.dtype)
            self.receives: dict[tuple[int, int], MPI.Request] = {}
            self.summed = 0  # chunks of all steps: its remainder by in_flight is a chunk's place in the inbox
            for ahead in range(self.in_flight):
                self._receive(ahead)

    def between_bytes(self, topology: Topology) -> int:
        """See Reducer. Rank 0 sends the sum to every rank of other nodes, which send it their packets."""
        apart = sum(leader != topology.leaders[0] for leader in topology.leaders)
        if self.comm.rank == 0:
            return self.sent_bytes // max(len(self.workers), 1) * apart
        return self.sent_bytes if topology.leaders[self.comm.rank] != topology.leaders[0] else 0

    def ready(self, start: int) -> None:
        """Send, or add and send back, the chunks that are now final here, as far as possible without waiting."""
        if self.comm.rank == 0:
            self._serve(start, wait=False)
        else:
            self._push(start)

    def sum(self) -> None:
        """Finish the step."""
        if self.comm.rank == 0:
            self._serve(0, wait=True)
            MPI.Request.Waitall(self.sends)
        else:
            self._push(0)
            replies = []
            for send, chunk in zip(self.sends, self.chunks, strict=True):
                send.Wait()  # the reply comes into the chunk's own place
                replies.append(self.comm.Irecv(chunk, 0, self.REPLY))
            MPI.Request.Waitall(replies)
        self.sends.clear()
        self.done, self.worker = 0, 1

    def close(self) -> None:
        """Take back the receives that wait for a next step."""
        if self.comm.rank == 0:
            for request in self.receives.values():
                request.Cancel()
                request.Wait()
            self.receives.clear()
        self.comm.Free()

    def _push(self, start: int) -> None:
        while self.done < len(self.chunks) and self.starts[self.done] >= start:
            self.sends.append(self.comm.Isend(self.chunks[self.done], 0, self.PUSH))
            self.done += 1

    def _receive(self, number: int) -> None:
        """Post the receives of a chunk from every worker; ``number`` counts chunks over all steps."""
        place = number % self.in_flight
        length = len(self.chunks[number % len(self.chunks)])
        for worker in self.workers:
            self.receives[worker, place] = self.comm.Irecv(self.inbox[worker, place, :length], worker, self.PUSH)

    def _may_reply(self, *, wait: bool) -> bool:
        """Keep the replies under way few: MPICH 5 shelves the receipts of many, until the worker's next MPI call."""
        most = self.REPLIES_UNDER_WAY * len(self.workers)
        if len(self.sends) < most:
            return True
        oldest = self.sends[: len(self.workers)]
        if wait:
            MPI.Request.Waitall(oldest)
        elif not MPI.Request.Testall(oldest):
            return False
        del self.sends[: len(self.workers)]
        return True

    def _serve(self, start: int, *, wait: bool) -> None:
        while self.done < len(self.chunks) and self.starts[self.done] >= start:
            if not self._may_reply(wait=wait):
                return
            chunk = self.chunks[self.done]
            place = self.summed % self.in_flight
            while self.worker < self.comm.size:
                request = self.receives[self.worker, place]
                if wait:
                    request.Wait()
                elif not request.Test():
                    return
                np.add(chunk, self.inbox[self.worker, place, : len(chunk)], out=chunk)
                self.worker += 1
            self.sends += [self.comm.Isend(chunk, worker, self.REPLY) for worker in self.workers]
            self._receive(self.summed + self.in_flight)
            self.summed += 1
            self.done += 1
            self.worker = 1


def _terms(ranks: int, nodes: int) -> tuple[float, float]:  # noqa: ARG001
    """All go through rank 0."""
    return 2 * (ranks - 1), 2 * (ranks - 1)


def _network(nodes: int, elsewhere: int) -> tuple[float, float]:  # noqa: ARG001
    """All other nodes' packets come in through rank 0's interface, while sums go out."""
    return 2 * elsewhere, elsewhere


MODE = Mode(
    name="send-recv",
    help="point to point through rank 0, in pipelined chunks",
    build=partial(ReplicatedSync, SendRecv),
    cost=CostFormula(_terms, "2 (P-1) (a + m b)", _network, "(P-L) (2 A + m B)"),
)
