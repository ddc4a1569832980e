"""The star by which watchdogs of several nodes tell each other what they see, with nodes that are not there."""

import contextlib
import json
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.addresses import own_addresses
from common.rank_status import ENDED, LOST, PAGE_BYTES, STOPPED, StatusRow
from tests.watchdog_nodes import Nodes
from workers.watchdog import star as star_module
from workers.watchdog import wire
from workers.watchdog.clock_offset import Offset
from workers.watchdog.link import Link
from workers.watchdog.peers import FIRST_LOOK_S
from workers.watchdog.star import FIRST_S, GREETING_S, PATIENCE_S, RECALL_S, SILENT_S
from workers.watchdog.whole import Whole, plain, runs
from workers.watchdog.wire import WireError


@pytest.fixture
def start() -> Iterator[Any]:
    with contextlib.ExitStack() as stack:
        yield lambda *sizes: stack.enter_context(contextlib.closing(Nodes(*sizes)))


def hubs(nodes: Nodes, of: Any) -> set[int]:
    return {nodes.all[node].star.hub for node in of}


def test_a_second_takes_a_few_messages_a_node(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """64 nodes x 1,024 ranks, all of which go on all the time: rows once to the hub, a word to each node, no file."""
    nodes = start(64, 16)
    for _ in range(3):
        nodes.second()
    assert all(peers.is_leaf for peers in nodes.all[1:])
    sent: Counter[str] = Counter()
    plain_send = Link.send

    def send(self: Link, kind: int, content: bytes) -> None:
        sent.update(messages=1, bytes=len(content) + wire.HEAD.size)
        plain_send(self, kind, content)

    monkeypatch.setattr(Link, "send", send)
    for second in range(1, 6):
        for node in range(64):
            for rank in range(16):
                nodes.step(node, rank, 100 * second + rank)
        nodes.second()
    monkeypatch.undo()
    nodes.second()
    assert sent["messages"] <= 5 * 63 * 3
    assert sent["bytes"] <= 5 * (63 * 16 * wire.ROW_BYTES + 63 * 300)
    assert [row.step for row in nodes.rows[0]] == [501 + rank % 16 for rank in range(1024)]
    assert nodes.all[0].known(nodes.now, None) == set(range(1024))
    assert not nodes.all[0].by_files(nodes.now + 60)


def test_rows_that_follow_from_what_was_sent_are_not_sent_again(start: Any) -> None:
    nodes = start(2, 2)
    nodes.second()
    nodes.second()
    link = nodes.all[1].star.links[0]
    kinds: list[int] = []
    link.send = lambda kind, content: kinds.append(kind)
    for second in range(3):
        nodes.rows[1][2:] = [StatusRow(age_ms=1000 * (second + 1), beat=second)] * 2
        nodes.second()
    assert kinds.count(wire.ROWS) == 0
    assert kinds.count(wire.NEWS) == 3


def test_who_does_not_know_the_token_does_nothing(start: Any) -> None:
    nodes = start(2, 1)
    wrong: list[bytes] = [b"\0" * 5, b"GET / HTTP/1.0\r\n\r\n" * 10, wire.pack(wire.NEWS, b'{"bye":true}'),
             wire.pack(wire.HELLO, wire.HELLO_LAYOUT.pack(1, bytes(32), bytes(32)))]  # fmt: skip
    strangers = [socket.create_connection(("127.0.0.1", nodes.ports[0])) for _ in [*wrong, b""]]
    for stranger, data in zip(strangers, [*wrong, b""], strict=True):
        stranger.sendall(data)
    nodes.second(awake=[0])
    nodes.second(awake=[0], seconds=GREETING_S + 1)
    for stranger in strangers:
        stranger.settimeout(5)
        received = b""
        while data := _receive(stranger):
            received += data
        stranger.close()
        assert len(received) == wire.HEAD.size + wire.N_RANDOM  # the challenge, and then the end
    assert not nodes.all[0].star.links
    assert not nodes.all[0].star.heard
    caller = Link(socket.create_connection(("127.0.0.1", nodes.ports[0])), b"another job", 1, 0)
    for _ in range(3):
        nodes.second(awake=[0], seconds=0.1)
        assert not list(caller.receive())
    assert (caller.known, caller.ended) == (False, True)
    caller.close()


def _receive(stranger: socket.socket) -> bytes:
    try:
        return stranger.recv(1000)
    except ConnectionResetError:
        return b""


def test_a_node_that_sends_rows_of_another_is_hung_up_on(start: Any) -> None:
    nodes = start(3, 1)
    nodes.second()
    nodes.second()
    nodes.all[1].star.send(wire.ROWS, wire.pack_rows([(2, StatusRow(state=ENDED))]))
    nodes.second(awake=[0])
    assert nodes.all[0].star.links.keys() == {2}
    assert nodes.rows[0][2].state == 0


def test_the_lowest_node_that_lives_becomes_the_hub(start: Any) -> None:
    nodes = start(4, 1)
    for _ in range(2):
        nodes.second()
    assert hubs(nodes, range(4)) == {0}
    for _ in range(int(SILENT_S + 2 * PATIENCE_S) + 3):  # the cable of node 0 is pulled
        nodes.second(awake=[1, 2, 3])
    assert hubs(nodes, [1, 2, 3]) == {1}
    assert nodes.all[1].star.links.keys() >= {2, 3}
    assert nodes.all[1].mute(nodes.now, SILENT_S).keys() == {0}
    assert nodes.all[0].star.is_hub
    for _ in range(int(RECALL_S) + 3):  # and is put back
        nodes.second()
    assert hubs(nodes, range(4)) == {0}
    assert not nodes.all[0].mute(nodes.now, SILENT_S)


def test_who_has_lost_the_way_to_the_hub_learns_from_another_that_the_job_ends(start: Any) -> None:
    """At once: those whom it takes for its hub later have ended by then."""
    nodes = start(3, 1)
    for _ in range(2):
        nodes.second()
    hub, between, away = nodes.all
    away.star._places = [[], ["127.0.0.1"], []]  # nothing gets from it to the hub
    hub.star.hang_up(2)
    for _ in range(2):
        nodes.second()
    assert (away.star.hub, away.star.connected, away.star.links.keys()) == (0, False, {1})
    hub.tell_whole(Whole(cut=True), beat=True)
    for peers in (between, away):
        peers.receive(nodes.now)
    assert away.whole.cut


def test_one_that_is_cut_off_decides_for_itself(start: Any) -> None:
    nodes = start(3, 2)
    for _ in range(2):
        nodes.second()
    for _ in range(int(SILENT_S + 2 * PATIENCE_S) + 3):
        nodes.second(awake=[0, 1])
    nodes.all[0].mute(nodes.now, SILENT_S)
    assert nodes.all[0].mute(nodes.now, SILENT_S).keys() == {2}
    nodes.all[0].close()
    nodes.all[1].close()
    for _ in range(int(SILENT_S + 2 * PATIENCE_S) + 3):
        nodes.second(awake=[2])
    assert nodes.all[2].decides


def test_a_hub_that_leaves_is_followed_at_once(start: Any) -> None:
    nodes = start(3, 1)
    for _ in range(2):
        nodes.second()
    nodes.rows[0][0] = StatusRow(finished=LOST, state=ENDED)
    nodes.all[0].leave(Whole(over=runs(nodes.rows[0])), nodes.now)
    nodes.all[0].close()
    for _ in range(3):
        nodes.second(awake=[1, 2])
    assert hubs(nodes, [1, 2]) == {1}
    assert [row.finished for row in nodes.rows[1]] == [LOST, 0, 0]
    assert not nodes.all[1].mute(nodes.now + 60, SILENT_S).keys() & {0}


def test_a_hub_that_cannot_be_called_is_done_without(
    start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(star_module.Star, "_call", lambda *_: None)  # a firewall
    nodes = start(2, 1)
    for _ in range(int(max(FIRST_S, FIRST_LOOK_S)) + 2):
        nodes.second()
    assert [peers.by_files(nodes.now) for peers in nodes.all] == [[1], [0]]
    assert all(peers.decides for peers in nodes.all)
    assert not nodes.all[0].mute(nodes.now, SILENT_S)
    assert nodes.all[0].unreached(nodes.now).keys() == {1}  # nothing in the file either
    nodes.folder = tmp_path
    (tmp_path / "progress-0").write_bytes(bytes(2 * PAGE_BYTES))
    for second in range(3):
        nodes.step(0, 0, second)
        nodes.step(1, 0, second + 5)
        nodes.second()
    assert [[row.step for row in rows] for rows in nodes.rows] == [[3, 7], [3, 8]]  # the other has not looked since
    assert not nodes.all[0].mute(nodes.now, SILENT_S)
    assert not nodes.all[0].unreached(nodes.now)
    assert nodes.all[0].known(nodes.now, tmp_path) == {0, 1}


def test_messages_are_checked() -> None:
    rows = [(3, StatusRow(epoch=2, at=7, state=STOPPED)), (4, StatusRow(finished=1))]
    assert {rank: row.where for rank, row in wire.unpack_rows(wire.pack_rows(rows), [3, 4, 5]).items()} == {
        rank: row.where for rank, row in rows
    }
    for content in (b"x", wire.pack_rows(rows)[:-1]):
        with pytest.raises(WireError):
            wire.unpack_rows(content, range(9))
    with pytest.raises(WireError):
        wire.unpack_rows(wire.pack_rows(rows), [3])
    for content in (b"", b"[1]", b"{", b"[" * 100_000, b"\xff"):
        with pytest.raises(WireError):
            wire.unpack_news(content)
    whole = wire.pack(wire.NEWS, b"{}") * 2
    for split in range(len(whole)):
        buffer, found = bytearray(), []
        for part in (whole[:split], whole[split:]):
            buffer += part
            found += list(wire.unpack(buffer, known=True))
        assert found == [(wire.NEWS, b"{}")] * 2
    too_long = wire.HEAD.pack(wire.MOST_BYTES + 1, wire.NEWS)
    for known, data in ((True, too_long), (False, wire.pack(wire.NEWS, b"{}")), (False, wire.pack(9, b""))):
        with pytest.raises(WireError):
            list(wire.unpack(bytearray(data), known=known))


def test_what_a_hub_says_is_checked() -> None:
    whole = Whole(aborting=True, late=[1, 2], over=[[0, 3, LOST]])
    assert Whole.from_news(json.loads(json.dumps(plain(whole)))) == whole
    wrongs: list[Any] = [None, {}, {**plain(whole), "late": "12"}, {**plain(whole), "over": [[1, 2]]}, []]
    for wrong in wrongs:
        assert Whole.from_news(wrong) is None
    rows = [StatusRow(finished=finished) for finished in (0, 1, 1, LOST, 0, LOST)]
    assert runs(rows) == [[1, 2, 1], [3, 3, LOST], [5, 5, LOST]]


def test_the_offset_of_a_clock_is_free_of_the_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, ahead = [100.0], 5000.0
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    here, there = Offset(), Offset()
    for delay in (0.3, 0.05, 0.2):
        clock[0] += ahead
        stamp = there.stamp()
        clock[0] += delay - ahead
        here.note(stamp)
        back = here.stamp()
        clock[0] += delay + ahead
        there.note(back)
        clock[0] -= ahead
    here.note({"least": there.stamp()["least"]})
    assert abs(here.seconds + ahead) < 1e-6


@pytest.mark.parametrize("gain", [1e-4, -1e-4])
def test_the_offset_of_a_clock_that_drifts_is_that_of_late(monkeypatch: pytest.MonkeyPatch, gain: float) -> None:
    """A second in three hours, as a quartz that nobody corrects."""
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    here, there = Offset(), Offset()
    for second in range(10_000):
        clock[0] = second * (1 + gain)
        stamp = there.stamp()
        clock[0] = float(second)
        here.note(stamp)
        back = here.stamp()
        clock[0] = second * (1 + gain)
        there.note(back)
    assert abs(here.seconds + gain * 10_000) < 0.01


def test_own_addresses_are_such() -> None:
    for address in own_addresses():
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family) as sock:
            sock.bind((address, 0))
