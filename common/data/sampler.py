"""Which training rows a rank takes in which step: a pure function of (seed, epoch, step, rank, size)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.data.scaling import Rows
from common.rng import Stream, generator


@dataclass(frozen=True, slots=True)
class Joint:
    """The epoch in which the batch size changes: ``steps`` of it were taken with ``batch_size`` rows (0: all)."""

    epoch: int
    steps: int
    batch_size: int


@dataclass(frozen=True, slots=True)
class RowSampler:
    """How ``n`` training rows are dealt to steps and ranks; nothing is padded, dropped or repeated.

    ``shuffle``: each epoch's order is drawn from (seed, epoch), cut into global batches, and a batch is dealt
    row by row to the ranks. So the rows of a step do not depend on the number of ranks.
    ``shard``: rank r keeps the r-th block of rows for good, in an order drawn from (seed, epoch, rank).
    When one step takes all rows, their order is left as it is.
    ``joint``: an epoch that was begun with another batch size. The rows that are left of it are cut as in any epoch; so
    the first step after it takes what is left of the rows that it has in any epoch.
    """

    n: int
    batch_size: int
    seed: int
    kind: str
    size: int
    joint: Joint | None = None

    @property
    def joint_step(self) -> int:
        """The first step (from 0) of the joint's epoch that is not wholly done; the number of steps if all are."""
        if self.joint is None:
            return 0
        before = self._before()
        if self.kind == "shard":
            return self.joint.steps * self.steps_per_epoch // before.steps_per_epoch
        used = before.used(self.joint.steps)
        return self.steps_per_epoch if used == self.n else used // (self.batch_size or self.n)

    @property
    def splits_step(self) -> bool:
        """Whether a part of the rows of ``joint_step`` is done."""
        if self.joint is None or self.joint_step == self.steps_per_epoch:
            return False
        before = self._before()
        if self.kind == "shard":
            return self.joint.steps * self.steps_per_epoch % before.steps_per_epoch > 0
        return before.used(self.joint.steps) % (self.batch_size or self.n) > 0

    def used(self, steps: int) -> int:
        """Return how many rows all ranks together take in the first steps of an epoch; not of shards."""
        return min(self.n, steps * (self.batch_size or self.n))

    def _before(self) -> "RowSampler":
        assert self.joint is not None
        return RowSampler(self.n, self.joint.batch_size, self.seed, self.kind, self.size)

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
            return own if self.fixed else self._shuffled(epoch, rank)
        order = np.arange(self.n) if self.fixed else self._shuffled(epoch, rank)
        batch = self.batch_size or self.n
        whole = self.n // batch * batch
        full_batches = order[:whole].reshape(-1, batch)[:, rank :: self.size]
        return np.concatenate([full_batches.reshape(-1), order[whole:][rank :: self.size]])

    def joint_rows(self, rank: int) -> Rows:
        """Return a rank's places in the training rows for the first step after the joint, which splits a step."""
        assert self.joint is not None
        before, step, order = self._before(), self.joint_step, self._shuffled(self.joint.epoch, rank)
        if self.kind == "shard":
            n = len(order)
            return order[n * self.joint.steps // before.steps_per_epoch : n * (step + 1) // self.steps_per_epoch]
        return order[before.used(self.joint.steps) : self.used(step + 1)][rank :: self.size]

    def _shuffled(self, epoch: int, rank: int) -> Rows:
        """Return the order drawn for an epoch: of all rows, or of a rank's shard."""
        if self.kind == "shard":
            own = np.arange(self.n)[shard(self.n, rank, self.size)]
            return generator(self.seed, Stream.ORDER, epoch, rank).permutation(own)
        return generator(self.seed, Stream.ORDER, epoch).permutation(self.n)


def shard(n: int, rank: int, size: int) -> slice:
    """Return the rows that a rank keeps for good, of ``n``."""
    return slice(n * rank // size, n * (rank + 1) // size)
