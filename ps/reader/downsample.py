"""A stream of any length cut down to so many items, evenly spread."""

from typing import Generic, TypeVar

T = TypeVar("T")

MOST_RANKS = 64
"""Ranks that a reader shows one by one; of more, the first."""


class Downsampler(Generic[T]):
    """Keeps at most ``most`` items of a stream: every ``stride``-th, the first among them, and the last.

    Each time there are too many, every second one goes and the stride doubles, so memory does not grow with the stream.
    ``count``: how many items there were.
    """

    def __init__(self, most: int) -> None:
        """``most``: at least 2."""
        assert most >= 2
        self.most = most
        self.stride = 1
        self.count = 0
        self._kept: list[T] = []
        self._between: list[T] = []

    def add(self, item: T) -> None:
        """Take the next item of the stream."""
        if self.count % self.stride:
            self._between = [item]
        else:
            self._kept.append(item)
            self._between = []
        self.count += 1
        if len(self._kept) + len(self._between) > self.most:
            self._halve(item)

    def _halve(self, last: T) -> None:
        self._kept = self._kept[::2]
        self.stride *= 2
        self._between = [last] if (self.count - 1) % self.stride else []

    def kept(self) -> list[T]:
        """Return the items in their order; the last one may follow at less than a stride."""
        return self._kept + self._between
