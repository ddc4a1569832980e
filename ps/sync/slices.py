"""How the ranks of a node divide the vector: slices that each sums and updates, in blocks that its cache holds."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from common.flat import BLOCK, Array
from ps.comm.topology import Topology

LINE = 16
"""Slices of summed layers have a multiple of this many numbers: ranks seldom write to the same cache line."""


class BlockRange(NamedTuple):
    """Where a block lies in the vector, and the shape the optimizer sees."""

    start: int
    stop: int
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Slice:
    """A range of the vector, from ``start`` to ``stop``, that one rank of a node sums and updates.

    ``number``: slices of one number are reduced between the nodes by the same ranks. ``owner``: the rank within this
    node. ``blocks``: what the owner works on at a time.
    """

    start: int
    stop: int
    number: int
    owner: int
    blocks: tuple[BlockRange, ...]


Cut = Callable[[int, int], Iterator[BlockRange]]


def cache_blocks(start: int, stop: int) -> Iterator[BlockRange]:
    """Yield the blocks of a slice that is summed."""
    for a in range(start, stop, BLOCK):
        b = min(a + BLOCK, stop)
        yield BlockRange(a, b, (b - a,))


def cut(start: int, stop: int, unit: int, n_slices: int, n_local: int, into_blocks: Cut = cache_blocks) -> list[Slice]:
    """Cut a range of the vector into slices of whole units and deal them to the ranks of a node.

    All nodes cut alike, into as many slices as the largest node has ranks; a smaller node's ranks take several, which
    lie next to each other. ``into_blocks(start, stop)`` yields the blocks of a slice, by default what a cache holds.
    """
    n_units = -(-(stop - start) // unit)
    edges = [min(stop, start + n_units * j // n_slices * unit) for j in range(n_slices + 1)]
    return [
        Slice(a, b, j, j * n_local // n_slices, tuple(into_blocks(a, b)))
        for j, (a, b) in enumerate(itertools.pairwise(edges))
    ]


def row_blocks(n_out: int, most_numbers: int) -> Cut:
    """Return what cuts a slice of a matrix with ``n_out`` columns into blocks of whole rows."""

    def cut_rows(start: int, stop: int) -> Iterator[BlockRange]:
        step = max(1, most_numbers // n_out) * n_out
        for a in range(start, stop, step):
            b = min(a + step, stop)
            yield BlockRange(a, b, ((b - a) // n_out, n_out))

    return cut_rows


@dataclass(frozen=True, slots=True)
class Layout:
    """How a node's ranks divide the vector, and what else they share.

    ``slices``: of all ranks, in the order in which they are reduced. ``factored``: weights whose gradient is formed
    from factors, not summed. ``more_numbers``: what all ranks of the node see besides parameters and gradients.
    """

    slices: list[Slice]
    factored: tuple[str, ...] = ()
    more_numbers: int = 0

    def blocks(self, owner: int) -> list[BlockRange]:
        """Return the blocks of a local rank's slices."""
        return [block for s in self.slices if s.owner == owner for block in s.blocks]


def summed_layout(topology: Topology, shapes: Mapping[str, tuple[int, ...]]) -> Layout:
    """Return the layout in which the whole gradient is summed."""
    n = sum(math.prod(shape) for shape in shapes.values())
    return Layout(cut(0, n, LINE, topology.largest, topology.local.size))


class SummedBlock:
    """A block of this rank's slices, small enough for its cache, summed over the ranks of the node in rank order."""

    def __init__(self, grads: list[Array], me: int, start: int, stop: int, buffer: Array) -> None:
        """``grads``: every local rank's gradient; ``buffer``: for the sum, at least ``stop - start`` numbers."""
        self.grads = [grad[start:stop] for grad in grads]
        self.own = self.grads[me]
        self.buffer = buffer[: stop - start]

    def total(self) -> Array:
        """Return the sum; it is this rank's own gradient where there is no other."""
        grads, buffer = self.grads, self.buffer
        if len(grads) == 1:
            return grads[0]
        np.add(grads[0], grads[1], buffer)
        for i in range(2, len(grads)):
            np.add(buffer, grads[i], buffer)
        return buffer

    def keep(self, total: Array) -> None:
        """Put a sum of this block, of any shape, in place of this rank's own gradient."""
        if total is not self.own:
            np.copyto(self.own, total.reshape(-1))
