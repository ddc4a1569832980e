"""This rank's rows, copied ahead for many steps at a time into memory that the steps then only look at."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from common.flat import Array
from common.nn.functional import Loss

AHEAD_BYTES = 16 << 20
"""Features copied ahead: many steps of a small batch, whose copies cost a call each otherwise."""
Allocate = Callable[[int, int], Array]


@dataclass(slots=True, eq=False)
class Batch:
    """One step's rows of this rank; all views, made once.

    ``x``: (rows, n_in + 1), the last column ones; ``x_t``: its transpose; ``y``: the target as in the data;
    ``target``: (n_out, rows), as the loss takes it; ``total``: rows of all ranks in this step;
    ``equal``: whether each has as many; ``active``: how many ranks have any.
    ``around``: (node's rows, n_in + 1), the rows of all ranks of the node if they lie in shared memory, else ``x``;
    this rank's begin at ``offset``.
    Two are equal only if they are the same: synchronisers look up by it how they compute its gradient.
    """

    x: Array
    x_t: Array
    y: Array
    target: Array
    total: int
    equal: bool
    around: Array
    offset: int
    start: int
    active: int = 1
    n: int = field(init=False)
    """This rank's rows."""

    def __post_init__(self) -> None:
        self.n = len(self.x)


@dataclass(frozen=True, slots=True)
class RowCounts:
    """Rows of each step of an epoch, (steps,) each, the same in every epoch.

    ``own``: this rank's; ``total``: all ranks'; ``room``: those the memory holds together (``own``, or those of all
    ranks of the node), of which this rank's begin at ``offset``.
    """

    own: NDArray[np.int64]
    total: NDArray[np.int64]
    room: NDArray[np.int64]
    offset: NDArray[np.int64]
    equal: NDArray[np.bool_]
    """Whether all ranks have equally many."""
    active: NDArray[np.int64]
    """How many ranks have any."""


class BatchLoader:
    """Deals batches, epoch by epoch.

    ``rows``: (n, n_in + 1) features and ones, ``y``: the target. ``order(epoch)`` gives this rank's row numbers of all
    steps, one after the other; ``fixed`` says that it is the same in each epoch. ``allocate(rows, columns)`` gives the
    memory the features are copied to.
    """

    def __init__(
        self,
        rows: Array,
        y: Array,
        loss: Loss,
        n_out: int,
        plan: RowCounts,
        order: Callable[[int], NDArray[np.int64]],
        *,
        fixed: bool,
        allocate: Allocate,
    ) -> None:
        self.rows, self.y, self.loss, self.n_out = rows, y, loss, n_out
        self.order = order
        self.steps = len(plan.own)
        self.plan = plan
        self.input_s = 0.0
        self.filled = 0.0
        """When rows were last begun to be copied ahead, on the clock of ``time.perf_counter``."""
        widest = max(1, int(plan.room.max()) * (rows.shape[1] + n_out) * rows.itemsize)
        self.ahead = min(self.steps, max(1, AHEAD_BYTES // widest))
        firsts = range(0, self.steps, self.ahead)
        self.buffer = allocate(max(int(plan.room[f : f + self.ahead].sum()) for f in firsts), rows.shape[1])
        most = max(int(plan.own[f : f + self.ahead].sum()) for f in firsts)
        self.y_buffer = np.empty((most, *y.shape[1:]), y.dtype)
        self.encoded = y.ndim == 1 or y.shape[1] > 1  # one number a row is a row of targets as it lies
        self.targets = np.empty(most * n_out if self.encoded else 0, rows.dtype)
        self.together = bool((plan.room == plan.own).all())
        self.stays = fixed and self.ahead == self.steps
        self.ends, self.room_ends = (np.concatenate([[0], np.cumsum(n)]) for n in (plan.own, plan.room))
        self._batches: dict[tuple[int, ...], Batch] = {}
        self._now: Sequence[Batch] = ()

    def epoch(self, epoch: int, done: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch but the first ``done``; each is good until the next is asked for."""
        order = None
        for first in range(done // self.ahead * self.ahead, self.steps, self.ahead):
            if not (self.stays and self._now):
                self.filled = start = time.perf_counter()
                order = self.order(epoch) if order is None else order
                self._now = self._fill(order, first, min(first + self.ahead, self.steps))
                self.input_s += time.perf_counter() - start
            yield from self._now[max(0, done - first) :]

    def close_epoch(self) -> dict[str, float]:
        """Return the seconds spent on copying rows since the last call."""
        seconds, self.input_s = self.input_s, 0.0
        return {"input_s": seconds}

    def _fill(self, order: NDArray[np.int64], first: int, last: int) -> list[Batch]:
        numbers = order[self.ends[first] : self.ends[last]]
        batches = [self._batch(k, first) for k in range(first, last)]
        # mode clip writes straight into the buffer; the default takes a detour over a copy
        np.take(self.y, numbers, axis=0, out=self.y_buffer[: len(numbers)], mode="clip")
        if self.together:
            np.take(self.rows, numbers, axis=0, out=self.buffer[: len(numbers)], mode="clip")
        for batch in batches:
            if not self.together:
                np.take(self.rows, numbers[batch.start : batch.start + batch.n], axis=0, out=batch.x, mode="clip")
            if self.encoded:
                self.loss.encode(batch.y, batch.target)
        return batches

    def _batch(self, k: int, first: int) -> Batch:
        own, total, equal = int(self.plan.own[k]), int(self.plan.total[k]), bool(self.plan.equal[k])
        active = int(self.plan.active[k])
        start, room_start = int(self.ends[k] - self.ends[first]), int(self.room_ends[k] - self.room_ends[first])
        offset, room = int(self.plan.offset[k]), int(self.plan.room[k])
        key = (start, room_start, own, total, equal, active, offset, room)
        if key not in self._batches:
            around = self.buffer[room_start : room_start + room]
            x = around[offset : offset + own]
            y = self.y_buffer[start : start + own]
            places = self.targets[start * self.n_out : (start + own) * self.n_out]
            target = places.reshape(self.n_out, own) if self.encoded else y.T
            self._batches[key] = Batch(x, x.T, y, target, total, equal, around, offset, start, active=active)
        return self._batches[key]
