"""Mode ``factors``: ranks of a node share layers' inputs and deltas, and each forms its rows of the gradient itself."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from common.data.loader import AHEAD_BYTES, Batch
from common.data.row_table import RowTable
from common.flat import Array, Flat
from common.nn.mlp import Backprop, Mlp
from ps.comm.topology import Topology
from ps.sync import shared
from ps.sync.mode import HALVING, CostFormula, Mode, halving
from ps.sync.shared import SharedSync, Work, shared_terms
from ps.sync.slices import LINE, Layout, Slice, cut, row_blocks
from ps.sync.synchronizer import Synchronizer, SyncSetup
from ps.sync.wire import ALGORITHMS

WORTH = 1.0
"""A layer's gradient is formed from factors if these have at most so many times its numbers (docs/modes.md)."""
PRODUCT = 1 << 21
"""Numbers of a gradient that one matrix product forms: less would pay for packing its factors again and again."""


@dataclass(frozen=True, slots=True)
class NodeRows:
    """Rows of each step, (steps,) each: of all ranks of this node, and of those before this rank.

    ``most``: of the node that has most in a step; it decides for all, since nodes must cut alike.
    """

    here: Array
    before: Array
    most: int

    @classmethod
    def of(cls, topology: Topology, counts: RowTable) -> "NodeRows":
        """``counts``: the rows of each rank in each step of an epoch."""
        nodes: dict[int, list[int]] = {}
        for rank, leader in enumerate(topology.leaders):
            nodes.setdefault(leader, []).append(rank)
        here = nodes[topology.leaders[topology.comm.rank]]
        return cls(counts.summed(here), counts.summed(here[: topology.local.rank]), counts.most(nodes.values()))


def factor_layout(topology: Topology, model: Mlp, rows: NodeRows) -> Layout:
    """Cut layers whose gradient is formed from factors by rows, the others by numbers."""
    shapes, (largest, size) = model.shapes(), (topology.largest, topology.local.size)
    where = Flat.layout(shapes)
    slices: list[Slice] = []
    factored = []
    for i, (w, b) in enumerate(model.layers):
        if i < len(model.layers) - 1 and pays(i, shapes[w], rows.most):
            n_out = shapes[w][1]
            factored.append(w)
            slices += cut(where[w].start, where[b].stop, n_out, largest, size, row_blocks(n_out, PRODUCT))
        else:
            slices += cut(where[w].start, where[b].stop, LINE, largest, size)
    factors = 2 * int(rows.here.max()) * sum(n + 1 for n in model.sizes[1:-1])
    return Layout(slices, tuple(factored), factors + AHEAD_BYTES // 4)


def pays(layer: int, shape: tuple[int, ...], rows: int) -> bool:  # noqa: ARG001
    """Say whether forming a layer's gradient from inputs and deltas takes less time than summing it."""
    n_in, n_out = shape
    return rows * (n_in + n_out) <= WORTH * n_in * n_out


def product(inputs_t: Array, deltas: Array, out: Array, seconds: list[float]) -> Callable[[], Array]:
    """Return what forms some rows of a layer's gradient over the whole batch of the node: input^T delta.

    ``inputs_t``: (rows of the gradient, batch); ``deltas``: (batch, n_out); ``out``: (rows, n_out). ``seconds``: one
    number, to which the time it takes is added.
    """

    def form() -> Array:
        begin = time.perf_counter()
        np.matmul(inputs_t, deltas, out=out)  # np.dot would copy what is not contiguous
        seconds[0] += time.perf_counter() - begin
        return out

    return form


class FactorSync(SharedSync):
    """Mode ``shared``, but the gradient of large layers is never summed, nor exists as a whole.

    Sufficient factors: Xie et al. 2015 (arXiv 1512.06216), Zhang et al. 2017, "Poseidon" (arXiv 1706.03292). The
    gradient of a dense layer over the node's batch is X^T D, with X the inputs and D the deltas of all its ranks. They
    lie in shared memory, and each rank forms its own rows of the product, whole, and updates with them at once. On
    sampled steps every rank forms its own gradient as well, to be measured; the update is that of any other step, to
    the last bit, for which steps are sampled depends on what sampling costs.
    """

    def __init__(self, setup: SyncSetup, model: Mlp) -> None:
        rows = NodeRows.of(setup.topology, setup.counts)
        super().__init__(setup, factor_layout(setup.topology, model, rows))
        self._place(rows)
        self._mlp, self._layers = model, model.layers
        self._forming_s = [0.0]
        self._backprops: dict[tuple[int, int], tuple[Backprop, Backprop]] = {}
        self._sampled_work: dict[Batch, Work] = {}
        self._features: Array | None = None
        most = int(rows.here.max())
        self._node_grows = setup.config.balance != "off" and setup.topology.count > 1
        if self._node_grows:  # to all rows of a step at most: memory that ranks share is taken once
            most = int(self.row_counts.total.max())
        shapes = [(most, n + 1) for n in model.sizes[1:-1]]
        self._inputs = [self._matrix(*shape) for shape in shapes]
        self._deltas = [self._matrix(*shape) for shape in shapes]

    def allocate_rows(self, rows: int, columns: int) -> Array:
        """See Synchronizer. All ranks of the node see it; the same again where they come to have other rows."""
        if self._features is None:
            room = rows
            if self._node_grows:  # a chunk of steps has at most so many bytes, or is one step
                in_step, whole = int(self.row_counts.total.max()), int(self.row_counts.total.sum())
                room = max(rows, in_step, min(whole, AHEAD_BYTES // (columns * self.flat.dtype.itemsize)))
            self._features = self._matrix(room, columns)
        return self._features[:rows]

    def recount(self, counts: RowTable) -> None:
        """See Synchronizer."""
        super().recount(counts)
        self._place(NodeRows.of(self.topology, counts))
        self._sampled_work.clear()
        self._backprops.clear()

    def _place(self, rows: NodeRows) -> None:
        self.row_counts = self.row_counts._replace(in_buffer=rows.here, offset=rows.before)

    def _matrix(self, rows: int, columns: int) -> Array:
        return self.windows.allocate_one(rows * columns, self.flat.dtype).reshape(rows, columns)

    def prepare(self, batch: Batch, *, sample: bool) -> Work:
        """Return how this batch is computed: by factors, and on sampled steps with this rank's gradient as well."""
        known = self._sampled_work if sample else self._work
        work = known.get(batch)
        if work is None:
            whole, lean = self._backprop(batch)
            work = known[batch] = Work(whole if sample else lean, self._products(batch))
        return work

    def step(self, batch: Batch, loss_sum: float, *, stop: bool, sample: bool, save: bool = False) -> int:
        """See Synchronizer. Forming a gradient is computing, as it is in backward."""
        self._forming_s[0] = 0.0
        asked = super().step(batch, loss_sum, stop=stop, sample=sample, save=save)
        self.meter.reduce_s -= self._forming_s[0]
        return asked

    def not_finite(self, batch: Batch) -> list[str]:
        """See Synchronizer. What this rank wrote is still there: gradients of some layers, factors of the others."""
        whole, _ = self._backprop(batch)
        if not self._changed:
            whole.loss_grad(batch, self._scale, None)
        for i, (w, _) in enumerate(self._layers):
            output = whole.outputs[i]
            if w in self.layout.factored and self._changed and output is not None:
                np.matmul(whole.inputs_t[i - 1] if i else batch.x_t, whole.delta_views[i], out=output)
        return self._not_finite()

    def _backprop(self, batch: Batch) -> tuple[Backprop, Backprop]:
        """Return forward and backward with all products, and without those formed from factors."""
        key = batch.n, batch.offset
        if key not in self._backprops:
            rows = slice(batch.offset, batch.offset + batch.n)
            every: list[Array | None] = [self.flat.joined(self.flat.grad_vector, w, b) for w, b in self._layers]
            rest = [None if w in self.layout.factored else out for out, (w, _) in zip(every, self._layers, strict=True)]
            memory = [a[rows] for a in self._inputs], [d[rows] for d in self._deltas]
            whole = Backprop(self._mlp, self.flat, batch.n, *memory, every)
            self._backprops[key] = whole, whole.with_outputs(rest)
        return self._backprops[key]

    def _products(self, batch: Batch) -> list[Callable[[], Array]]:
        """Return what forms each block: a product over the rows of all ranks, or their sum."""
        rows = len(batch.around)
        totals: list[Callable[[], Array]] = []
        for (start, _, shape), block in zip(self.ranges, self.blocks, strict=True):
            if len(shape) == 1:
                totals.append(block.total)
                continue
            layer = next(i for i, (_, b) in enumerate(self._layers) if start < self.flat.slices[b].stop)
            first = (start - self.flat.slices[self._layers[layer][0]].start) // shape[1]
            inputs = batch.around if layer == 0 else self._inputs[layer - 1][:rows]
            deltas = self._deltas[layer][:rows, : shape[1]]
            out = block.buffer.reshape(shape)
            totals.append(product(inputs.T[first : first + shape[0]], deltas, out, self._forming_s))
        return totals


def _build(setup: SyncSetup) -> Synchronizer:
    """Make the mode; a model of one's own, which hands out no factors, gets mode ``shared``."""
    return FactorSync(setup, setup.model) if isinstance(setup.model, Mlp) else shared.build(setup)


MODE = Mode(
    name="factors",
    help="as shared; large layers' gradients are formed from inputs and deltas",
    build=_build,
    cost=CostFormula(shared_terms, "as shared: a vector has no factors", halving, HALVING),
    replicas=False,
    elastic=False,
    apart=False,
    in_place=True,
    algorithms=ALGORITHMS,
)
