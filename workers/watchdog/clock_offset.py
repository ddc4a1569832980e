"""How far the monotonic clock of another host is from this one's, by messages that go both ways."""

import time
from collections import deque
from typing import Any

KEPT = 30
"""The last messages, one a second, that count: clocks drift by seconds a day; that of a suspended machine may stop."""


class Offset:
    """Each side knows the least difference between a stamp and its arrival of late: the offset and the least delay.

    Half the difference of both is the offset, as far as the least delays of both ways are equal.
    """

    def __init__(self) -> None:
        self._found: deque[float] = deque(maxlen=KEPT)
        self._theirs: float | None = None

    def stamp(self) -> dict[str, float]:
        """Return what a message to the other side is to hold."""
        return {"t": time.monotonic()} | ({"least": min(self._found)} if self._found else {})

    def note(self, news: dict[str, Any]) -> None:
        """Take note of what a message from there holds, which has just come."""
        if isinstance(news.get("t"), float):
            self._found.append(time.monotonic() - news["t"])
        if isinstance(news.get("least"), float):
            self._theirs = news["least"]

    @property
    def seconds(self) -> float:
        """What is to be added to a time of that clock."""
        if not self._found:
            return 0.0
        least = min(self._found)
        return least if self._theirs is None else (least - self._theirs) / 2
