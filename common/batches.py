"""Which training rows a rank takes in which step: a pure function of (seed, epoch, step, rank, size)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from common.dataset import Rows
from common.streams import Stream, generator

SAMPLE_ONE_IN = 32
SAMPLE_MOST = 8


@dataclass(frozen=True, slots=True)
class Batches:
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
    rank: int
    size: int

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch, the same on every rank."""
        return -(-self.n // (self.batch_size or self.n))

    def epoch(self, epoch: int) -> Iterator[Rows]:
        """Yield this rank's positions in the training rows, one (possibly empty) array a step."""
        steps = self.steps_per_epoch
        if self.kind == "shard":
            low, high = self.n * self.rank // self.size, self.n * (self.rank + 1) // self.size
            own = np.arange(low, high)
            if steps > 1:
                own = generator(self.seed, Stream.ORDER, epoch, self.rank).permutation(own)
            for k in range(steps):
                yield own[len(own) * k // steps : len(own) * (k + 1) // steps]
            return
        order = np.arange(self.n)
        if steps > 1:
            order = generator(self.seed, Stream.ORDER, epoch).permutation(self.n)
        batch = self.batch_size or self.n
        for k in range(steps):
            yield order[k * batch : (k + 1) * batch][self.rank :: self.size]


def sampled_steps(n_steps: int) -> list[int]:
    """Return which steps of an epoch (from 0) contributions are measured on: one in 32, 1 to 8, evenly spread."""
    count = min(max(1, n_steps // SAMPLE_ONE_IN), SAMPLE_MOST)
    return [(2 * j + 1) * n_steps // (2 * count) for j in range(count)]
