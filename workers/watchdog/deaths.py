"""Which of several deaths on different nodes was the first: the others are what a launcher made of it."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

DECIDE_S = 1.5
"""How long after the first death is known others are waited for that were before it."""
HOST_S = 4.0
"""How long a node may say nothing after that, which says something every second, before it counts as gone."""
ASKED_S = 10.0
"""A process that a launcher ends has been asked to end by a signal at most so long before."""


QUIET_S = 2.0
"""A host of whose loss a rank has died was silent for so long by then: launchers and libraries take longer to notice.

One that fell silent later may be stopped for a moment, or a packet was lost.
"""
OUT_OF_MEMORY = "lack of memory"
OF_LAUNCHERS = ("", "SIGKILL", "SIGTERM")
"""How launchers end processes, and what is not known."""


@dataclass(frozen=True, slots=True)
class Death:
    """The end of a rank, as the watchdog of its node saw it.

    ``at``: when, in seconds on the clock of who decides. ``event``: what the log is to say. ``cause``: the name of the
    signal that ended it, or lack of memory, if that is known. ``reported``: the rank's own words on why it failed.
    ``asked``: a signal had asked it to stop, as some launchers do before they kill.
    """

    at: float
    event: dict[str, Any]
    cause: str = ""
    reported: str = ""
    asked: bool = False

    @property
    def by_itself(self) -> bool:
        """Whether no launcher can have caused it: the rank says why, or it ended in a way that no launcher chooses."""
        return bool(self.reported) or self.cause not in OF_LAUNCHERS


class Deaths:
    """Collects deaths until it is clear which was the first; true as long as there is one to decide on."""

    def __init__(self) -> None:
        self._found: list[Death] = []
        self._began = 0.0
        self._taken = False

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, death: Death, now: float) -> None:
        """Take note of a death."""
        if not self._taken:
            self._began = self._began if self._found else now
            self._found.append(death)

    def take(self) -> Death:
        """Return the first, and take note of no more."""
        first = self.first()
        self._taken, self._found = True, []
        return first

    def first(self) -> Death:
        """Return the one that the others follow from, as far as is known."""
        return min(self._found, key=lambda death: (not death.reported, not death.by_itself, death.asked, death.at))

    @property
    def began(self) -> float:
        """When the first became known."""
        return self._began

    def decided(self, now: float, mute: Collection[int], *, answered: bool) -> bool:
        """Say whether it is time to decide. ``mute``: nodes that have said nothing since then, though they should.

        ``answered``: all nodes have told what they had seen by then.
        """
        waited = now - self._began
        return self.first().by_itself or answered or (waited >= DECIDE_S and (not mute or waited >= HOST_S))
