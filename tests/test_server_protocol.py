"""The server's protocol without MPI: whatever the order of pushes, deaths and stops, no rank waits for ever."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpi4py import MPI

from common.config import RunConfig
from common.flat import N_SLOTS, Flat
from common.nn import optimizers
from ps.sync.served.messages import NO_TICKET, Push, Reply, head_of
from ps.sync.served.order import BoundedClocks, InClockOrder, KOfN, Order
from ps.sync.served.rules import ServerRules
from ps.sync.served.server import ASK_SHRINK, Round, Server
from ps.sync.served.tickets import Tickets

N = 3
"""Parameters."""


class Request:
    """A receive: done once a push has been put into it; of a dead rank it fails."""

    def __init__(self, chunk: Any) -> None:
        self.chunk, self.done, self.dead = chunk, False, False

    def Test(self) -> bool:  # noqa: N802
        if self.dead:
            raise MPI.Exception(MPI.ERR_PROC_FAILED)
        return self.done

    def Wait(self) -> None:  # noqa: N802
        pass

    def Cancel(self) -> None:  # noqa: N802
        pass


class Ranks:
    """A communicator whose other ranks are played by the test.

    ``told``: the last reply to each, a copy. ``let_go``: those told that all have replies. ``revoked``: whether nothing
    can be sent any more.
    """

    def __init__(self, size: int) -> None:
        self.size, self.rank = size, 0
        self.posted: dict[int, Request] = {}
        self.told: dict[int, np.ndarray] = {}
        self.let_go: list[int] = []
        self.revoked = False

    def Irecv(self, chunk: Any, rank: int, tag: int) -> Request:  # noqa: N802
        self.posted[rank] = Request(chunk)
        return self.posted[rank]

    def Send(self, nothing: Any, rank: int, tag: int) -> None:  # noqa: N802
        if self.revoked:
            raise MPI.Exception(MPI.ERR_REVOKED)
        self.let_go.append(rank)

    def Isend(self, chunk: Any, rank: int, tag: int) -> Request:  # noqa: N802
        if self.revoked:
            raise MPI.Exception(MPI.ERR_REVOKED)
        self.told[rank] = chunk.copy()
        return Request(chunk)


class Play:
    """One round: ranks that have a ticket push in any order."""

    def __init__(self, size: int, order: Order, steps: int, *, by_rank: bool, alone: bool, **options: Any) -> None:
        self.size = size
        self.ranks = Ranks(size)
        self.flat = Flat({"w": (N,)}, np.dtype("f8"))
        self.master = np.zeros(N)
        config = RunConfig(optimizer="sgd", dtype="float64", nonfinite="skip", **options)
        self.rules = ServerRules(config, optimizers.build(config, [self.master]), size)
        self.server = Server(self.ranks, self.flat, self.master, self.rules, config)  # type: ignore[arg-type]
        self.order = order
        tickets = Tickets(0, steps, size, by_rank=by_rank)
        ends = [size * (k + 1) for k in range(steps)]
        self.server.begin(Round(order, tickets, [1.0] * steps, ends, one_by_one=alone))
        self.tickets = {rank: rank for rank in range(size)}
        """Of those who compute."""
        self.clocks = dict.fromkeys(range(size), 0)
        self.versions = dict.fromkeys(range(size), 0)
        """Of the parameters that they have."""
        self.used: list[int] = []
        self.ended: dict[int, np.ndarray] = {}
        self.asked = 0

    def push(self, rank: int, *, stop: bool = False) -> None:
        """Let a rank finish its ticket, and all take what they get for it."""
        self.clocks[rank] += 1
        ticket = self.tickets.pop(rank)
        self.used.append(ticket)
        message = self.flat.packet if rank == 0 else np.zeros(N_SLOTS + N)
        head = head_of(message)
        head[Push.TICKET], head[Push.VERSION], head[Push.ASKED] = ticket, self.versions[rank], stop
        head[Push.CLOCK] = self.clocks[rank]
        head[Push.LOSS_SUM], head[Push.ROWS], head[Push.TOTAL], head[Push.FINITE] = 1, 1, self.size, True
        message[N_SLOTS:] = 1 / self.size
        if rank == 0:
            self.server._take(0)
        else:
            posted = self.ranks.posted[rank]
            posted.chunk[:] = message
            posted.done = True
        self.look()

    def die(self, rank: int) -> None:
        """Let a rank die that computes."""
        self.tickets.pop(rank)
        self.ranks.posted[rank].dead = True
        self.look()

    def look(self) -> None:
        """Let the server serve, and the ranks take its replies."""
        self.server.serve()
        for rank, reply in self.ranks.told.items():
            self.take(rank, head_of(reply), reply[N_SLOTS:])
        self.ranks.told.clear()
        if self.server._replied:
            self.server._replied = False
            self.take(0, self.server.own_reply, self.flat.param_vector.copy())

    def take(self, rank: int, head: Any, params: np.ndarray) -> None:
        self.asked, self.versions[rank] = int(head[Reply.ASKED]), int(head[Reply.VERSION])
        if head[Reply.TICKET] == NO_TICKET:
            self.ended[rank] = params.copy()
            self.steps = int(head[Reply.STEPS])
        else:
            self.tickets[rank] = int(head[Reply.TICKET])


def orders(size: int) -> dict[str, tuple[Order, float, bool]]:
    """Return orders, the most that a rank may be ahead when it goes on, and whether each push is an update."""
    return {
        **{f"{k} of n": (KOfN(size, min(k, size)), math.inf if k < size else 0, False) for k in (1, 2, size)},
        **{f"within {s}": (BoundedClocks(size, s), s, True) for s in (1.0, 3.0, math.inf)},
        "in order": (InClockOrder(size), 1, True),
    }


@pytest.mark.parametrize("name", orders(2))
@given(
    size=st.integers(1, 5),
    steps=st.integers(1, 5),
    by_rank=st.booleans(),
    picks=st.lists(st.integers(0, 999)),
    stop_at=st.integers(0, 60),
    deaths=st.lists(st.integers(1, 20), max_size=2),
)
def test_nobody_waits_for_ever(
    name: str, size: int, steps: int, by_rank: bool, picks: list[int], stop_at: int, deaths: list[int]
) -> None:
    order, bound, alone = orders(size)[name]
    play = Play(size, order, steps, by_rank=by_rank, alone=alone)
    dead: list[int] = []
    for moves, pick in enumerate([*picks, *range(1000)]):
        if len(play.ended) == size - len(dead):
            break
        assert play.tickets, "all wait, and nobody computes"
        if not dead and not play.asked:  # a rank that takes over for another begins where the slowest is
            least = min((play.clocks[rank] for rank in range(size) if rank not in play.ended), default=0)
            active = [play.clocks[rank] for rank in play.tickets]
            assert all(clock - least <= bound for clock in active)
        rank = sorted(play.tickets)[pick % len(play.tickets)]
        if moves in deaths and rank:
            dead.append(rank)
            play.die(rank)
        else:
            play.push(rank, stop=moves == stop_at)
    assert len(play.ended) == size - len(dead)
    for params in play.ended.values():
        np.testing.assert_array_equal(params, play.master)
    assert sorted(play.used) == list(range(play.steps * size))
    assert play.server.used == (play.steps * size, play.steps * size)
    assert bool(play.asked & ASK_SHRINK) == bool(dead)
    assert sorted(play.ranks.let_go) == (sorted(set(play.ended) - {0}) if dead else [])
    if stop_at > 30 and not dead:
        assert play.steps == steps
    np.testing.assert_allclose(play.master, -float(play.steps))  # as far as synchronous steps, whatever the order


def test_a_rank_goes_on_until_it_is_further_ahead_than_the_bound() -> None:
    play = Play(2, BoundedClocks(2, 2), 9, by_rank=True, alone=True)
    play.push(0)
    play.push(0)
    assert 0 in play.tickets
    play.push(0)
    assert 0 not in play.tickets
    play.push(1)
    assert set(play.tickets) == {0, 1}


def test_late_pushes_are_in_the_next_update() -> None:
    order, _, _ = orders(3)["2 of n"]
    play = Play(3, order, 3, by_rank=False, alone=False)
    play.push(0)
    assert 0 not in play.tickets
    play.push(1)
    np.testing.assert_allclose(play.master, -2 / 3)  # the mean of two of three, at their share of the rate
    assert play.tickets == {0: 3, 1: 4, 2: 2}
    play.push(2)
    assert 2 not in play.tickets, "it waits for another one"
    play.push(1)
    np.testing.assert_allclose(play.master, -4 / 3)
    assert play.tickets == {0: 3, 1: 5, 2: 6}


def test_the_server_ends_its_round_though_a_rank_told_of_a_death_has_left_the_others() -> None:
    play = Play(3, BoundedClocks(3, math.inf), 1, by_rank=False, alone=True)
    play.push(0)
    play.die(2)
    assert play.tickets == {0: 2, 1: 1}
    play.push(1)
    play.ranks.revoked = True
    play.push(0)
    assert list(play.ended) == [0]
    assert play.server.used == (3, 3)


def test_a_push_is_taken_for_as_old_as_the_parameters_of_its_own_rank() -> None:
    order = BoundedClocks(2, math.inf)
    play = Play(2, order, 9, by_rank=True, alone=True, delay_compensation="constant", delay_rate="inverse")
    play.push(0)
    play.push(0)
    np.testing.assert_allclose(play.master, -1)  # nobody else moved them meanwhile
    play.push(1)  # two updates old: half the rate
    np.testing.assert_allclose(play.master, -1 - 0.25 * (1 - 0.04))


def test_the_rows_of_a_push_that_is_too_old_are_dealt_again() -> None:
    play = Play(2, BoundedClocks(2, math.inf), 2, by_rank=False, alone=True, max_delay="2")
    play.push(0)
    play.push(0)
    play.push(1)
    assert play.tickets == {0: 3, 1: 1}
    np.testing.assert_allclose(play.master, -1)
