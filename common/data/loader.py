"""This rank's rows of each step, copied ahead for many steps at a time, so that a step only looks at views."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.data.features import Features, HeldFeatures
from common.flat import Array

AHEAD_BYTES = 16 << 20
"""Features copied ahead: many steps of a small batch, whose copies cost a call each otherwise."""


@dataclass(slots=True, eq=False)
class Batch:
    """One step's rows of this rank; all views, made once.

    ``x``: (rows, n_in + 1), the last column ones; ``x_t``: its transpose; ``y``: the target as in the data;
    ``target``: (n_out, rows), as the loss takes it; ``total``: rows of all ranks in this step;
    ``equal``: whether each has as many; ``active``: how many ranks have any.
    ``around``: (node's rows, n_in + 1), the rows of all ranks of the node if they lie in shared memory, else ``x``;
    this rank's begin at ``offset``. ``weight``: (rows,), what each counts; None: 1.
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
    weight: Array | None = None
    n: int = field(init=False)
    """This rank's rows."""

    def __post_init__(self) -> None:
        self.n = len(self.x)


class RowCounts(NamedTuple):
    """Rows of each step of an epoch, (steps,) each, the same in every epoch.

    ``own``: this rank's; ``total``: all ranks'; ``in_buffer``: those in the loader's buffer (``own``, or those of all
    ranks of the node if they share it), of which this rank's begin at ``offset``; ``equal``: whether all ranks have
    equally many; ``active``: how many ranks have any.
    """

    own: NDArray[np.int64]
    total: NDArray[np.int64]
    in_buffer: NDArray[np.int64]
    offset: NDArray[np.int64]
    equal: NDArray[np.bool_]
    active: NDArray[np.int64]


class BatchLoader:
    """Yields this rank's batches, epoch by epoch.

    ``x``: features of all rows, or (n, n_in + 1) features and ones; ``y``: the target; ``encode(y, out)`` writes
    targets as the loss takes them, (n_out, rows). ``order(epoch)``: this rank's row numbers of all steps, one after the
    other; ``fixed``: it is the same in each epoch. ``allocate(rows, columns)``: makes the buffer that these are copied
    to. ``joint``: an epoch, a step of it, and the row numbers that this rank takes in that step instead; their counts
    are the last ones. ``weight``: (n,), what each row counts, if not 1.
    """

    def __init__(
        self,
        x: Features | Array,
        y: Array,
        encode: Callable[[Array, Array], None],
        n_out: int,
        counts: RowCounts,
        order: Callable[[int], NDArray[np.int64]],
        *,
        fixed: bool,
        allocate: Callable[[int, int], Array],
        joint: tuple[int, int, NDArray[np.int64]] | None = None,
        weight: Array | None = None,
    ) -> None:
        self.joint = joint
        self.x = HeldFeatures(x) if isinstance(x, np.ndarray) else x
        self.y, self.encode, self.n_out = y, encode, n_out
        columns, dtype = self.x.shape[1] + 1, self.x.dtype
        self.counts, self.order = counts, order
        self.steps = len(counts.own) - (joint is not None)
        self.input_s = 0.0
        self.filled = 0.0
        """When rows were last begun to be copied ahead, on the clock of ``time.perf_counter``."""
        widest = max(1, int(counts.in_buffer.max()) * (columns + n_out) * dtype.itemsize)
        self.ahead = min(self.steps, max(1, AHEAD_BYTES // widest))
        firsts = [*range(0, self.steps, self.ahead), *([] if joint is None else [self.steps])]
        most, most_own = (
            max(int(n[first : first + self.ahead].sum()) for first in firsts) for n in (counts.in_buffer, counts.own)
        )
        self.buffer = allocate(most, columns)
        self.y_buffer = np.empty((most_own, *y.shape[1:]), y.dtype)
        self.encoded = y.ndim == 1 or y.shape[1] > 1  # else its transpose is what the loss takes
        self.targets = np.empty(most_own * n_out if self.encoded else 0, dtype)
        self.weight = None if weight is None else weight.astype(dtype)
        self.weights = np.empty(0 if weight is None else most_own, dtype)
        self.contiguous = bool((counts.in_buffer == counts.own).all())
        self.stays = fixed and self.ahead == self.steps
        self.ends, self.buffer_ends = (np.concatenate([[0], np.cumsum(n)]) for n in (counts.own, counts.in_buffer))
        self._batches: dict[tuple[int, ...], Batch] = {}
        self._chunks: dict[int, list[Batch]] = {}
        """By the first of the steps that are copied together."""
        self._current: Sequence[Batch] = ()

    def epoch(self, epoch: int, done: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch but the first ``done``; each is good until the next is asked for."""
        order = None
        if self.joint is not None and self.joint[:2] == (epoch, done):
            self.filled = start = time.perf_counter()
            batches = self._fill(self.joint[2], self.steps, self.steps + 1)
            self.input_s += time.perf_counter() - start
            self._current = ()  # the buffer holds other rows
            yield from batches
            done += 1
        for first in range(done // self.ahead * self.ahead, self.steps, self.ahead):
            if not (self.stays and self._current):
                self.filled = start = time.perf_counter()
                order = self.order(epoch) if order is None else order
                last = min(first + self.ahead, self.steps)
                self._current = self._fill(order[self.ends[first] : self.ends[last]], first, last)
                self.x.read_ahead(order[self.ends[last] : self.ends[min(last + self.ahead, self.steps)]])
                self.input_s += time.perf_counter() - start
            yield from self._current[max(0, done - first) :]

    def close_epoch(self) -> dict[str, float]:
        """Return the seconds spent on copying rows since the last call."""
        seconds, self.input_s = self.input_s, 0.0
        return {"input_s": seconds}

    def _fill(self, numbers: NDArray[np.int64], first: int, last: int) -> list[Batch]:
        batches = self._chunks.get(first)
        if batches is None:
            batches = self._chunks[first] = [self._batch(k, first) for k in range(first, last)]
        # mode clip writes straight into the buffer; the default takes a detour over a copy
        np.take(self.y, numbers, axis=0, out=self.y_buffer[: len(numbers)], mode="clip")
        if self.weight is not None:
            np.take(self.weight, numbers, out=self.weights[: len(numbers)], mode="clip")
        if self.contiguous:
            self.x.take(numbers, self.buffer[: len(numbers)])
        for batch in batches:
            if not self.contiguous:
                self.x.take(numbers[batch.start : batch.start + batch.n], batch.x)
            if self.encoded:
                self.encode(batch.y, batch.target)
        return batches

    def _batch(self, k: int, first: int) -> Batch:
        """Return the views of step ``k``, which is copied together with those from ``first`` on; made once."""
        own, total, in_buffer, offset, equal, active = (column[k].item() for column in self.counts)
        start, low = int(self.ends[k] - self.ends[first]), int(self.buffer_ends[k] - self.buffer_ends[first])
        key = start, low, own, total, in_buffer, offset, equal, active
        if key not in self._batches:
            around = self.buffer[low : low + in_buffer]
            x, y = around[offset : offset + own], self.y_buffer[start : start + own]
            encoded = self.targets[start * self.n_out : (start + own) * self.n_out]
            target = encoded.reshape(self.n_out, own) if self.encoded else y.T
            weight = None if self.weight is None else self.weights[start : start + own]
            self._batches[key] = Batch(x, x.T, y, target, total, equal, around, offset, start, active, weight)
        return self._batches[key]
