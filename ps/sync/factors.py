"""Mode ``factors``: ranks of a node share layers' inputs and deltas, and each forms its rows of the gradient itself."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from common.config import RunConfig
from common.data.loader import AHEAD_BYTES, Batch, RowCounts
from common.flat import Array
from common.nn.mlp import Backprop, Mlp
from common.nn.models import Model
from ps.comm.topology import Topology
from ps.metrics.sync_timer import SyncTimer
from ps.sync.shared import Run, SharedSync
from ps.sync.slices import LINE, Block, Slice, cache_blocks, cut
from ps.sync.synchronizer import Synchronizer

WORTH = 1.0
"""A layer's gradient is formed from factors if these have at most so many times its numbers (docs/modes.md)."""
PRODUCT = 1 << 21
"""Numbers of a gradient that one matrix product forms: less would pay for packing its factors again and again."""


class Product:
    """Some rows of a layer's gradient over the whole batch of the node: input^T delta."""

    def __init__(self, inputs_t: Array, deltas: Array, room: Array, spent: list[float]) -> None:
        """``inputs_t``: (rows of the gradient, batch); ``deltas``: (batch, n_out); ``room``: (rows, n_out).

        ``spent``: seconds of all products, one number.
        """
        self.inputs_t, self.deltas, self.room, self.spent = inputs_t, deltas, room, spent

    def total(self) -> Array:
        """Return the rows."""
        begin = time.perf_counter()
        np.matmul(self.inputs_t, self.deltas, out=self.room)  # np.dot would copy what does not lie in one piece
        self.spent[0] += time.perf_counter() - begin
        return self.room


class FactorSync(SharedSync):
    """Mode ``shared``, but the gradient of large layers is never summed, nor exists as a whole.

    Sufficient factors: Xie et al. 2015 (arXiv 1512.06216), Zhang et al. 2017, "Poseidon" (arXiv 1706.03292). The
    gradient of a dense layer over the node's batch is X^T D, with X the inputs and D the deltas of all its ranks. They
    lie in shared memory, and each rank forms its own rows of the product, whole, and updates with them at once. On
    sampled steps, where every rank needs its own gradient, the step is one of mode ``shared``.
    """

    model: Mlp

    def __init__(self, topology: Topology, model: Mlp, config: RunConfig, timer: SyncTimer, counts: Array) -> None:
        here = [
            rank for rank in range(topology.comm.size) if topology.leaders[rank] == topology.leaders[topology.comm.rank]
        ]
        self._room = counts[here].sum(axis=0)
        self._offset = counts[here[: topology.local.rank]].sum(axis=0)
        # the node with most rows decides for all: they must cut alike
        by_node = [
            counts[[r for r, other in enumerate(topology.leaders) if other == own]] for own in set(topology.leaders)
        ]
        self._rule_rows = max(int(node.sum(axis=0).max()) for node in by_node)
        self._factored: list[bool] = []
        self._forming_s = [0.0]
        self._passes: dict[tuple[int, int], tuple[Backprop, Backprop]] = {}
        self._layers = model.layers
        self._shapes = [(int(self._room.max()), n + 1) for n in model.sizes[1:-1]]
        super().__init__(topology, model, config, timer, counts)
        self._inputs = [self._matrix(*shape) for shape in self._shapes]
        self._deltas = [self._matrix(*shape) for shape in self._shapes]

    def _matrix(self, rows: int, columns: int) -> Array:
        """Return a matrix that all ranks of the node see. Collective."""
        return self.windows.allocate(rows * columns if self.me == 0 else 0, self.flat.dtype)[0].reshape(rows, columns)

    def deal(self) -> list[Slice]:
        """Cut factored layers by rows, the others by numbers."""
        largest, size = self.topology.largest, self.topology.local.size
        slices: list[Slice] = []
        for i, (w, b) in enumerate(self._layers):
            self._factored.append(i < len(self._layers) - 1 and self.pays(i))
            unit = self.flat.shapes[w][1] if self._factored[i] else LINE
            slices += cut(self.flat.slices[w].start, self.flat.slices[b].stop, unit, largest, size)
        return slices

    def pays(self, layer: int) -> bool:
        """Say whether forming a layer's gradient from factors takes less time than summing it."""
        n_in, n_out = self.flat.shapes[self._layers[layer][0]]
        return self._rule_rows * (n_in + n_out) <= WORTH * n_in * n_out

    def blocks(self, owner: int) -> Iterator[Block]:
        """Yield the blocks of a local rank's slices; those of factored layers are whole rows."""
        for i, s in enumerate(self.slices):
            if s.owner != owner:
                continue
            layer = i // self.topology.largest
            if not self._factored[layer]:
                yield from cache_blocks(s)
                continue
            n_out = self.flat.shapes[self._layers[layer][1]][0]
            step = max(1, PRODUCT // n_out) * n_out
            for a in range(s.start, s.stop, step):
                b = min(a + step, s.stop)
                yield a, b, ((b - a) // n_out, n_out)

    def plan(self) -> RowCounts:
        """Lay the rows of all ranks of the node side by side."""
        return replace(super().plan(), room=self._room, offset=self._offset)

    def allocate_rows(self, rows: int, columns: int) -> Array:
        """Return memory that all ranks of the node see. Collective."""
        return self._matrix(rows, columns)

    def prepare(self, batch: Batch, *, sample: bool) -> Run:
        """Return how this batch is run: by factors, or on sampled steps as in mode ``shared``."""
        if batch.run is None:
            whole, lean = self._pass(batch)
            batch.run = Run(lean, self._products(batch)), Run(whole, self.sums)
        runs: tuple[Run, Run] = batch.run
        return runs[sample]

    def step(self, batch: Batch, loss_sum: float, *, stop: bool, sample: bool, save: bool = False) -> int:
        """See Synchronizer. Forming a gradient is computing, as it is in backward."""
        self._forming_s[0] = 0.0
        asked = super().step(batch, loss_sum, stop=stop, sample=sample, save=save)
        self.reduce_s -= self._forming_s[0]
        return asked

    def facts(self) -> dict[str, Any]:
        """See Synchronizer."""
        names = [w for (w, _), factored in zip(self._layers, self._factored, strict=True) if factored]
        return {**super().facts(), "factored": names}

    def more_numbers(self) -> int:
        """Return inputs and deltas of the hidden layers, and rows that are copied ahead."""
        return 2 * sum(rows * columns for rows, columns in self._shapes) + AHEAD_BYTES // 4

    def not_finite(self, batch: Batch) -> list[str]:
        """See Synchronizer. What this rank wrote is still there: gradients of some layers, factors of the others."""
        whole, _ = self._pass(batch)
        if not self._changed:
            whole.loss_grad(batch, self._scale, None)
        for i, factored in enumerate(self._factored):
            output = whole.outputs[i]
            if factored and self._changed and output is not None:
                np.matmul(whole.inputs_t[i - 1] if i else batch.x_t, whole.delta_views[i], out=output)
        return self._not_finite()

    def _pass(self, batch: Batch) -> tuple[Backprop, Backprop]:
        """Return forward and backward with all products, and without those formed from factors."""
        key = batch.n, batch.offset
        if key not in self._passes:
            rows = slice(batch.offset, batch.offset + batch.n)
            every: list[Array | None] = [self.flat.joined(self.flat.grad_vector, w, b) for w, b in self._layers]
            rest = [None if factored else out for out, factored in zip(every, self._factored, strict=True)]
            memory = (lambda i: self._inputs[i][rows]), (lambda i: self._deltas[i][rows])
            whole, lean = (Backprop(self.model, self.flat, batch.n, *memory, outputs) for outputs in (every, rest))
            self._passes[key] = whole, lean
        return self._passes[key]

    def _products(self, batch: Batch) -> list[Callable[[], Array]]:
        """Return what forms each block: a product over the rows of all ranks, or their sum."""
        rows = len(batch.around)
        totals: list[Callable[[], Array]] = []
        for (start, _, shape), piece in zip(self.where, self.pieces, strict=True):
            if len(shape) == 1:
                totals.append(piece.total)
                continue
            layer = next(i for i, (_, b) in enumerate(self._layers) if start < self.flat.slices[b].stop)
            first = (start - self.flat.slices[self._layers[layer][0]].start) // shape[1]
            inputs = batch.around if layer == 0 else self._inputs[layer - 1][:rows]
            deltas = self._deltas[layer][:rows, : shape[1]]
            room = piece.room.reshape(shape)
            totals.append(Product(inputs.T[first : first + shape[0]], deltas, room, self._forming_s).total)
        return totals


def factors(topology: Topology, model: Model | Mlp, config: RunConfig, timer: SyncTimer, counts: Array) -> Synchronizer:
    """Make the mode; a model of one's own, which hands out no factors, gets mode ``shared``."""
    if isinstance(model, Mlp):
        return FactorSync(topology, model, config, timer, counts)
    return SharedSync(topology, model, config, timer, counts)
