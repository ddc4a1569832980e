"""How far the monotonic clock of another host is from this one's, by messages that go both ways."""

import time
from typing import Any


class Offset:
    """Each side keeps the least difference between a stamp and its arrival: it holds the offset and the least delay.

    Half the difference of both is the offset, as far as the least delays of both ways are equal.
    """

    def __init__(self) -> None:
        self._least: float | None = None
        self._theirs: float | None = None

    def stamp(self) -> dict[str, float]:
        """Return what a message to the other side is to hold."""
        return {"t": time.monotonic()} | ({} if self._least is None else {"least": self._least})

    def note(self, news: dict[str, Any]) -> None:
        """Take note of what a message from there holds, which has just come."""
        if isinstance(news.get("t"), float):
            found = time.monotonic() - news["t"]
            self._least = found if self._least is None else min(found, self._least)
        if isinstance(news.get("least"), float):
            self._theirs = news["least"]

    @property
    def seconds(self) -> float:
        """What is to be added to a time of that clock."""
        if self._least is None:
            return 0.0
        return self._least if self._theirs is None else (self._least - self._theirs) / 2
