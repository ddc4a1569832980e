"""How the ranks of a node divide the vector: slices that each sums and updates, in blocks that its cache holds."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from common.flat import BLOCK, Array

LINE = 16
"""Slices of summed layers have a multiple of this many numbers: ranks seldom write to the same cache line."""
Block = tuple[int, int, tuple[int, ...]]
"""Start and stop in the vector, and the shape the optimizer sees."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of the vector, from ``start`` to ``stop``, that one rank of a node sums and updates.

    ``number``: which of a node's equal shares it belongs to; those with one number are reduced between the nodes
    by the same ranks. ``owner``: the rank within this node.
    """

    start: int
    stop: int
    number: int
    owner: int


def cut(start: int, stop: int, unit: int, n_slices: int, n_local: int) -> list[Slice]:
    """Cut a part of the vector into slices of whole units and deal them to the ranks of a node.

    All nodes cut alike, into as many slices as the largest node has ranks; a smaller node's ranks take several, which
    lie side by side.
    """
    n_units = -(-(stop - start) // unit)
    edges = [min(stop, start + n_units * j // n_slices * unit) for j in range(n_slices + 1)]
    return [Slice(edges[j], edges[j + 1], j, j * n_local // n_slices) for j in range(n_slices)]


def cache_blocks(s: Slice) -> Iterator[Block]:
    """Yield the blocks of a slice that is summed."""
    for a in range(s.start, s.stop, BLOCK):
        b = min(a + BLOCK, s.stop)
        yield a, b, (b - a,)


class Piece:
    """A block of this rank's slices, small enough for its cache, summed over the ranks of the node in rank order."""

    def __init__(self, grads: list[Array], me: int, start: int, stop: int, room: Array) -> None:
        """``grads``: every local rank's gradient; ``room``: for the sum, at least ``stop - start`` numbers."""
        self.parts = [grad[start:stop] for grad in grads]
        self.own = self.parts[me]
        self.room = room[: stop - start]

    def total(self) -> Array:
        """Return the sum; it is this rank's own part where there is no other."""
        parts, room = self.parts, self.room
        if len(parts) == 1:
            return parts[0]
        np.add(parts[0], parts[1], room)
        for i in range(2, len(parts)):
            np.add(room, parts[i], room)
        return room
