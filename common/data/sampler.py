"""Which training rows a rank takes in which step: a pure function of (seed, epoch, step, rank, size, shares)."""

import math
from dataclasses import dataclass, replace

import numpy as np

from common.config import RunConfig
from common.data.dealing import edges
from common.data.scaling import Rows, row_numbers
from common.data.shards import OwnShards, turn_period
from common.rng import Stream, generator

SHUFFLE, SHARD, BY_RANK = "shuffle", "shard", "by-rank"


def kind_of(config: RunConfig) -> str:
    """Return how the rows of a run with these options are dealt."""
    return config.shards if (config.rows, config.shards) == (SHARD, BY_RANK) else config.rows


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
    row by row to the ranks. ``shard``: rows lie in 64 fixed shards, of which a step takes equally many rows each, and a
    rank reads some (common/data/shards.py). In both the rows of a step do not depend on the number of ranks.
    ``by-rank``, for runs of earlier versions: rank r keeps the r-th block of rows, in an order drawn from (seed, epoch,
    rank), so that the rows of a step depend on the number of ranks.
    When one step takes all rows, their order is left as it is, and a rank's shards are the r-th block of rows.
    ``joint``: an epoch that was begun with another batch size. The rows that are left of it are cut as in any epoch; so
    the first step after it takes what is left of the rows that it has in any epoch.
    ``shares``: of the ranks in the rows of each step, above 0 and of any sum; (): equal. They say who takes which of a
    step's rows, not which rows these are; not with ``by-rank``.
    """

    n: int
    batch_size: int
    seed: int
    kind: str
    size: int
    joint: Joint | None = None
    shares: tuple[float, ...] = ()

    @classmethod
    def of(
        cls, config: RunConfig, n: int, size: int, joint: Joint | None = None, shares: tuple[float, ...] = ()
    ) -> "RowSampler":
        """Return how ``n`` rows are dealt to the ranks of a job with these options."""
        return cls(n, config.batch_size, config.seed, kind_of(config), size, joint, shares)

    @property
    def joint_step(self) -> int:
        """The first step (from 0) of the joint's epoch that is not wholly done; the number of steps if all are."""
        if self.joint is None:
            return 0
        before = self._before(self.joint)
        if self.kind == BY_RANK:
            return self.joint.steps * self.steps_per_epoch // before.steps_per_epoch
        used = before.used(self.joint.steps)
        return self.steps_per_epoch if used == self.n else used // (self.batch_size or self.n)

    @property
    def splits_step(self) -> bool:
        """Whether a part of the rows of ``joint_step`` is done."""
        if self.joint is None or self.joint_step == self.steps_per_epoch:
            return False
        before = self._before(self.joint)
        if self.kind == BY_RANK:
            return self.joint.steps * self.steps_per_epoch % before.steps_per_epoch > 0
        return before.used(self.joint.steps) % (self.batch_size or self.n) > 0

    def used(self, steps: int) -> int:
        """Return how many rows all ranks together take in the first steps of an epoch; not with ``by-rank``."""
        return min(self.n, steps * (self.batch_size or self.n))

    def _before(self, joint: Joint) -> "RowSampler":
        return replace(self, batch_size=joint.batch_size, joint=None)

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch, the same on every rank."""
        return -(-self.n // (self.batch_size or self.n))

    @property
    def fixed(self) -> bool:
        """Whether all epochs take the same rows in the same order."""
        return self.steps_per_epoch == 1

    def counts(self, rank: int) -> Rows:
        """Return how many rows a rank takes in each step of an epoch, (steps,); the same in every epoch."""
        first, of_step = self.kinds()
        return self.counts_of(rank, first)[of_step]

    def kinds(self) -> tuple[Rows, Rows]:
        """Return a step of each kind, (kinds,), and the kind of each step, (steps,).

        In steps of one kind each rank takes equally many rows: full batches are alike, or with shards those that begin
        at the same turn of the same ranks. Only ``by-rank`` has no such rule.
        """
        steps, last = self.steps_per_epoch, self.steps_per_epoch - 1
        numbers = np.arange(steps)
        if self.kind == BY_RANK:
            return numbers, numbers
        period = (
            1
            if self.kind == SHUFFLE or self.fixed
            else turn_period(self.size) // math.gcd(turn_period(self.size), self.batch_size)
        )
        of_step = numbers % period
        of_step[last] = min(period, last)  # it may be shorter
        return np.append(numbers[: min(period, last)], last), of_step

    def counts_of(self, rank: int, steps: Rows) -> Rows:
        """Return how many rows a rank takes in some steps of an epoch, (steps,)."""
        if self.kind == BY_RANK or (self.fixed and self.kind == SHARD):
            block, n = self._block(rank), self.steps_per_epoch
            length = block.stop - block.start
            found: Rows = length * (steps + 1) // n - length * steps // n
            return found
        batch = self.batch_size or self.n
        ends = np.minimum(self.n, (steps + 1) * batch)
        if self.kind == SHARD:
            own = self._own(rank)
            return own.taken(ends) - own.taken(steps * batch)
        full, rest = (self._n_of(rank, n) for n in (batch, self.n - (self.steps_per_epoch - 1) * batch))
        return np.where(steps == self.steps_per_epoch - 1, rest, full)

    def joint_count(self, rank: int) -> int:
        """Return how many rows ``joint_rows`` has, without drawing an order."""
        start, end = self._joint_range(rank)
        return end - start if self.kind != SHUFFLE else self._n_of(rank, end - start)

    def order(self, epoch: int, rank: int) -> Rows:
        """Return a rank's places in the training rows, those of all steps of an epoch one after the other."""
        if self.kind != SHUFFLE:
            return row_numbers(self.n)[self._block(rank)] if self.fixed else self._shuffled(epoch, rank)
        order = row_numbers(self.n) if self.fixed else self._shuffled(epoch, rank)
        batch = self.batch_size or self.n
        whole = self.n // batch * batch
        full_batches = order[:whole].reshape(-1, batch)[:, self._part(rank, batch)]
        rest = order[whole:]
        return np.concatenate([full_batches.reshape(-1), rest[self._part(rank, len(rest))]])

    def drawn(self, epoch: int, rank: int) -> Rows:
        """Return what ``part_of`` cuts for one rank that takes parts of any: a rank's own where it reads no others."""
        if self.kind != SHUFFLE:
            return self.order(epoch, rank)
        return row_numbers(self.n) if self.fixed else self._shuffled(epoch, rank)

    def part_of(self, drawn: Rows, step: int, rank: int) -> Rows:
        """Return a rank's places in the training rows for one step; elsewhere than with ``shuffle`` its own alone."""
        if self.kind == SHUFFLE:
            rows = drawn[self.used(step) : self.used(step + 1)]
            return rows[self._part(rank, len(rows))]
        ends = np.cumsum(self.counts(rank)[: step + 1])
        return drawn[ends[step] - (ends[step] - ends[step - 1] if step else ends[0]) : ends[step]]

    def most_rows(self) -> int:
        """Return the most rows that any rank takes in a step."""
        joint = [self.joint_count(rank) for rank in range(self.size)] if self.splits_step else []
        return max(*(int(self.counts_of(rank, self.kinds()[0]).max()) for rank in range(self.size)), *joint, 0)

    def joint_rows(self, rank: int) -> Rows:
        """Return a rank's places in the training rows for the first step after the joint, which splits a step."""
        assert self.joint is not None
        start, end = self._joint_range(rank)
        rows = self._shuffled(self.joint.epoch, rank)[start:end]
        return rows if self.kind != SHUFFLE else rows[self._part(rank, end - start)]

    def _joint_range(self, rank: int) -> tuple[int, int]:
        """Return which part of ``_shuffled`` the first step after the joint takes: of all rows, or of the rank's."""
        assert self.joint is not None
        before, step = self._before(self.joint), self.joint_step
        if self.kind == BY_RANK:
            block = self._block(rank)
            n = block.stop - block.start
            return n * self.joint.steps // before.steps_per_epoch, n * (step + 1) // self.steps_per_epoch
        start, end = before.used(self.joint.steps), self.used(step + 1)
        if self.kind == SHARD:
            start, end = self._own(rank).taken(np.array([start, end])).tolist()
        return start, end

    def _shuffled(self, epoch: int, rank: int) -> Rows:
        """Return the order drawn for an epoch: of all rows, or of those that a rank keeps."""
        if self.kind == SHARD:
            return self._own(rank).order(self.seed, epoch)
        if self.kind == BY_RANK:
            own = row_numbers(self.n)[self._block(rank)]
            return generator(self.seed, Stream.ORDER, epoch, rank).permutation(own)
        order = row_numbers(self.n)
        generator(self.seed, Stream.ORDER, epoch).shuffle(order)
        return order

    def _own(self, rank: int) -> OwnShards:
        return OwnShards.of(self.n, rank, self.size, self.shares)

    def _part(self, rank: int, n: int) -> slice:
        """Return which of the ``n`` rows of a step are a rank's."""
        return self._cut(rank, n) if self.shares else slice(rank, None, self.size)

    def _n_of(self, rank: int, n: int) -> int:
        return len(range(n)[self._part(rank, n)])

    def _block(self, rank: int) -> slice:
        """Return the rank's part of all rows, if each has one in the order of the file."""
        return (
            self._cut(rank, self.n)
            if self.shares
            else slice(self.n * rank // self.size, self.n * (rank + 1) // self.size)
        )

    def _cut(self, rank: int, n: int) -> slice:
        start, end = edges(n, self.shares)[rank : rank + 2].tolist()
        return slice(start, end)
