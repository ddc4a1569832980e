"""Which training rows a rank takes in which step: a pure function of (seed, epoch, step, rank, size)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.data.scaling import Rows
from common.rng import Stream, generator


@dataclass(frozen=True, slots=True)
class RowSampler:
    """How ``n`` training rows are dealt to steps and ranks; nothing is padded, dropped or repeated.

    ``shuffle``: each epoch's order is drawn from (seed, epoch), cut into global batches, and a batch is dealt
    row by row to the ranks. So the rows of a step do not depend on the number of ranks.
    ``shard``: rank r keeps the r-th block of rows for good, in an order drawn from (seed, epoch, rank).
    When one step takes all rows, their order is left as it is.
    """

    n: int
    batch_size: int
    seed: int
    kind: str
    size: int

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch, the same on every rank."""
        return -(-self.n // (self.batch_size or self.n))

    @property
    def fixed(self) -> bool:
        """Whether all epochs take the same rows in the same order."""
        return self.steps_per_epoch == 1

    def counts(self, rank: int) -> NDArray[np.int64]:
        """Return how many rows a rank takes in each step of an epoch, (steps,); the same in every epoch."""
        steps = self.steps_per_epoch
        if self.kind == "shard":
            rows = shard(self.n, rank, self.size)
            edges: Rows = (rows.stop - rows.start) * np.arange(steps + 1) // steps
            return np.diff(edges)
        in_step = np.full(steps, self.batch_size or self.n)
        in_step[-1] = self.n - in_step[:-1].sum()
        counts: Rows = np.maximum(0, in_step - rank + self.size - 1) // self.size
        return counts

    def order(self, epoch: int, rank: int) -> Rows:
        """Return a rank's places in the training rows, those of all steps of an epoch one after the other."""
        if self.kind == "shard":
            own = np.arange(self.n)[shard(self.n, rank, self.size)]
            return own if self.fixed else generator(self.seed, Stream.ORDER, epoch, rank).permutation(own)
        order = np.arange(self.n) if self.fixed else generator(self.seed, Stream.ORDER, epoch).permutation(self.n)
        batch = self.batch_size or self.n
        whole = self.n // batch * batch
        full_batches = order[:whole].reshape(-1, batch)[:, rank :: self.size]
        return np.concatenate([full_batches.reshape(-1), order[whole:][rank :: self.size]])


def shard(n: int, rank: int, size: int) -> slice:
    """Return the rows that a rank keeps for good, of ``n``."""
    return slice(n * rank // size, n * (rank + 1) // size)
