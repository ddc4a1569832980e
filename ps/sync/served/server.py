"""Rank 0's part: takes pushes, applies them, deals tickets, replies; while it trains as well, and while it waits."""

import time
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from mpi4py import MPI

from common.config import RunConfig
from common.flat import BLOCK, N_SLOTS, Array, Flat, blocks
from ps.sync.served.messages import (
    GO,
    NO_TICKET,
    NOT_APPLIED,
    PUSH,
    REPLY,
    Incoming,
    Outgoing,
    Push,
    Reply,
    chunks,
    head_of,
)
from ps.sync.served.order import Group, Order
from ps.sync.served.rounded import RoundedGradient
from ps.sync.served.rules import ServerRules
from ps.sync.served.tickets import Dealer, InStep
from ps.sync.wires import EXACT

ASK_FAULT, ASK_SHRINK = 4, 8
"""Beside ASK_STOP and ASK_SAVE: a push was not finite, or a rank is dead, and all ranks must be told."""
LOOK_S = 30e-6
"""Slept between two looks for messages: short beside a push, and the core is free for ranks that compute."""


class Round:
    """What the server knows of the steps between two moments at which all ranks have the same parameters.

    ``rates``: of each step of the epoch; ``ends``: how many rows the steps up to each have. ``rows``: of pushes applied
    in the epoch; ``loss_sum``: theirs in this round. ``one_by_one``: each push is an update of its own, by its share of
    a global batch. ``asked``: for what the ranks ask all. ``fault``: step of the first push that was not finite, from
    1.
    """

    def __init__(
        self,
        order: Order,
        tickets: Dealer,
        rates: Sequence[float],
        ends: Sequence[int] = (),
        rows: int = 0,
        *,
        one_by_one: bool = False,
    ) -> None:
        self.order, self.tickets, self.rates, self.ends, self.rows = order, tickets, rates, ends, rows
        self.one_by_one, self.first_rows, self.loss_sum = one_by_one, rows, 0.0
        self.version = self.asked = self.fault = 0

    @property
    def rate(self) -> float:
        """The learning rate of an update now: the schedule goes by the rows that were used."""
        return self.rates[min(bisect_right(self.ends, self.rows), len(self.rates) - 1)]


class Server:
    """Owns the parameters while ranks train: ``master``. The packets and parameters of ``flat`` are rank 0's own.

    A push is applied from where it was received, and a reply is sent from memory of its own: two messages a rank.
    """

    def __init__(self, comm: MPI.Comm, flat: Flat, master: Array, rules: ServerRules, config: RunConfig) -> None:
        self.comm, self.rules, self._master = comm, rules, master
        self._stops = config.nonfinite == "stop"
        """Whether a push that is not finite ends the round at once."""
        self._own = comm.rank
        where = self._where(flat)
        self._remote = [rank for rank in range(comm.size) if rank != self._own]
        self._params = flat.param_vector[where]
        pushes = {rank: np.zeros(N_SLOTS + len(master), flat.dtype) for rank in self._remote}
        replies = {rank: np.zeros_like(push) for rank, push in pushes.items()}
        everyone, head = range(comm.size), np.zeros(N_SLOTS, flat.dtype)
        self._pushes = [head_of(pushes.get(rank, flat.packet)) for rank in everyone]
        self._replies = [head_of(replies.get(rank, head)) for rank in everyone]
        bodies = {rank: reply[N_SLOTS:] for rank, reply in replies.items()}
        self._bodies = [bodies.get(rank, self._params) for rank in everyone]
        """Where a rank's reply carries the parameters; the server waits while it gets its own."""
        bodies = {rank: push[N_SLOTS:] for rank, push in pushes.items()}
        self._grads = [blocks(bodies.get(rank, flat.grad_vector[where]), BLOCK) for rank in everyone]
        cut = self._cut
        parts = {rank: cut(push) for rank, push in pushes.items()}
        self._rounded: dict[int, RoundedGradient] = {}
        """By other rank: the body of its push, where that travels as bf16."""
        if config.wire != EXACT:
            self._rounded = {rank: RoundedGradient(body) for rank, body in bodies.items()}
            parts = {rank: [pushes[rank][:N_SLOTS], *chunks(it.halves)] for rank, it in self._rounded.items()}
        self._inboxes = {rank: Incoming(comm, rank, PUSH, own) for rank, own in parts.items()}
        self._outboxes = {rank: Outgoing(comm, rank, REPLY, cut(reply)) for rank, reply in replies.items()}
        self._came = [0.0] * comm.size
        self._awaited: set[int] = set()
        """Other ranks whose push is to come."""
        self._idle: Group = []
        """Ranks that wait for the end of the round."""
        self._tickets = [NO_TICKET] * comm.size
        """By rank: what it has been dealt, until that is used."""
        self._alive = set(range(comm.size))
        self._replied = False
        self.replies = 0
        """Sent to other ranks since whoever counts them has set it to 0."""
        self.own_reply = self._replies[self._own]

    def _where(self, flat: Flat) -> slice:
        """Return which of the parameters it owns."""
        return slice(0, flat.n)

    def _cut(self, message: Array) -> list[Array]:
        return chunks(message)

    def begin(self, of: Round) -> None:
        """Begin a round: all ranks have the same parameters, and the tickets that a new ``Tickets`` deals first."""
        self._round = of
        np.copyto(self._master, self._params)
        for rank in range(self.comm.size):
            self.rules.pulled(rank)
            self._tickets[rank] = of.tickets.deal(rank)
        self._idle.clear()
        for rank, inbox in self._inboxes.items():
            if rank not in self._awaited:
                inbox.post()
        self._awaited.update(self._remote)

    def set_rate(self, rate: float) -> None:
        """Take a rate for all updates from here on, where no schedule is known."""
        self._round.rates = [rate]

    def push_own(self) -> None:
        """Take this rank's own push, and serve until it has its reply; then its parameters are those of now."""
        self._replied = False
        if isinstance(self._round.tickets, InStep):  # what it owns may have been restored meanwhile
            np.copyto(self._master, self._params)
        self._take(self._own)
        while not self._replied:
            if not self.serve():
                time.sleep(LOOK_S)

    def serve(self) -> bool:
        """Take what has come, without waiting; say whether anything had."""
        came = False
        for rank in sorted(self._awaited):
            try:
                arrived = self._inboxes[rank].arrived()
            except MPI.Exception as error:
                self._lose(rank, error)
                continue
            if arrived:
                self._awaited.discard(rank)
                if rank in self._rounded:
                    self._rounded[rank].unpack()
                self._take(rank)
                came = True
        return came

    def close(self) -> None:
        """Take back the receives that wait."""
        for rank in self._awaited:
            self._inboxes[rank].cancel()
        self._awaited.clear()
        for outbox in self._outboxes.values():
            outbox.wait()

    @property
    def used(self) -> tuple[int, float]:
        """Rows of the pushes that were applied in this round, and the sum of their losses."""
        return self._round.rows - self._round.first_rows, self._round.loss_sum

    def _lose(self, rank: int, error: MPI.Exception) -> None:
        """Go on to the end of the steps that have begun without a rank; all of them must learn that it is dead.

        Raises the error if it says anything else.
        """
        over = self._tickets[rank] == NO_TICKET and self._round.asked & ASK_SHRINK
        if over and error.Get_error_class() == MPI.ERR_REVOKED:  # one that has its reply knows of the death already
            return
        if error.Get_error_class() not in (MPI.ERR_PROC_FAILED, MPI.ERR_PROC_FAILED_PENDING):
            raise error
        if rank not in self._alive:
            return
        now = self._round
        self._alive.discard(rank)
        self._awaited.discard(rank)
        now.asked |= ASK_SHRINK
        now.tickets.lose(rank)
        if self._tickets[rank] != NO_TICKET:
            now.tickets.give_back(self._tickets[rank])
        if rank in self._idle:
            self._idle.remove(rank)
        groups = now.order.leave(rank)
        for idle in self._idle.copy():
            ticket = now.tickets.deal(idle)
            if ticket != NO_TICKET:
                self._idle.remove(idle)
                now.order.join(idle)
                self._reply(idle, ticket)
        self._settle(groups)

    def _take(self, rank: int) -> None:
        push, now = self._pushes[rank], self._round
        self._came[rank] = time.perf_counter()
        now.asked |= int(push[Push.ASKED])
        if not push[Push.FINITE]:
            now.asked |= ASK_FAULT
            now.fault = now.fault or int(push[Push.TICKET]) // self.comm.size + 1
        if now.asked:
            now.tickets.end_early(at_once=self._stops and bool(now.asked & ASK_FAULT))
        self._settle(now.order.arrived(rank))

    def _settle(self, groups: list[Group]) -> None:
        """Make updates, and send on the ranks that may go; those without a ticket leave, which may free others."""
        now = self._round
        while True:
            for group in groups:
                self._update(group)
            groups = []
            released = now.order.released()
            for rank in released:
                ticket = now.tickets.deal(rank)
                if ticket == NO_TICKET:
                    groups += self._leave(rank)
                else:
                    self._reply(rank, ticket)
            if released and isinstance(now.tickets, InStep):
                now.asked = now.fault = 0
            if not released and not (groups := now.order.further()):
                break
        if len(self._idle) == len(self._alive):
            idle, self._idle = sorted(self._idle), []  # its own first: then the steps are done here, come what may
            for rank in idle:
                self._reply(rank, NO_TICKET)
            if now.asked & ASK_SHRINK:
                self._see_off([rank for rank in idle if rank != self._own])

    def _see_off(self, ranks: Group) -> None:
        """Let ranks that know of a death go when all have their replies: the first that goes revokes communicators."""
        for going in False, True:
            for rank in ranks:
                try:
                    if going:
                        self.comm.Send(bytearray(), rank, GO)
                    else:
                        self._outboxes[rank].wait()
                except MPI.Exception as error:
                    self._lose(rank, error)

    def _leave(self, rank: int) -> list[Group]:
        """Go on without a rank that has no ticket; it gets its reply when all have none."""
        self._idle.append(rank)
        return self._round.order.leave(rank)

    def _update(self, group: Group) -> None:
        """Apply the pushes of some ranks as one update, by the mean of their rows; see which are left out.

        Its rate is their share of that of a synchronous update: an epoch moves parameters as far, whatever makes one.
        """
        now, used = self._round, []
        for rank in group:
            push = self._pushes[rank]
            delay, finite = now.version - int(push[Push.VERSION]), bool(push[Push.FINITE])
            accepted = not finite or not now.one_by_one or self.rules.accepts(delay)
            if not accepted:
                now.tickets.give_back(self._tickets[rank])
            self._tickets[rank] = NO_TICKET
            self._replies[rank][Reply.STALENESS] = delay if accepted and finite else NOT_APPLIED
            if accepted and finite and push[Push.ROWS]:
                used.append(rank)
        if not used or (now.fault and isinstance(now.tickets, InStep)):
            return
        rate = now.rate
        first, share = used[0], 0.0
        grads = self._grads[first]
        for rank in used:
            push = self._pushes[rank]
            now.rows += int(push[Push.ROWS])
            now.loss_sum += push[Push.LOSS_SUM]
            share += push[Push.ROWS] / push[Push.TOTAL]
            if rank != first:
                for grad, other in zip(grads, self._grads[rank], strict=True):
                    np.add(grad, other, out=grad)
        if now.one_by_one:
            self.rules.apply(grads, rate, share, first, int(self._replies[first][Reply.STALENESS]))
        else:
            self.rules.apply_together(grads, rate * share, share)
        now.version += 1

    def _reply(self, rank: int, ticket: int) -> None:
        """Give a rank its next ticket, or the end of the round, and the parameters as they are now."""
        now, reply = self._round, self._replies[rank]
        self._tickets[rank] = ticket
        if rank != self._own:
            try:
                self._outboxes[rank].wait()
            except MPI.Exception as error:
                self._lose(rank, error)
                return
        np.copyto(self._bodies[rank], self._master)
        self.rules.pulled(rank)
        reply[Reply.TICKET], reply[Reply.VERSION], reply[Reply.ASKED] = ticket, now.version, now.asked
        reply[Reply.LEAST], reply[Reply.PARKED_S] = now.order.least, time.perf_counter() - self._came[rank]
        reply[Reply.STEPS], reply[Reply.FAULT] = now.tickets.limit, now.fault
        if rank == self._own:
            self._replied = True
            return
        try:
            self._outboxes[rank].send()
            self.replies += 1
            if ticket != NO_TICKET:
                self._inboxes[rank].post()
                self._awaited.add(rank)
        except MPI.Exception as error:
            self._lose(rank, error)
