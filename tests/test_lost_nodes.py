"""Which of several deaths is named, and when hosts that say nothing are."""

import threading
import time
from collections.abc import Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from common.rank_status import RankStatus, StatusRow
from workers.watchdog import failure, rank_process
from workers.watchdog.death_reports import DeathReports
from workers.watchdog.deaths import DECIDE_S, HOST_S, OUT_OF_MEMORY, Death, Deaths
from workers.watchdog.silence import Silence, name_hosts
from workers.watchdog.stall import OUTSIDE_FACTOR
from workers.watchdog.watchdog import Watchdog
from workers.watchdog.whole import Whole


def death(rank: int, at: float, cause: str = "SIGKILL", **more: Any) -> Death:
    return Death(at, {"rank": rank}, cause, **more)


@pytest.mark.parametrize(
    ("found", "rank"),
    [
        ([death(0, 10.1), death(4, 10.0), death(5, 10.05)], 4),
        ([death(0, 9.9, asked=True), death(4, 10.0)], 4),  # Open MPI's launcher asks before it kills
        ([death(0, 9.9), death(4, 10.0, "SIGSEGV")], 4),  # no launcher does that
        ([death(0, 9.8), death(2, 9.9, "SIGSEGV"), death(4, 10.0, reported="ValueError: x")], 4),
    ],
)
def test_the_first_death_is_named_whoever_tells_first(found: list[Death], rank: int) -> None:
    deaths = Deaths()
    for one in found:
        deaths.add(one, 20.0)
    assert deaths.first().event["rank"] == rank
    by_itself = any(one.by_itself for one in found)
    assert deaths.decided(20.0, (), answered=False) is by_itself
    assert deaths.decided(20.0, (), answered=True)
    assert deaths.decided(20.01 + DECIDE_S, (), answered=False)
    assert deaths.decided(20.01 + DECIDE_S, [2], answered=False) is by_itself  # a node may yet know better
    assert deaths.decided(20.01 + HOST_S, [2], answered=False)
    assert deaths.take().event["rank"] == rank
    deaths.add(found[0], 21.0)
    assert not deaths


def test_a_host_is_named_with_its_ranks() -> None:
    hosts = ["n1", "n1", "n2", "n3", "n3"]
    nodes = [[0, 1], [2], [3, 4]]
    assert name_hosts([1], nodes, hosts) == "host n2 (rank 2)"
    assert name_hosts([2, 1], nodes, hosts) == "hosts n2 (rank 2), n3 (ranks 3-4)"
    many = [[2 * node, 2 * node + 1] for node in range(9)]
    assert name_hosts(range(1, 9), many, [f"n{rank // 2}" for rank in range(18)]) == "hosts n[1-8] (ranks 2-17)"
    said: list[tuple[str, str]] = []
    silence = Silence(10, 30, 0, nodes, hosts, lambda text, event: said.append((event["what"], text)),
                      lambda text, event: said.append(("end", text)))  # fmt: skip
    waiting = [StatusRow(epoch=1, at=2, longest_ms=10)] * 5
    assert not silence.look(100, waiting, {})
    for now in (105, 109, 111, 125):
        assert silence.look(now, waiting, {2: 100})
    assert said == [("host-lost", "host n3 (ranks 3-4) has not answered for 11 s: down, or cut off from the network")]
    assert silence.look(130, waiting, {2: 100})
    assert said[1][0] == "end"
    assert not silence.look(131, waiting, {})
    assert said[2] == ("host-back", "host n3 (ranks 3-4) answers again")


def test_nobody_is_missed_while_training_goes_on() -> None:
    nodes, hosts = [[0], [1], [2]], ["n1", "n2", "n3"]
    said: list[Any] = []
    silence = Silence(10, 30, 0, nodes, hosts, lambda *event: said.append(event), lambda *event: said.append(event))
    for now in range(100, 200):
        silence.look(now, [StatusRow(epoch=1, at=3 * now + 2)] * 3, {2: 100.0})
        assert not silence.look(now, [StatusRow(epoch=1, at=3 * now)] * 3, {2: 100.0})  # and who computes is no riddle
    assert not said


@pytest.mark.parametrize(
    ("node", "silent", "cut"), [(0, [2], False), (2, [0, 1], True), (0, [1, 2], True), (1, [0], False)]
)
def test_the_smaller_part_takes_itself_for_cut_off(node: int, silent: list[int], cut: bool) -> None:
    silence = Silence(10, 30, node, [[0], [1], [2]], ["n1", "n2", "n3"], print, print)
    assert silence.is_cut_off(silent) is cut
    event = silence.event(dict.fromkeys(silent, 10.0), 20.0)
    lost = sorted({0, 1, 2} - set(silent)) if cut else silent
    assert event["ranks"] == lost
    assert event["hosts"] == [f"n{rank + 1}" for rank in lost]
    assert event["message"].startswith(name_hosts(lost, silence.ranks, silence.hosts))
    two = Silence(10, 30, node % 2, [[0], [1]], ["n1", "n2"], print, print)
    assert (two.is_cut_off([1]), two.is_cut_off([0])) == (False, True)


def test_behind_a_firewall_one_waits_longer_for_who_may_read_data() -> None:
    """Ranks here wait before training, and nobody can say what the others do: that must not end the job so soon."""
    said: list[tuple[str, float]] = []
    rows = [StatusRow(phase_name=b"waiting for the others"), StatusRow()]
    silence = Silence(10, 30, 0, [[0], [1]], ["n1", "n2"], lambda text, event: said.append(("told", event["seconds"])),
                      lambda text, event: said.append(("end", event["seconds"])))  # fmt: skip
    peers: Any = SimpleNamespace(mute=lambda now, seconds: {}, unreached=lambda now: {1: 0.0})
    watchdog: Any = SimpleNamespace(peers=peers, silence=silence, rows=rows)
    for now in range(160):
        Watchdog._is_silence(watchdog, now)
        if "end" in dict(said):
            break
    assert said == [("told", 10 * OUTSIDE_FACTOR), ("end", 30 * OUTSIDE_FACTOR)]


@pytest.mark.parametrize("is_leaf", [True, False], ids=["in a star", "between two hubs"])
def test_where_hosts_no_longer_answer_all_ranks_are_killed_at_once(*, is_leaf: bool) -> None:
    done: list[str] = []
    peers = SimpleNamespace(whole=Whole(ended=True, cut=True), is_hub=False, is_leaf=is_leaf)
    killing = SimpleNamespace(begun=False, at_once=lambda: done.append("killed"))
    watchdog: Any = SimpleNamespace(reports=SimpleNamespace(decide=lambda: None), killing=killing, peers=peers)
    Watchdog._act(watchdog, 0.0)
    assert done == ["killed"]


class Told:
    """A node that tells a hub of a death, and has its end reported where the hub does not answer."""

    def __init__(self, mute: dict[int, float], elsewhere: Collection[int] = ()) -> None:
        """``mute``: when nodes were last heard; the rank dies at -5, and now is 0."""
        self.said: list[str] = []
        now = time.monotonic()
        mute = {node: now + at for node, at in mute.items()}
        peers: Any = SimpleNamespace(
            decides=False, several=True, whole=Whole(), report=lambda news: None,
            mute=lambda now, seconds: mute, heard_elsewhere=lambda now: elsewhere,
        )  # fmt: skip
        self.peers = peers
        silence = Silence(10, 30, 1, [[0], [1]], ["n1", "n2"], print, print)
        report: Any = SimpleNamespace(reserve=lambda: True, is_ours=True,
                                      report=lambda message, **how: self.said.append(message))  # fmt: skip
        launcher: Any = SimpleNamespace(is_gone=lambda: False)
        self.events: list[Any] = []
        kills: Any = None
        self.reports = DeathReports(["n1", "n2"], peers, silence, report, launcher, self.events, lambda: now, kills)
        self.reports.hand_in(Death(now - 5, {"what": "death", "rank": 1, "message": "rank 1 on n2 died"}, "SIGKILL"))


def test_a_death_told_to_a_hub_that_is_gone_is_not_lost() -> None:
    told = Told({})
    assert told.reports.unanswered
    told.reports.decide_at_last()
    assert told.said == ["rank 1 on n2 died"]
    assert [event["what"] for event in told.events] == ["death"]
    lost = Told({0: -10.0})  # the hub's host is what it died of
    lost.reports.decide_at_last()
    assert "host n2 (rank 1) has not heard from any other host for 10 s" in lost.said[0]
    answered = Told({})
    answered.peers.whole = Whole(ended=True)
    assert not answered.reports.unanswered
    answered.reports.decide_at_last()
    assert not answered.said


@pytest.mark.parametrize(
    ("mute", "elsewhere"), [({0: -5.8}, ()), ({0: -4.5}, ()), ({0: -10.0}, (0,))], ids=["just then", "after", "heard"]
)
def test_a_host_that_falls_silent_at_a_death_is_not_what_the_rank_died_of(
    mute: dict[int, float], elsewhere: tuple[int, ...]
) -> None:
    """It is stopped for some seconds just then, or there is a way to it that is not broken."""
    told = Told(mute, elsewhere)
    told.reports.decide_at_last()
    assert told.said == ["rank 1 on n2 died"]
    assert not told.reports.cut


def test_a_death_by_lack_of_memory_is_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    assert death(2, 10.0, OUT_OF_MEMORY).by_itself
    assert not death(2, 10.0, "SIGKILL").by_itself
    count = [7]
    monkeypatch.setattr(rank_process, "memory_kills", lambda: count[0])
    kills = rank_process.MemoryKills()
    count[0] += 1  # of another job, before
    for i in range(5 * (rank_process.MEMORY_LOOKS - 1) + 1):  # of a job that stands still, five times a second
        assert kills.has_risen()
        kills.look(100 + i / 5)
    assert not kills.has_risen()
    count[0] += 1
    assert kills.has_risen()


def test_a_folder_that_does_not_answer_keeps_nobody_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a file server that is gone: who asks waits for ever."""
    dead = threading.Event()
    monkeypatch.setattr(failure, "FOLDER_S", 0.05)
    monkeypatch.setattr(failure, "write_failure_once", lambda folder: dead.wait(60))
    monkeypatch.setattr(failure, "fill_failure", lambda folder, text: dead.wait(60))
    monkeypatch.setattr(failure, "say", lambda text: None)
    begin = time.monotonic()
    ours = failure.Failure(lambda: tmp_path)
    assert ours.reserve()
    ours.report("rank 1 on n2 died")
    dead.set()
    assert time.monotonic() - begin < 30
    monkeypatch.setattr(failure, "write_failure_once", lambda folder: False)
    assert not failure.Failure(lambda: tmp_path).reserve()


def test_where_only_the_way_between_two_hosts_is_broken_both_are_named() -> None:
    said: list[tuple[str, list[str], str]] = []
    silence = Silence(10, 30, 0, [[0], [1], [2, 3]], ["n1", "n2", "n3", "n3"],
                      lambda text, event: said.append((event["what"], event["hosts"], text)), print)  # fmt: skip
    waiting = [StatusRow(epoch=1, at=2, longest_ms=10)] * 4
    for now in range(100, 112):
        silence.look(now, waiting, {2: 100}, elsewhere={2})
    silence.look(112, waiting, {}, elsewhere={2})
    both = "host n1 (rank 0) and host n3 (ranks 2-3) have not heard each other for 10 s, though others hear both"
    assert said[0] == ("host-lost", ["n1", "n3"], f"{both}: the network between them is broken")
    assert said[1][2] == "host n3 (ranks 2-3) answers again"
    del said[:]
    for now in range(200, 212):  # but one that nobody hears is what is wrong
        silence.look(now, waiting, {1: 200, 2: 200}, elsewhere={2})
    assert said[0][1:] == (["n2"], "host n2 (rank 1) has not answered for 10 s: down, or cut off from the network")


def test_who_takes_the_place_of_a_hub_decides_on_what_it_had_told_that() -> None:
    told = Told({})
    told.peers.decides, told.peers.all_answered = True, True
    told.reports.decide()
    assert told.said == ["rank 1 on n2 died"]
    assert not told.reports.unanswered


def test_a_folder_that_turns_out_not_to_be_shared_is_left_alone(tmp_path: Path) -> None:
    """The path is known before it is known that this host's folder of that name is another one."""
    status = RankStatus()
    watchdog: Any = SimpleNamespace(ranks={0: SimpleNamespace(memory=status.handle)}, _folder=None)
    folder: Any = vars(Watchdog)["folder"].fget
    assert folder(watchdog) is None
    status.set_folder(tmp_path)
    assert folder(watchdog) == tmp_path
    status.note_not_shared()
    assert folder(watchdog) is None
    status.close()
