"""How many rows each rank takes in each step of an epoch, by the rule that deals them: no table of ranks x steps."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from common.data.scaling import Rows

if TYPE_CHECKING:
    from common.data.sampler import RowSampler


class RowTable:
    """Rows by rank and step. Steps in which every rank takes as many as in another are one kind, counted once.

    ``of_step``: (steps,), the kind of each step of an epoch, and last of the one after a joint, if that splits a step;
    ``steps``: without that one.
    ``of_rank(rank)``: (kinds,), the rows of a rank. Nothing is kept by rank: sums over ranks are taken one by one.
    """

    def __init__(self, size: int, of_step: Rows, of_rank: Callable[[int], Rows], steps: int | None = None) -> None:
        self.size, self.of_step, self.of_rank = size, of_step, of_rank
        self.steps = len(of_step) if steps is None else steps

    @classmethod
    def of(cls, sampler: "RowSampler") -> "RowTable":
        """Return the rows of a sampler's ranks."""
        first, of_step = sampler.kinds()
        if not sampler.splits_step:
            return cls(sampler.size, of_step, lambda rank: sampler.counts_of(rank, first))

        def of_rank(rank: int) -> Rows:
            return np.append(sampler.counts_of(rank, first), sampler.joint_count(rank))

        return cls(sampler.size, np.append(of_step, len(first)), of_rank, len(of_step))

    @classmethod
    def of_counts(cls, counts: Rows) -> "RowTable":
        """Return the rows of each rank in each step as they are given, (ranks, steps)."""
        return cls(len(counts), np.arange(counts.shape[1]), counts.__getitem__)

    @property
    def shape(self) -> tuple[int, int]:
        """Ranks and steps."""
        return self.size, len(self.of_step)

    def rows(self, rank: int) -> Rows:
        """Return the rows of a rank in each step, (steps,)."""
        return self.of_rank(rank)[self.of_step]

    def summed(self, ranks: Iterable[int]) -> Rows:
        """Return the rows of some ranks together in each step, (steps,)."""
        return self._kinds(ranks)[self.of_step]

    def most(self, groups: Iterable[Iterable[int]]) -> int:
        """Return the most rows that a group of ranks has in a step."""
        return max(int(self._kinds(ranks).max()) for ranks in groups)

    def figures(self) -> tuple[Rows, NDArray[np.bool_], Rows]:
        """Return of each step, (steps,): rows of all ranks, whether each has as many, and how many have any."""
        least = most = total = self.of_rank(0)
        active = (total > 0).astype(np.int64)
        for rank in range(1, self.size):
            own = self.of_rank(rank)
            least, most = np.minimum(least, own), np.maximum(most, own)
            total, active = total + own, active + (own > 0)
        return total[self.of_step], (least == most)[self.of_step], active[self.of_step]

    def _kinds(self, ranks: Iterable[int]) -> Rows:
        total = np.zeros(int(self.of_step.max()) + 1, np.int64)
        for rank in ranks:
            total += self.of_rank(rank)
        return total
