"""Parameter servers on all ranks: each owns a slice of the parameters, updates it, and serves it to the others."""

import time

import numpy as np
from mpi4py import MPI

from common.config import RunConfig
from common.flat import N_SLOTS, Array, Flat, aligned
from ps.sync.halves import slices_of
from ps.sync.served.messages import NO_TICKET, PUSH, REPLY, Incoming, Outgoing, apart, chunks, head_of
from ps.sync.served.order import Group
from ps.sync.served.rules import ServerRules
from ps.sync.served.server import LOOK_S, Round, Server
from ps.sync.served.synchronizer import ServedSync
from ps.sync.served.tickets import Dealer, NoTickets
from ps.sync.sharded_state import ShardedState
from ps.sync.slices import cache_blocks
from ps.sync.synchronizer import SyncSetup
from ps.sync.training_state import send_vectors

BYE = 3
"""The tag by which a rank that has no ticket tells the servers that did not deal it."""


class Elsewhere(NoTickets):
    """Stands for the tickets at servers that deal none."""


class SliceServer(Server):
    """Owns one slice of the parameters: ``master``. Takes that part of each rank's push, and replies with its own.

    Each server decides by itself whom it parks: those who are too far ahead by the pushes that it has. That ends well,
    for the slowest rank is ahead of nobody at any server: it goes on, and all others after it. Rank 0 alone deals
    tickets; who has none leaves all servers.
    """

    def __init__(
        self, comm: MPI.Comm, flat: Flat, master: Array, rules: ServerRules, config: RunConfig, slices: list[slice]
    ) -> None:
        """``slices``: by rank, what its server owns."""
        self._slices = slices
        super().__init__(comm, flat, master, rules, config)
        self._byes = {rank: Incoming(comm, rank, BYE, [np.zeros(1)]) for rank in self._remote if comm.rank}
        self._staying: set[int] = set()
        """Other ranks of which a BYE is to come."""
        self._gone: set[int] = set()

    @property
    def is_over(self) -> bool:
        """Whether all ranks have left the round, so that no push of it is to come."""
        return len(self._gone) == self.comm.size

    @property
    def outcome(self) -> tuple[int, int, int]:
        """Steps of the epoch that are done, the step of a push that was not finite, what was asked for; at rank 0."""
        return self._round.tickets.limit, self._round.fault, self._round.asked

    def begin(self, of: Round) -> None:
        """See Server."""
        self._gone.clear()
        for rank, bye in self._byes.items():
            if rank not in self._staying:
                bye.post()
        self._staying.update(self._byes)
        super().begin(of)

    def serve(self) -> bool:
        """See Server."""
        came = super().serve()
        for rank in sorted(self._staying):
            if self._byes[rank].arrived():
                self._staying.discard(rank)
                self._go_on_without(rank)
                came = True
        return came

    def leave_own(self) -> None:
        """Wait for this rank no longer: it has no ticket."""
        if self._own not in self._gone:
            self._go_on_without(self._own)

    def publish(self) -> None:
        """Take the parameters as they are now for this rank's own."""
        np.copyto(self._params, self._master)

    def close(self) -> None:
        """See Server."""
        for rank in self._staying:
            self._byes[rank].cancel()
        self._staying.clear()
        super().close()

    def _go_on_without(self, rank: int) -> None:
        self._gone.add(rank)
        self._settle(self._round.order.leave(rank))

    def _where(self, flat: Flat) -> slice:  # noqa: ARG002
        return self._slices[self._own]

    def _cut(self, message: Array) -> list[Array]:
        return apart(message)

    def _leave(self, rank: int) -> list[Group]:
        """See Server. It is told at once, for it must leave the other servers."""
        self._gone.add(rank)
        groups = self._round.order.leave(rank)
        self._reply(rank, NO_TICKET)
        return groups


class SpreadSync(ServedSync):
    """As ServedSync, with a server on each rank: none sends more than another, and the optimizer's state is divided.

    What a rank is given are slices of different ages, each within the bound. When a round is over, each rank hands its
    slice to all others.
    """

    _rules: ServerRules
    _server: SliceServer

    def _allocate(self, setup: SyncSetup) -> ShardedState:
        comm, config = setup.topology.comm, setup.config
        flat = Flat(setup.model.shapes(), np.dtype(config.dtype))
        self._slices = slices_of(flat.n, comm.size)
        own = self._slices[comm.rank]
        self._master = aligned(own.stop - own.start, flat.dtype)
        of_ranks = [list(cache_blocks(s.start, s.stop)) for s in self._slices]
        owned = [self._master[a - own.start : b - own.start] for a, b, _ in of_ranks[comm.rank]]
        return ShardedState(setup.topology, flat, setup.make_optimizer(config, owned), self._slices, of_ranks)

    def _serves(self, comm: MPI.Comm) -> bool:  # noqa: ARG002
        return True

    def _join(self, comm: MPI.Intracomm) -> None:
        self.comm, self._in_step, flat, slices = comm, False, self.flat, self._slices
        self._inner = inner = comm.Dup()  # see ServedSync
        self._server = SliceServer(inner, flat, self._master, self._rules, self._config, slices)
        others = [rank for rank in range(comm.size) if rank != comm.rank]
        head = flat.packet[:N_SLOTS]
        heads = {rank: np.zeros_like(head) for rank in others}
        body = flat.grad_vector if self._rounded is None else self._rounded.halves
        self._outgoings = [Outgoing(inner, rank, PUSH, [head, *chunks(body[slices[rank]])]) for rank in others]
        self._incomings = [
            Incoming(inner, rank, REPLY, [heads[rank], *chunks(flat.param_vector[slices[rank]])]) for rank in others
        ]
        self._byes = [Outgoing(inner, rank, BYE, [np.zeros(1)]) for rank in others if rank]
        self._told = head_of(heads[0]) if comm.rank else self._server.own_reply
        self._push_bytes = sum(body[slices[rank]].nbytes + head.nbytes for rank in others)
        self._reply_bytes = self._master.nbytes + head.nbytes
        self.sent_bytes = self._push_bytes + len(others) * self._reply_bytes
        self._ready = self._serve if others else None

    def _dealer(self, first: int, steps: int) -> Dealer:
        return Elsewhere() if self.comm.rank else super()._dealer(first, steps)

    def step(self, *args: object, **options: object) -> int:
        """See ServedSync."""
        asked = super().step(*args, **options)  # type: ignore[arg-type]
        return asked if self._in_step or self.ticket != NO_TICKET else self._end_round()

    def sent_in(self, steps: int) -> int:  # noqa: ARG002
        """See Synchronizer."""
        pushes, self._messages = self._messages, 0
        replies, self._server.replies = self._server.replies, 0
        return pushes * self._push_bytes + replies * self._reply_bytes

    def _exchange(self) -> None:
        """Push to all servers, and wait for their replies."""
        for incoming in self._incomings:
            incoming.post()
        for outgoing in self._outgoings:
            outgoing.send()
        self._messages += 1
        self._server.push_own()
        for incoming in self._incomings:
            while not incoming.arrived():
                self._serve_or_sleep()
        for outgoing in self._outgoings:
            outgoing.wait()

    def _end_round(self) -> int:
        """Leave all servers, serve the last pushes, and exchange slices; return what was asked for. Collective."""
        server = self._server
        for bye in self._byes:
            bye.send()
        server.leave_own()
        while not server.is_over:
            self._serve_or_sleep()
        for bye in self._byes:
            bye.wait()
        server.publish()
        for rank, where in enumerate(self._slices):
            send_vectors(self.comm, [self.flat.param_vector[where]], rank)
        outcome = np.array(server.outcome)
        self.comm.Bcast(outcome)
        self.steps_done, self.fault, asked = map(int, outcome)
        return asked

    def _serve_or_sleep(self) -> None:
        if not self._server.serve():
            time.sleep(LOOK_S)
