"""A watchdog that many call, or strangers, or nobody; or that could not listen for a while."""

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from types import SimpleNamespace
from typing import Any

import pytest

from common.rank_status import ENDED, LOST, STOPPED, StatusRow
from tests.watchdog_nodes import TOKEN, Nodes
from workers.watchdog import wire
from workers.watchdog.link import READ_UNKNOWN, Link
from workers.watchdog.peers import Peers
from workers.watchdog.spawn import WatchdogHandle
from workers.watchdog.star import FULL_S, GREETING_S, MOST_STRANGERS, SILENT_S
from workers.watchdog.whole import Whole
from workers.watchdog.wire import WireError


@pytest.fixture
def strangers() -> Iterator[Any]:
    with ExitStack() as stack:
        yield lambda port: stack.enter_context(socket.create_connection(("127.0.0.1", port)))


def is_hung_up(stranger: socket.socket) -> bool:
    stranger.setblocking(False)
    try:
        while data := stranger.recv(1000):
            assert data
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    return True


def test_half_a_greeting_is_not_waited_for(strangers: Any) -> None:
    with closing(Nodes(2, 1)) as nodes:
        half = strangers(nodes.ports[0])
        half.sendall(wire.pack(wire.HELLO, bytes(wire.HELLO_LAYOUT.size))[:-1])
        nodes.second()
        nodes.second()
        assert nodes.all[0].star.links.keys() == {1}  # who belongs to the job is not kept waiting by it
        assert not is_hung_up(half)
        for _ in range(int(GREETING_S) + 1):
            nodes.second()
        assert is_hung_up(half)


def test_of_a_flood_only_the_beginning_is_read() -> None:
    here, there = socket.socketpair()
    with closing(there), closing(Link(here, TOKEN, 0)) as link:
        there.sendall(bytes(20 * READ_UNKNOWN))
        with pytest.raises(WireError):
            list(link.receive())
        assert len(here.recv(100 * READ_UNKNOWN)) == 19 * READ_UNKNOWN


def test_strangers_that_hold_all_places_keep_nobody_out(strangers: Any) -> None:
    with closing(Nodes(2, 1)) as nodes:
        held = [strangers(nodes.ports[0]) for _ in range(MOST_STRANGERS + 10)]
        for _ in range(3):
            nodes.second(seconds=0.6)
        assert nodes.all[1].is_leaf
        assert is_hung_up(held[0])
        assert not is_hung_up(held[-1])


def test_without_descriptors_calls_wait_and_the_processor_rests(strangers: Any) -> None:
    with closing(Nodes(1, 1)) as nodes:
        star = nodes.all[0].star
        stranger = strangers(nodes.ports[0])
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
        try:
            star.receive(nodes.now)
            assert not star.epoll.poll(0)  # else its owner would be woken at once, again and again
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        star.tick(nodes.now + FULL_S + 0.1)
        star.receive(nodes.now + FULL_S + 0.1)
        assert stranger.recv(100)


def test_what_a_message_costs_does_not_grow_with_the_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = 0
    flush = Link.flush

    def count(self: Link) -> None:
        nonlocal looked_at
        looked_at += 1
        flush(self)

    with closing(Nodes(32, 1)) as nodes:
        for _ in range(3):
            nodes.second()
        hub, caller = nodes.all[0], nodes.all[1].star.links[0]
        monkeypatch.setattr(Link, "flush", count)
        for message in range(50):
            caller.send(wire.NEWS, wire.pack_news({"note": message}))
            hub.receive(nodes.now)
        assert len(hub.take_news()) == 50
        assert looked_at <= 50 + 32


@pytest.mark.parametrize(
    ("row", "urgent"),
    [
        (StatusRow(finished=1), False),  # as each host says when a job is over
        (StatusRow(finished=1, state=ENDED), False),
        (StatusRow(state=STOPPED), False),
        (StatusRow(state=ENDED), True),
        (StatusRow(aborting=1), True),
        (StatusRow(finished=LOST, state=ENDED), True),
    ],
)
def test_only_what_ends_a_job_or_a_rank_is_told_to_all_at_once(row: StatusRow, urgent: bool) -> None:
    with closing(Nodes(2, 1)) as nodes:
        for _ in range(3):
            nodes.second()
        nodes.rows[1][1] = row
        nodes.second(awake=[1])
        nodes.all[0].receive(nodes.now)
        assert nodes.rows[0][1].finished == row.finished
        assert nodes.all[0].changed is urgent


def test_who_could_not_listen_does_not_call_others_silent() -> None:
    """The watchdog is stopped for 20 s, or its disk keeps it waiting, and no clock tells it so."""
    with closing(Nodes(3, 1)) as nodes:
        for _ in range(3):
            nodes.second()
        nodes.now += 20
        for peers in nodes.all:
            peers.receive(nodes.now)
            assert not peers.mute(nodes.now, SILENT_S)
        assert nodes.all[0].star.links.keys() == {1, 2}
        for _ in range(int(SILENT_S) + 2):  # but who says nothing afterwards is
            nodes.second(awake=[0, 1])
        assert nodes.all[0].mute(nodes.now, SILENT_S).keys() == {2}


def test_what_no_hub_could_be_told_is_its_own_business_who_becomes_the_hub() -> None:
    with closing(Nodes(2, 1)) as nodes:
        for _ in range(3):
            nodes.second()
        nodes.all[0].close()
        nodes.second(awake=[1])
        assert not nodes.all[1].is_leaf
        nodes.all[1].report({"note": 1})
        assert nodes.all[1].unsent
        for _ in range(10):
            nodes.second(awake=[1])
        assert nodes.all[1].is_hub
        assert nodes.all[1].take_news() == [(1, {"note": 1})]
        assert not nodes.all[1].unsent


def test_who_reaches_only_another_node_hears_what_the_hub_says() -> None:
    """Else its ranks would go on when the job is ended."""
    with closing(Nodes(3, 1)) as nodes:
        for _ in range(3):
            nodes.second()
        nodes.all[2].star._places = [[], ["127.0.0.1"], []]
        nodes.all[2].star.hang_up(0)
        for _ in range(10):
            nodes.second()
        assert nodes.all[2].star.links.keys() == {1}
        assert nodes.all[0].heard_elsewhere(nodes.now) == {2}
        assert nodes.all[0].mute(nodes.now, SILENT_S).keys() == set()  # it has closed its link
        nodes.all[0].tell_whole(Whole(cut=True), beat=False)
        for peers in nodes.all[1:]:
            peers.receive(nodes.now)
            assert peers.whole.cut


def test_a_job_of_one_host_opens_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_server", refuse)
    topology: Any = SimpleNamespace(count=1, local=SimpleNamespace(rank=0))
    handle = WatchdogHandle(SimpleNamespace(), SimpleNamespace())  # type: ignore[arg-type]
    assert handle._listen(topology) is None
    assert handle._star(topology, [("n1", None)]) is None
    rows = [StatusRow(), StatusRow()]
    with closing(Peers([0, 0], [0, 1], rows, None, time.monotonic())) as peers:
        assert peers.decides
        assert not peers.several
        peers.receive(time.monotonic())
