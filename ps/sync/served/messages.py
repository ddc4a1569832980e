"""Pushes and replies: what their heads say, and how they travel in chunks that need no handshake."""

import numpy as np
from mpi4py import MPI

from common.flat import N_SLOTS, Array, blocks, numbers

PUSH, REPLY, GO = 1, 2, 4
"""Tags. A rank has one push or one reply under way, and chunks of one tag keep their order.

GO is empty: after a death all others have their replies, so whoever stops what is under way stops nothing.
"""
CHUNK_BYTES = 56 << 10
"""Below what MPI libraries send at once, without asking the receiver first: 0.7 of the time that 1 MiB takes."""
HEAD_BYTES = 64

NO_TICKET, NOT_APPLIED = -1, -1


class Push:
    """Places in the head of a push.

    ``TICKET``: for which it is. ``VERSION``: of the parameters it was computed with. ``ASKED``: what its rank asks all
    for, as bits. ``CLOCK``: pushes of its rank in this round, with this one. ``LOSS_SUM``, ``ROWS``: of its rows;
    ``TOTAL``: rows of the global batch they belong to. ``FINITE``: whether loss and gradient are.
    """

    TICKET, VERSION, ASKED, CLOCK, LOSS_SUM, ROWS, TOTAL, FINITE = range(8)


class Reply:
    """Places in the head of a reply.

    ``TICKET``: the next one; ``NO_TICKET``: the round is over. ``VERSION``: of the parameters that it brings.
    ``ASKED``: what any rank asked for. ``LEAST``: the least clock. ``PARKED_S``: how long the push was parked.
    ``STALENESS``: updates between its pull and its application; ``NOT_APPLIED``: it was left out. At a round's end,
    ``STEPS``: of the epoch that are done, ``FAULT``: the step of a push that was not finite, from 1, or 0.
    """

    TICKET, VERSION, ASKED, LEAST, PARKED_S, STALENESS, STEPS, FAULT = range(8)


def head_of(message: Array) -> "memoryview[float]":
    """Return the head of a message, a vector that begins with ``N_SLOTS`` numbers that are no parameters."""
    return numbers(message[:N_SLOTS].view(np.uint8)[:HEAD_BYTES].view(np.float64))


def chunks(message: Array) -> list[Array]:
    """Return the parts in which a message travels."""
    return blocks(message, CHUNK_BYTES // message.itemsize)


def apart(message: Array) -> list[Array]:
    """Return the parts in which a message travels whose head and body may lie apart at the other end."""
    return [message[:N_SLOTS], *chunks(message[N_SLOTS:])]


class Outgoing:
    """A message to one rank, sent again and again from the same memory."""

    def __init__(self, comm: MPI.Comm, rank: int, tag: int, parts: list[Array]) -> None:
        """``parts``: see ``chunks`` and ``apart``."""
        self._comm, self._rank, self._tag, self._parts = comm, rank, tag, parts
        self._requests: list[MPI.Request] = []

    def send(self) -> None:
        """Begin to send it."""
        self._requests = [self._comm.Isend(part, self._rank, self._tag) for part in self._parts]

    def wait(self) -> None:
        """Wait until its memory may be written to again."""
        for request in self._requests:
            request.Wait()
        self._requests.clear()


class Incoming:
    """A message from one rank, received again and again into the same memory."""

    def __init__(self, comm: MPI.Comm, rank: int, tag: int, parts: list[Array]) -> None:
        """``parts``: see ``chunks`` and ``apart``."""
        self._comm, self._rank, self._tag, self._parts = comm, rank, tag, parts
        self._requests: list[MPI.Request] = []
        self._done = 0

    def post(self) -> None:
        """Begin to receive the next one."""
        self._requests = [self._comm.Irecv(part, self._rank, self._tag) for part in self._parts]
        self._done = 0

    def arrived(self) -> bool:
        """Say whether all of it is here. Requests are tested one by one: an error then loses no others."""
        while self._done < len(self._requests):
            if not self._requests[self._done].Test():
                return False
            self._done += 1
        return True

    def cancel(self) -> None:
        """Take back what will not come."""
        for request in self._requests[self._done :]:
            request.Cancel()
            request.Wait()
        self._requests.clear()
        self._done = 0
