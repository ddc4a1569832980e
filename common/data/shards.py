"""Rows in fixed shards: every step takes as many from each, so that its rows do not depend on who reads which shard."""

from dataclasses import dataclass

import numpy as np

from common.data.dealing import edges
from common.data.scaling import Rows, row_numbers, row_type
from common.rng import Stream, generator

SHARDS = 64
RUN = 256
"""Consecutive rows that are read together, and mixed among themselves (docs/data.md has what was measured)."""
TURNS = np.array([int(f"{turn:06b}"[::-1], 2) for turn in range(SHARDS)])
"""The shards in the order in which rows are taken from them: the bits of 0, 1, 2 ... in reverse order (van der Corput
1935), so that the rows of a step, however few, come from places that are spread evenly over the file."""


def shard_starts(n: int) -> Rows:
    """Return the first row of each shard and last ``n``, (65,): those with a row more are first in ``TURNS``."""
    sizes = np.full(SHARDS, n // SHARDS)
    sizes[TURNS[: n % SHARDS]] += 1
    return np.concatenate([[0], np.cumsum(sizes)])


def turn_period(size: int) -> int:
    """Return after how many rows of an epoch they are dealt to ``size`` ranks as from the beginning."""
    sharers = size // SHARDS
    return SHARDS * max(1, sharers) * (sharers + 1 if size > SHARDS and size % SHARDS else 1)


@dataclass(frozen=True, slots=True)
class OwnShards:
    """The shards that a rank reads, of ``n`` rows in all; consecutive ones.

    The t-th row of an epoch comes from the shard whose turn is t mod 64, and is the (t div 64)-th in that shard's
    order. So it is known for each step how many of its rows are a rank's.
    ``turns``: of the rank's shards, ascending. Where ranks share a shard, each of the ``sharers`` takes a row in turn,
    beginning with that of ``place`` 0.
    """

    n: int
    turns: Rows
    sharers: int = 1
    place: int = 0

    @classmethod
    def of(cls, n: int, rank: int, size: int, shares: tuple[float, ...] = ()) -> "OwnShards":
        """Return a rank's shards. ``shares``: of the ranks, which each get a whole number of shards; ``()``: equal."""
        if size <= SHARDS:
            ends = edges(SHARDS, shares) if shares else SHARDS * np.arange(size + 1) // size
            return cls(n, np.flatnonzero((ends[rank] <= TURNS) & (ends[rank + 1] > TURNS)))
        shard = rank * SHARDS // size
        first, end = (-(-k * size // SHARDS) for k in (shard, shard + 1))
        return cls(n, np.flatnonzero(shard == TURNS), end - first, rank - first)

    def taken(self, rows: Rows) -> Rows:
        """Return how many of the first rows of an epoch, so many of all ranks, are this rank's."""
        if self.sharers == 1:
            return rows // SHARDS * len(self.turns) + np.searchsorted(self.turns, rows % SHARDS)
        of_shard = rows // SHARDS + (rows % SHARDS > self.turns[0])
        taken: Rows = (of_shard - self.place + self.sharers - 1) // self.sharers
        return taken

    def order(self, seed: int, epoch: int) -> Rows:
        """Return this rank's rows of an epoch in the order in which steps take them."""
        starts = shard_starts(self.n)
        whole = np.empty((-(-self.n // SHARDS), len(self.turns)), row_type(self.n))
        total = 0
        for column, shard in enumerate(TURNS[self.turns].tolist()):
            start, length = int(starts[shard]), int(starts[shard + 1] - starts[shard])
            whole[:length, column] = in_runs(length, generator(seed, Stream.ORDER, epoch, shard))
            whole[:length, column] += start
            total += length
        return whole.reshape(-1)[:total][self.place :: self.sharers]


def in_runs(n: int, rng: np.random.Generator) -> Rows:
    """Return the numbers below ``n`` in an order of runs: each of consecutive numbers, mixed among themselves.

    Where runs begin is drawn too, so that other rows are together in another epoch; the last run may lie at both ends.
    """
    if n <= RUN:
        return rng.permutation(n)
    whole, rest = np.split(np.roll(row_numbers(n), -int(rng.integers(n))), [n // RUN * RUN])
    runs = rng.permuted(rng.permutation(whole.reshape(-1, RUN)), axis=1).reshape(-1)
    before, after = np.split(runs, [RUN * int(rng.integers(n // RUN + 1))])
    return np.concatenate([before, rng.permutation(rest), after])
