"""Mode ``shared``: one copy of the parameters a node; each rank sums and updates its own slices of them."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.checksum import is_finite, long_norm
from common.data.loader import Batch
from common.data.row_table import RowTable
from common.errors import NotFiniteError, ReplicasDivergedError
from common.flat import ASK_SAVE, ASK_STOP, N_SLOTS, Array, Flat, blocks
from common.nn.models import Gradient
from common.step_times import ARRIVED, LEFT, MEASURED, NUMBER, UPDATED
from ps.comm.agreement import together
from ps.metrics.contribution import MEASURED_BLOCK, GradBlock
from ps.sync.mode import HALVING, CostFormula, Mode, halving, rounds
from ps.sync.node_sum import NodeWire, connect
from ps.sync.replica_check import NodeChecksum
from ps.sync.shared_memory import PAUSE_S, FlagBarrier, Windows
from ps.sync.shared_state import SharedState
from ps.sync.slices import Layout, SummedBlock, summed_layout
from ps.sync.sum_ways import Way, choose, possible
from ps.sync.synchronizer import Synchronizer, SyncSetup
from ps.sync.training_state import TrainingState
from ps.sync.wire import ALGORITHMS, make_wire

NOT_FINITE = 4
"""A note of a rank to the others in a step, besides ASK_STOP and ASK_SAVE."""


@dataclass(slots=True)
class Work:
    """How this rank computes the gradient of a batch, and how it gets the sums of its blocks."""

    gradient: Gradient
    totals: list[Callable[[], Array]]


class SharedSync(Synchronizer):
    """Ranks keep their gradients where all ranks of the node can read them, and the parameters lie there once.

    A step: everyone writes its gradient; barrier; each rank sums its slices over all ranks in cache-sized blocks, and
    updates them in the parameters (the optimizer's state exists once a node); barrier. Between nodes, slice j is
    summed by the ranks that own it on each node, all slices at the same time.

    Where the update needs to know the whole gradient first (clipping, sampled steps, several nodes), sums stay in the
    owner's packet, and the update is a second phase.
    """

    def __init__(self, setup: SyncSetup, layout: Layout) -> None:
        topology, config = setup.topology, setup.config
        shapes, dtype, n = setup.model.shapes(), np.dtype(config.dtype), layout.slices[-1].stop
        self.topology, self.layout, self.me = topology, layout, topology.local.rank
        self.windows = Windows(topology, (n + (0 if self.me else n + layout.more_numbers)) * dtype.itemsize)
        self.barrier = FlagBarrier(self.windows)
        self.own = [(i, s) for i, s in enumerate(layout.slices) if s.owner == self.me]
        params = self.windows.allocate_one(n, dtype, [slice(s.start, s.stop) for _, s in self.own])
        packets = self.windows.allocate(N_SLOTS + n, dtype)
        self.grads = [packet[N_SLOTS:] for packet in packets]
        self.between = connect(topology, {s.number for _, s in self.own})
        self.ranges = layout.blocks(self.me)

        def allocate() -> tuple[list[SummedBlock], TrainingState]:
            buffer = np.empty(max((b - a for a, b, _ in self.ranges), default=0), dtype)
            own_blocks = [SummedBlock(self.grads, self.me, a, b, buffer) for a, b, _ in self.ranges]
            optimizer = setup.make_optimizer(config, [params[a:b].reshape(shape) for a, b, shape in self.ranges])
            flat = Flat(shapes, dtype, params, packets[self.me])
            return own_blocks, SharedState(topology, flat, optimizer, layout, self.barrier, self.between)

        self.blocks, state = together(topology.comm, allocate)
        super().__init__(setup, state)
        self.sums: list[Callable[[], Array]] = [block.total for block in self.blocks]
        self._chosen = choose(
            topology,
            config.sum_algorithm,
            possible(topology, in_memory=True, apart=False, wanted=config.sum_algorithm),
            self._make_wire,
            kind=f"slices of {n * dtype.itemsize} bytes",
            n_bytes=n * dtype.itemsize,
            kept=setup.kept_way,
            tick=setup.tick,
        )
        self._wire = self._make_wire(self._chosen.way)
        written = (n - sum(b - a for a, b, _ in self.ranges)) * dtype.itemsize
        self.sent_bytes = self._wire.sent_bytes if topology.count > 1 else written
        self.exchanged_bytes = self.flat.grad_vector.nbytes
        self._two_phases = bool(self.clip) or bool(self.between) or config.nonfinite == "skip"
        self._checksums = {
            j: NodeChecksum([params[s.start : s.stop] for _, s in self.own if s.number == j], setup.counts.shape[1])
            for j in self.between
        }
        self._work: dict[Batch, Work] = {}
        self._captured: dict[int, Array] = {}
        self._sums_aside: dict[int, Array] = {}
        self._step = 0
        self._apart: list[int] = []
        self._changed = False
        self._parity = 0
        self._exchange_s = 0.0
        self._before, self._after, self._nothing = _notes(self.windows)
        self.norms = self.windows.allocate_one(len(layout.slices), np.dtype(np.float64))

    def facts(self) -> dict[str, Any]:
        """See Synchronizer."""
        chosen = self._chosen.facts() if self.between else None
        return {"phases": 2 if self._two_phases else 1, "factored": list(self.layout.factored), "sum": chosen}

    def _make_wire(self, way: Way, most_bytes: int = 0) -> NodeWire:
        return NodeWire(self.topology, self.layout, self.grads, self.between, self.barrier, way, make_wire, most_bytes)

    def recount(self, counts: RowTable) -> None:
        """See Synchronizer. Who updates what stays."""
        super().recount(counts)
        self._work.clear()

    def seek(self, step: int) -> None:
        """See Synchronizer."""
        self._step = step

    def prepare(self, batch: Batch, *, sample: bool) -> Work:  # noqa: ARG002
        """Return how this batch is computed and summed, made once."""
        work = self._work.get(batch)
        if work is None:
            work = self._work[batch] = Work(self._gradient(batch.n), self.sums)
        return work

    def backward(self, batch: Batch, lr: float, *, sample: bool) -> float:
        """See Synchronizer."""
        self._factor = self._optimizer.begin(lr)
        self._scale = self._factor / batch.total
        gradient = self.prepare(batch, sample=sample).gradient
        return self._timed_gradient(gradient, batch) if sample else gradient.loss_grad(batch, self._scale, None)

    def step(self, batch: Batch, loss_sum: float, *, stop: bool, sample: bool, save: bool = False) -> int:
        """See Synchronizer."""
        self._parity = parity = 1 - self._parity
        before, after = self._before[parity], self._after[parity]
        asked = (ASK_STOP if stop else 0) | (ASK_SAVE if save else 0)
        before[self.me] = asked | (0 if math.isfinite(loss_sum) else NOT_FINITE)
        after[self.me] = 0
        self._changed = False
        arrived = time.perf_counter()
        self.barrier.wait()
        met = time.perf_counter()
        notes = 0 if before == self._nothing and not self.between else self._all_notes(before)
        self._exchange_s = time.perf_counter() - met if self.between else 0.0
        if notes & NOT_FINITE:
            raise NotFiniteError
        totals = self.prepare(batch, sample=sample).totals
        if sample or self._two_phases:
            self._sum_then_update(batch, totals, sample=sample)
        else:
            self._changed = True
            if not self._sum_and_update(totals):
                after[self.me] = NOT_FINITE
        done = time.perf_counter()
        self.barrier.wait()
        # summing and updating is computing: what is left is the barriers at both ends, and messages to other nodes
        if after != self._nothing:
            raise NotFiniteError
        meter = self.meter
        computed = done - met - self._exchange_s
        self._timer.add(arrived, time.perf_counter() - computed)
        meter.reduce_s += computed
        if sample:
            meter.step_times.now[ARRIVED], meter.step_times.now[UPDATED] = arrived, done
            meter.step_times.now[NUMBER] = self._timer.steps - 1
        return notes

    def not_finite(self, batch: Batch) -> list[str]:
        """See Synchronizer. Unless sums have taken its place, this rank's gradient is still where it wrote it."""
        return self._not_finite() if self._changed else super().not_finite(batch)

    def close(self) -> None:
        """See Synchronizer."""
        self._wire.close()
        self.topology.free()

    def _all_notes(self, notes: memoryview) -> int:
        """Return all ranks' notes in one, and keep which of this rank's slices nodes differ in."""
        together = int(np.bitwise_or.reduce(np.frombuffer(notes, np.uint8)))
        self._apart.clear()
        for j, comm in self.between.items():
            together, alike = self._checksums[j].exchange(comm, self._step, together)
            if not alike:
                self._apart.append(j)
        self._step += 1
        return together

    def _sum_and_update(self, totals: list[Callable[[], Array]]) -> bool:
        """Sum and update block by block; return False, and leave the rest, if a sum is not finite."""
        update = self._optimizer.update
        for i, total in enumerate(totals):
            grad = total()
            if not is_finite(grad):
                return False
            update(i, grad)
        return True

    def _sum_then_update(self, batch: Batch, totals: list[Callable[[], Array]], *, sample: bool) -> None:
        """Sum into this rank's packet, look at the whole, then update. Raises StepError on all ranks."""
        mine, meter = self.grads[self.me], self.meter
        if sample:
            begin = time.perf_counter()
            self._keep_own()
            self._count_sampling(time.perf_counter() - begin)
        for block, total in zip(self.blocks, totals, strict=True):
            block.keep(total())
        begin = time.perf_counter()
        self._wire.sum()
        self._exchange_s += time.perf_counter() - begin
        for i, s in self.own:
            self.norms[i] = -1 if s.number in self._apart else long_norm(mine[s.start : s.stop])
        self.barrier.wait(PAUSE_S if self.between else 0.0)
        if self.between and (self.norms < 0).any():
            raise ReplicasDivergedError
        norm = math.hypot(*self.norms)
        if not math.isfinite(norm):
            raise NotFiniteError
        if sample:
            now = meter.step_times.now
            now[LEFT] = time.perf_counter()
            self._measure(batch)
            self.barrier.wait()
            now[MEASURED] = time.perf_counter()
            self._count_sampling(now[MEASURED] - now[LEFT])
        most = self.clip * self._factor if self.clip else math.inf
        for i, block in enumerate(self.blocks):
            if norm > most:
                np.multiply(block.own, most / norm, out=block.own)
            self._optimizer.update(i, block.own.reshape(self.ranges[i].shape))

    def _count_sampling(self, seconds: float) -> None:
        self.meter.sampling_s += seconds
        self.meter.reduce_s -= seconds  # which step adds with the rest

    def _keep_own(self) -> None:
        """Keep this rank's gradient of its own slices before the sums take their place."""
        if not self._captured:
            self._captured = {i: np.empty(s.stop - s.start, self.flat.dtype) for i, s in self.own}
            self._measured += self._pair()
        for i, s in self.own:
            np.copyto(self._captured[i], self.grads[self.me][s.start : s.stop])

    def _pair(self) -> Iterator[GradBlock]:
        """Yield this rank's gradient next to the sums in their owners' packets, in the order of the vector."""
        mine, captured = self.grads[self.me], self._captured
        for i, where in enumerate(self.flat.slices.values()):
            for j, s in enumerate(self.layout.slices):
                a, b = max(where.start, s.start), min(where.stop, s.stop)
                if a >= b:
                    continue
                own = captured[j][a - s.start : b - s.start] if j in captured else mine[a:b]
                sums = blocks(self.grads[s.owner][a:b], MEASURED_BLOCK)
                yield from ((i, *pair) for pair in zip(blocks(own, MEASURED_BLOCK), sums, strict=True))

    @contextmanager
    def _plain_sum(self, factor: float) -> Iterator[None]:
        """See Synchronizer. Each rank sums its slices, as in the step."""
        mine = self.grads[self.me]
        if not self._sums_aside:
            self._sums_aside = {i: np.empty_like(own) for i, own in self._captured.items()}
        self.barrier.wait()  # all have measured: sums may change
        for i, s in self.own:
            np.copyto(self._sums_aside[i], mine[s.start : s.stop])
            np.copyto(mine[s.start : s.stop], self._captured[i])
        np.multiply(mine, factor, out=mine)
        self.barrier.wait()
        for block in self.blocks:
            block.keep(block.total())
        self._wire.sum()
        self.barrier.wait(PAUSE_S if self.between else 0.0)
        yield
        self.barrier.wait()  # all have measured these
        for i, s in self.own:
            np.copyto(mine[s.start : s.stop], self._sums_aside[i])


def _notes(windows: Windows) -> tuple[list[memoryview], list[memoryview], memoryview]:
    """Return what ranks say to each other in a step: before the first barrier, before the last; and if nobody does.

    Two of each, used in turn, since ranks may be a step apart. (local ranks,) bytes each. Collective.
    """
    size = windows.local.size
    notes = windows.allocate_one(4 * size, np.dtype(np.uint8))
    views = [notes[i * size : (i + 1) * size].data for i in range(4)]
    return views[:2], views[2:], memoryview(bytes(size))


def build(setup: SyncSetup) -> SharedSync:
    """Make the mode. Collective; raises JobError."""
    return SharedSync(setup, summed_layout(setup.topology, setup.model.shapes()))


def shared_terms(ranks: int, nodes: int) -> tuple[float, float]:
    """Two barriers of lg L rounds and (L+1)/L m b of memory traffic, for L ranks a node; then slices between K nodes.

    These are Rabenseifner's of m/L bytes over K nodes, with the same a and b: 2 lg K a + 2 (K-1)/K m/L b.
    """
    local = -(-ranks // nodes)
    memory = (local + 1) / local if local > 1 else 0.0
    return 2 * rounds(local) + 2 * rounds(nodes), memory + 2 * (nodes - 1) / nodes / local


MODE = Mode(
    name="shared",
    help="one copy of the parameters a node, each rank updates its slice",
    build=build,
    cost=CostFormula(shared_terms, "2 (lg L + lg K) a + ((L+1)/L + 2 (K-1)/(K L)) m b", halving, HALVING),
    replicas=False,
    elastic=False,
    apart=False,
    in_place=True,
    algorithms=ALGORITHMS,
)
