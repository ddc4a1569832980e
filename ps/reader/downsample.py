"""A stream of any length cut down to so many items, evenly spread."""

from typing import Generic, TypeVar

T = TypeVar("T")


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
        self._at_strides: list[T] = []
        self._last: list[T] = []
        """The last item, where that is less than a stride after the one before."""

    def add(self, item: T) -> None:
        """Take the next item of the stream."""
        if self.count % self.stride:
            self._last = [item]
        else:
            self._at_strides.append(item)
            self._last = []
        if len(self._at_strides) + len(self._last) > self.most:
            self._at_strides = self._at_strides[::2]
            self.stride *= 2
            self._last = [item] if self.count % self.stride else []
        self.count += 1

    def kept(self) -> list[T]:
        """Return the items in their order."""
        return self._at_strides + self._last
