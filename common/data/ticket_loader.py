"""Rows of any rank's part of any step, one at a time, for modes in which a rank takes whichever part is next."""

import time
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from common.data.features import Features, HeldFeatures
from common.data.loader import Batch, BatchLoader
from common.data.sampler import RowSampler
from common.data.scaling import Rows
from common.flat import Array


class TicketLoader:
    """Gives the batch of a ticket: number k P + r is the part of rank r in step k, of P ranks.

    ``x``, ``y``, ``encode``, ``n_out``, ``weight``: see BatchLoader. ``rows``: the numbers of the training rows.
    ``total``: (steps,), rows of all ranks in each step. ``rank``: whose this is. ``filled``: see BatchLoader.
    """

    def __init__(
        self,
        x: Features | Array,
        y: Array,
        encode: Callable[[Array, Array], None],
        n_out: int,
        rows: Rows,
        sampler: RowSampler,
        total: NDArray[np.int64],
        rank: int,
        weight: Array | None = None,
    ) -> None:
        self.x = HeldFeatures(x) if isinstance(x, np.ndarray) else x
        self.y, self._encode, self._n_out, self._rows, self._sampler = y, encode, n_out, rows, sampler
        self._rank, self._total = rank, total.tolist()
        self.steps, self.ahead = sampler.steps_per_epoch, 1
        self.input_s = self.filled = 0.0
        self._epoch = 0
        most = max(sampler.most_rows(), 1)
        self._x = np.empty((most, self.x.shape[1] + 1), self.x.dtype)
        self._y = np.empty((most, *y.shape[1:]), y.dtype)
        self._encoded = y.ndim == 1 or y.shape[1] > 1  # else its transpose is what the loss takes
        self._targets = np.empty(most * n_out if self._encoded else 0, self.x.dtype)
        self._weight = None if weight is None else weight.astype(self.x.dtype)
        self._weights = np.empty(0 if weight is None else most, self.x.dtype)
        self._batches: dict[tuple[int, int], Batch] = {}

    def epoch(self, epoch: int, done: int = 0) -> Iterator[Batch]:
        """Yield the batches of this rank's own tickets, for those who take steps together."""
        self.begin(epoch)
        for step in range(done, self.steps):
            yield self.batch(step * self._sampler.size + self._rank)

    def begin(self, epoch: int) -> None:
        """Be in an epoch: its order is drawn."""
        start = time.perf_counter()
        self._epoch, self._drawn = epoch, self._sampler.drawn(epoch, self._rank)
        self.input_s += time.perf_counter() - start

    def batch(self, ticket: int) -> Batch:
        """Return the rows of a ticket; good until the next is asked for."""
        self.filled = start = time.perf_counter()
        step, part = divmod(ticket, self._sampler.size)
        joint = self._sampler.joint
        total = self._total[step]
        if (
            joint is not None
            and self._sampler.splits_step
            and (self._epoch, step) == (joint.epoch, self._sampler.joint_step)
        ):
            places, total = self._sampler.joint_rows(part), self._total[-1]
        else:
            places = self._sampler.part_of(self._drawn, step, part)
        numbers = self._rows[places]
        n = len(numbers)
        batch = self._batches.get((n, total)) or self._made(n, total)
        # mode clip writes straight into the buffer; the default takes a detour over a copy
        np.take(self.y, numbers, axis=0, out=self._y[:n], mode="clip")
        if self._weight is not None:
            np.take(self._weight, numbers, out=self._weights[:n], mode="clip")
        self.x.take(numbers, batch.x)
        if self._encoded:
            self._encode(batch.y, batch.target)
        self.input_s += time.perf_counter() - start
        return batch

    def close_epoch(self) -> dict[str, float]:
        """Return the seconds spent on copying rows since the last call."""
        seconds, self.input_s = self.input_s, 0.0
        return {"input_s": seconds}

    def _made(self, n: int, total: int) -> Batch:
        x, y = self._x[:n], self._y[:n]
        target = self._targets[: n * self._n_out].reshape(self._n_out, n) if self._encoded else y.T
        weight = None if self._weight is None else self._weights[:n]
        size = self._sampler.size
        batch = self._batches[n, total] = Batch(x, x.T, y, target, total, n * size == total, x, 0, 0, size, weight)
        return batch


Loader = BatchLoader | TicketLoader
