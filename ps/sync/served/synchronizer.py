"""Modes in which rank 0 owns the parameters, and ranks push gradients and pull parameters out of step."""

import itertools
import math
import time
from collections.abc import Callable, Sequence

import numpy as np
from mpi4py import MPI

from common.checksum import is_finite
from common.config import RunConfig
from common.data.loader import Batch
from common.data.row_table import RowTable
from common.data.sampler import SHUFFLE, kind_of
from common.errors import NotFiniteError
from common.flat import BLOCK, N_SLOTS, Flat, aligned, blocks
from ps.comm.agreement import together
from ps.comm.topology import Topology
from ps.metrics.sync_timer import ParkedTimer
from ps.sync.served.figures import PushFigures
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
from ps.sync.served.order import KOfN, Order
from ps.sync.served.rounded import RoundedGradient
from ps.sync.served.rules import ServerRules
from ps.sync.served.server import ASK_SHRINK, LOOK_S, Round, Server
from ps.sync.served.state import ServedState
from ps.sync.served.tickets import Dealer, InStep, Tickets
from ps.sync.synchronizer import Synchronizer, SyncSetup, own_rows
from ps.sync.training_state import TrainingState
from ps.sync.wires import EXACT

MakeOrder = Callable[[RunConfig, int], tuple[Order, bool]]
"""Of the configuration and the number of ranks: who waits for whom, and whether each push is an update of its own."""


class ServedSync(Synchronizer):
    """A rank pushes the gradient of its ticket's rows to rank 0, and gets parameters and the next ticket in reply.

    In a round (``begin_round``) ranks take as many tickets as they can; it ends for all of them when all that were
    dealt are used, and then all have the same parameters. Outside of rounds each ``step`` is one of all ranks, as
    benchmarks take them. ``ticket``: the one to take now. ``steps_done``: of the epoch, when the round is over.
    ``not_finite_now``: what was not finite in the last push. ``fault``: see ``Reply``. ``applied``: whether the last
    push was.
    """

    def __init__(self, make_order: MakeOrder, setup: SyncSetup) -> None:
        comm, config = setup.topology.comm, setup.config
        state = together(comm, lambda: self._allocate(setup))
        super().__init__(setup, state)
        self._parked = self._timer = self.meter.timer = ParkedTimer(setup.topology, setup.counts.shape[1] * comm.size)
        self._config, self._make_order = config, make_order
        self._grouped = not make_order(config, comm.size)[1]
        self._by_rank = kind_of(config) != SHUFFLE
        self.exchanged_bytes = self.flat.packet.nbytes
        self._grads = blocks(self.flat.grad_vector)
        self._head = head_of(self.flat.packet)
        self._rounded = None if config.wire == EXACT else RoundedGradient(self.flat.grad_vector)
        self._rules = ServerRules(config, state.optimizer, comm.size) if self._serves(comm) else None
        self._left: list[object] = []
        self.ticket, self.steps_done, self.fault, self.applied = NO_TICKET, 0, 0, True
        self.not_finite_now: list[str] = []
        self._clock = self._version = self._messages = 0
        self._figures = PushFigures(grouped=self._grouped)
        self.expendable = comm.rank > 0
        self._join(comm)

    def _allocate(self, setup: SyncSetup) -> TrainingState:
        """Make the parameters of this rank and of the server, where it is one."""
        comm, shapes, dtype = setup.topology.comm, setup.model.shapes(), np.dtype(setup.config.dtype)
        n = sum(math.prod(shape) for shape in shapes.values())
        self._message = aligned(N_SLOTS + (n if comm.rank else 0), dtype)
        flat = Flat(shapes, dtype, params=self._message[N_SLOTS:] if comm.rank else None)
        ranges = [slice(start, min(start + BLOCK, flat.n)) for start in range(0, flat.n, BLOCK)]
        self._master = aligned(0 if comm.rank else n, dtype)
        owned = [] if comm.rank else [self._master[where] for where in ranges]
        return ServedState(comm, flat, setup.make_optimizer(setup.config, owned), ranges)

    def _serves(self, comm: MPI.Comm) -> bool:
        return comm.rank == 0

    def _join(self, comm: MPI.Intracomm) -> None:
        """Be the server of these ranks, or one that it serves."""
        self.comm, self._in_step = comm, False
        self._inner = comm.Dup()  # its own: receives wait here for a next push, and must catch nothing else
        self._server: Server | None = None
        if self._rules is None:
            parts = chunks(self.flat.packet)
            if self._rounded is not None:
                parts = [self.flat.packet[:N_SLOTS], *chunks(self._rounded.halves)]
            self.sent_bytes = self._message_bytes = sum(part.nbytes for part in parts)
            self._outgoing = Outgoing(self._inner, 0, PUSH, parts)
            self._incoming = Incoming(self._inner, 0, REPLY, chunks(self._message))
            self._told = head_of(self._message)
        else:
            self._message_bytes = self.exchanged_bytes
            self.sent_bytes = self._message_bytes * (comm.size - 1)
            self._server = Server(self._inner, self.flat, self._master, self._rules, self._config)
            self._told = self._server.own_reply
        self._ready = self._serve if self._server is not None and comm.size > 1 else None

    @property
    def exchanges_in(self) -> MPI.Comm:
        """The communicator that pushes are made in."""
        return self._inner

    @property
    def used(self) -> tuple[int, float]:
        """Rows of all ranks' pushes that were applied in the last round, and the sum of their losses; at rank 0."""
        return self._server.used if self._server is not None else (0, 0.0)

    def rebind(self, topology: Topology, counts: RowTable) -> None:
        """Continue among other ranks, rank 0 among them. Collective; the old communicator must be revoked."""
        # MPI may still hold receives, so their memory must stay
        self._left.append(self._server if self._server is not None else (self._outgoing, self._incoming))
        self._gradients.clear()
        self.meter.rebind(topology)
        self.state.rebind(topology.comm)
        self.row_counts = own_rows(counts, topology.comm.rank)
        self.ticket, self._messages, self._figures = NO_TICKET, 0, PushFigures(grouped=self._grouped)
        self._join(topology.comm)

    def begin_round(self, rates: Sequence[float], first: int) -> None:
        """Begin to take tickets of an epoch's steps from ``first`` on, if there are any. On all ranks.

        They have the same parameters. ``rates``: of each step of the epoch.
        """
        comm, steps = self.comm, len(rates)
        self._in_step, self._clock, self._version, self.fault = False, 0, 0, 0
        self.ticket, self.steps_done = (first * comm.size + comm.rank, first) if first < steps else (NO_TICKET, first)
        if self._server is not None and first < steps:
            ends = list(itertools.accumulate(self.row_counts.total[:steps].tolist()))
            order, alone = self._make_order(self._config, comm.size)
            tickets = self._dealer(first, steps)
            used = ends[first - 1] if first else 0
            self._server.begin(Round(order, tickets, rates, ends, used, one_by_one=alone))

    def _dealer(self, first: int, steps: int) -> Dealer:
        return Tickets(first, steps, self.comm.size, by_rank=self._by_rank)

    def backward(self, batch: Batch, lr: float, *, sample: bool) -> float:
        """See Synchronizer. Rank 0 serves the others between the layers."""
        if not self._in_step and self.ticket == NO_TICKET:
            self._begin_in_step()
        if self._in_step and self._server is not None:
            self._server.set_rate(lr)
        self._scale = 1 / batch.total
        return self._gradient(batch.n).loss_grad(batch, self._scale, None if sample else self._ready)

    def step(self, batch: Batch, loss_sum: float, *, stop: bool, sample: bool, save: bool = False) -> int:  # noqa: ARG002
        """See Synchronizer. Returns what was asked for once the round is over; in a step of all ranks, at once."""
        push, told = self._head, self._told
        begin = time.perf_counter()
        if self._rounded is not None:
            self._rounded.round()
        rounding_s = time.perf_counter() - begin
        self.not_finite_now = [] if math.isfinite(loss_sum) else ["loss"]
        if not all(map(is_finite, self._grads)):
            self.not_finite_now += self._not_finite()
        self._clock += 1
        push[Push.TICKET], push[Push.VERSION], push[Push.ASKED] = self.ticket, self._version, stop + 2 * save
        push[Push.CLOCK], push[Push.LOSS_SUM], push[Push.ROWS], push[Push.TOTAL] = (
            self._clock,
            loss_sum,
            batch.n,
            batch.total,
        )
        push[Push.FINITE] = not self.not_finite_now
        arrived = time.perf_counter() - rounding_s  # which is part of the exchange
        self._exchange()
        left = time.perf_counter()
        self._parked.add_parked(arrived, left, told[Reply.PARKED_S])
        self.ticket, self._version = int(told[Reply.TICKET]), int(told[Reply.VERSION])
        self.applied = told[Reply.STALENESS] != NOT_APPLIED
        self._figures.add(told[Reply.STALENESS], self._clock - told[Reply.LEAST], batch.n)
        asked = int(told[Reply.ASKED])
        if self._in_step:
            if told[Reply.FAULT]:
                raise NotFiniteError
            return asked
        if self.ticket != NO_TICKET:
            return 0
        self.steps_done, self.fault = int(told[Reply.STEPS]), int(told[Reply.FAULT])
        if asked & ASK_SHRINK and self._server is None:
            self._inner.Recv(bytearray(), 0, GO)
        return asked

    def epoch_figures(self) -> dict[str, float]:
        """See Synchronizer."""
        if self._server is not None:
            self._server.rules.close_epoch()
        return self._figures.close_epoch(self.comm)

    def sent_in(self, steps: int) -> int:  # noqa: ARG002
        """See Synchronizer. Of the messages that were sent, however many steps of the epoch they are of."""
        sent, self._messages = self._messages, 0
        if self._server is not None:
            sent, self._server.replies = self._server.replies, 0
        return sent * self._message_bytes

    def seek(self, step: int) -> None:
        """See Synchronizer. A round begins where it is told to."""

    def close(self) -> None:
        """See Synchronizer."""
        if self._server is not None:
            self._server.close()
        self._inner.Free()

    def _begin_in_step(self) -> None:
        self._in_step, self._clock, self._version = True, 0, 0
        if self._server is not None:
            self._server.begin(Round(KOfN(self.comm.size, self.comm.size), InStep(), [0.0]))

    def _serve(self, start: int) -> None:  # noqa: ARG002
        begin = time.perf_counter()
        assert self._server is not None
        self._server.serve()
        self.meter.reduce_s += time.perf_counter() - begin  # within backward, but not computing this rank's gradient

    def _exchange(self) -> None:
        """Push, and wait for the reply."""
        if self._server is not None:
            self._server.push_own()
            return
        self._incoming.post()
        self._outgoing.send()
        self._messages += 1
        while not self._incoming.arrived():
            time.sleep(LOOK_S)
        self._outgoing.wait()
