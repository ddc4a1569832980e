"""What the watchdogs of a job say of ranks that have died: one of them decides, and names one rank or host."""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from common.rank_status import read_failure_kept, read_row
from workers.watchdog.deaths import ASKED_S, HOST_S, QUIET_S, Death, Deaths
from workers.watchdog.failure import Failure
from workers.watchdog.launcher_process import Launcher
from workers.watchdog.peers import Peers
from workers.watchdog.rank_process import MemoryKills, RankProcess
from workers.watchdog.silence import Silence

LATE_S = 1.5
"""A node that says something every second may be so late, not more, when a death is looked into."""


class DeathReports:
    """Takes note of deaths, here and on nodes that this watchdog decides for; reports the first.

    ``cut``: what was reported is that a host no longer answers.
    """

    def __init__(
        self, hosts: Sequence[str], peers: Peers, silence: Silence, failure: Failure, launcher: Launcher,
        events: list[dict[str, Any]], now: Callable[[], float], memory_kills: MemoryKills,
    ) -> None:  # fmt: skip
        """``events``: to which that of the death is added."""
        self._hosts, self._peers, self._silence, self._failure = hosts, peers, silence, failure
        self._launcher, self._events, self._now, self._memory_kills = launcher, events, now, memory_kills
        self._deaths = Deaths()
        self._told: list[Death] = []
        self.cut = False

    @property
    def pending(self) -> bool:
        """Whether there is a death to decide on."""
        return bool(self._deaths)

    def note(self, rank: RankProcess, at: float) -> None:
        """Take note of what a rank died of. Where it has reported its own failure, that message is better."""
        row = read_row(rank.memory)
        if not row.reported and self._peers.decides:
            self._failure.reserve()  # before anything that takes time: others may end meanwhile
        event = rank.death(self._hosts[rank.rank], self._memory_kills)
        text = read_failure_kept(rank.memory) if row.reported else ""
        text = text.strip("\0\n").rpartition("\n")[2].removeprefix("rankwise: ")
        if not row.reported and (message := self._launcher.describe_end(row.where)):
            event |= {"what": "launcher-gone", "message": message}
        asked = row.asked > 0 and 1000 * at - row.asked < 1000 * ASKED_S
        self.hand_in(Death(at, event, rank.cause, text if row.reported else "", asked))

    def note_gone(self, rank: int) -> None:
        """Take note of a rank that died before this watchdog took the place of another."""
        host = self._hosts[rank]
        message = f"rank {rank} on {host} died (its process is gone) while nobody watched it"
        event = {"what": "death", "rank": rank, "host": host, "message": message, "noticed": time.time()}
        self.hand_in(Death(time.monotonic(), event))

    def hand_in(self, death: Death) -> None:
        """Decide on a death here, if this watchdog is the one that decides; else tell the hub."""
        if not self._peers.decides:
            self._told.append(death)
            self._peers.report({"death": asdict(death)})
        elif self._failure.reserve() or self._failure.is_ours or death.reported:  # else somebody has said why
            self._deaths.add(death, self._now())
            if not self._peers.several:  # else once the others have been listened to
                self.decide()

    @property
    def unanswered(self) -> bool:
        """Whether the hub has not said yet that the job ends, though it was told of a death: it may be gone itself."""
        whole = self._peers.whole
        return bool(self._told) and not (whole.ended or whole.aborting or whole.cut)

    def decide(self) -> None:
        """Report the first of the deaths once it is clear which it was, or the host whose loss they follow from."""
        if self._peers.decides and self.unanswered:  # the hub is gone, and this watchdog has taken its place
            told, self._told = self._told, []
            for death in told:
                self.hand_in(death)
        if not self._deaths:
            return
        now = self._now()
        mute = self._peers.mute(now, max(LATE_S, now - self._deaths.began)) if self._peers.several else {}
        if not self._peers.several or self._deaths.decided(now, mute, answered=self._peers.all_answered):
            self._report_first(mute)

    def _report_first(self, mute: dict[int, float]) -> None:
        first = self._deaths.take()
        lost = {} if first.by_itself else self._silent_before(first, mute)
        if lost:
            self.cut = True
            event = {**self._silence.event(lost, self._now()), "noticed": time.time()}
        else:
            event = first.event | ({"message": first.reported} if first.reported else {})
        if self._failure.is_ours:
            self._failure.report(event["message"], aloud=not first.reported, past_launcher=self._launcher.is_gone())
        if self._failure.is_ours or first.reported:
            self._events.append(event)

    def _silent_before(self, death: Death, mute: dict[int, float]) -> dict[int, float]:
        """Return the nodes that had been silent for a while when a rank died, of whose loss it may have died."""
        at = death.at + self._now() - time.monotonic()  # on the job's clock, as theirs
        elsewhere = self._peers.heard_elsewhere(self._now())
        return {node: heard for node, heard in mute.items() if at - heard > QUIET_S and node not in elsewhere}

    def take(self, node: int, news: Any) -> bool:
        """Take the end of a rank on another node, as its watchdog tells it; return whether it does."""
        with contextlib.suppress(TypeError, KeyError, ValueError):
            death = Death(**news)
            if death.event["rank"] in self._peers.nodes[node] and isinstance(death.event["message"], str):
                self.hand_in(replace(death, at=self._peers.when(node, float(death.at))))
                return True
        return False

    def decide_at_last(self) -> None:
        """Decide without those who might know more, and on what no hub has answered to."""
        mute: dict[int, float] = {}
        if self.unanswered and self._failure.reserve():
            mute = self._peers.mute(self._now(), HOST_S)
            for death in self._told:
                self._deaths.add(death, self._now())
        if self._deaths:
            self._report_first(mute)
