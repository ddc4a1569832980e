"""Mode ``shared``: one copy of the parameters a node; each rank sums and updates its own slices of them."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from mpi4py import MPI

from common.config import RunConfig
from common.data.loader import Batch
from common.errors import NotFiniteError, ReplicasDivergedError
from common.flat import ASK_SAVE, ASK_STOP, N_SLOTS, Array, Flat, blocks
from common.nn import optimizers
from common.nn.mlp import Mlp
from common.nn.models import Gradient, Model
from common.step_times import ARRIVED, LEFT, MEASURED, UPDATED
from ps.comm.agreement import together
from ps.comm.collectives import MAX_BYTES
from ps.comm.topology import Topology
from ps.metrics.contribution import PIECE, Part
from ps.metrics.sync_timer import SyncTimer
from ps.sync.checksum import check, is_finite, long_norm
from ps.sync.replica_check import NodeChecksum
from ps.sync.shared_memory import FlagBarrier, Windows
from ps.sync.slices import LINE, Block, Piece, Slice, cache_blocks, cut
from ps.sync.synchronizer import SynchronizerBase
from ps.sync.training_state import TrainingState

NOT_FINITE = 4


@dataclass(slots=True)
class Run:
    """What is kept with a batch: how this rank computes its gradient, and how it gets the sums of its blocks."""

    gradient: Gradient
    totals: list[Callable[[], Array]]


class SharedSync(SynchronizerBase):
    """Ranks keep their gradients where all ranks of the node can read them, and the parameters lie there once.

    A step: everyone writes its gradient; barrier; each rank sums its slices over all ranks in cache-sized blocks, and
    updates them in the parameters (the optimizer's state exists once a node); barrier. Between nodes, slice j is
    summed by the ranks that own it on each node, all slices at the same time.

    Where the update needs to know the whole gradient first (clipping, sampled steps, several nodes), sums stay in the
    owner's packet, and the update is a second phase.
    """

    def __init__(
        self, topology: Topology, model: Model | Mlp, config: RunConfig, timer: SyncTimer, counts: Array
    ) -> None:
        shapes, dtype = model.shapes(), np.dtype(config.dtype)
        n = sum(int(np.prod(shape)) for shape in shapes.values())
        self.topology = topology
        self.me = me = topology.local.rank
        self.windows = Windows(topology, (n + (0 if me else n + self.more_numbers())) * dtype.itemsize)
        self.barrier = FlagBarrier(self.windows)
        params = self.windows.allocate(n if me == 0 else 0, dtype)[0]
        packets = self.windows.allocate(N_SLOTS + n, dtype)
        super().__init__(topology, model, config, timer, counts, Flat(shapes, dtype, params, packets[me]))
        self.copies = topology.leaders
        self.grads = [packet[N_SLOTS:] for packet in packets]
        self.slices = self.deal()
        self.own = [(i, s) for i, s in enumerate(self.slices) if s.owner == me]
        self.between = self._connect()

        self.where = list(self.blocks(me))

        def allocate() -> tuple[list[Piece], optimizers.Optimizer]:
            room = np.empty(max((b - a for a, b, _ in self.where), default=0), dtype)
            pieces = [Piece(self.grads, me, a, b, room) for a, b, _ in self.where]
            return pieces, optimizers.build(config, [params[a:b].reshape(shape) for a, b, shape in self.where])

        self.pieces, self.optimizer = together(topology.comm, allocate)
        self.sums: list[Callable[[], Array]] = [piece.total for piece in self.pieces]
        self._open_notes()
        own = sum(s.stop - s.start for _, s in self.own)
        self.sent_bytes = ((n - own) + (own if self.between else 0)) * dtype.itemsize
        self._two_phases = bool(self.clip) or bool(self.between) or config.nonfinite == "skip"
        self._captured: dict[int, Array] = {}
        self._rotations = {
            j: NodeChecksum([params[s.start : s.stop] for _, s in self.own if s.number == j], counts.shape[1])
            for j in self.between
        }
        self._step = 0
        self._apart: list[int] = []
        self._parts: list[Part] = []
        self._plain = np.empty(0, dtype)
        self._changed = False

    def more_numbers(self) -> int:
        """Return what the node shares beside parameters and gradients."""
        return 0

    def deal(self) -> list[Slice]:
        """Return the slices of all ranks, in the order they are reduced in."""
        return cut(0, self.flat.n, LINE, self.topology.largest, self.topology.local.size)

    def blocks(self, owner: int) -> Iterator[Block]:
        """Yield the blocks of a local rank's slices."""
        for s in self.slices:
            if s.owner == owner:
                yield from cache_blocks(s)

    def _connect(self) -> dict[int, MPI.Comm]:
        """Return a communicator for each of this rank's slice numbers, with their owners on all nodes, if several."""
        if self.topology.count == 1:
            return {}
        mine = {s.number for _, s in self.own}
        comms = [
            self.comm.Split(0 if j in mine else MPI.UNDEFINED, self.comm.rank) for j in range(self.topology.largest)
        ]
        for j in mine:
            self.topology.on_free(comms[j].Free)
        return {j: comms[j] for j in sorted(mine)}

    def _open_notes(self) -> None:
        """Make room for what ranks tell each other in a step; two of each, used in turn: ranks may be a step apart.

        ``before`` is written before a step's first barrier, ``after`` before its last. ``norms``: one a slice.
        """
        size = self.topology.local.size
        notes = self.windows.allocate(4 * size if self.me == 0 else 0, np.dtype(np.uint8))[0]
        views = [notes[i * size : (i + 1) * size].data for i in range(4)]
        self._before, self._after = views[:2], views[2:]
        self._nothing = memoryview(bytes(size))
        self._parity = 0
        self.norms = self.windows.allocate(len(self.slices) if self.me == 0 else 0, np.dtype(np.float64))[0]

    def broadcast(self) -> None:
        """Send rank 0's parameters to the other nodes, whose leaders own slice 0 as it does."""
        if 0 in self.between:
            self.between[0].Bcast(self.flat.param_vector)
        self.barrier.wait()

    def prepare(self, batch: Batch, *, sample: bool) -> Run:  # noqa: ARG002
        """Return how this batch is run, made once."""
        if batch.run is None:
            batch.run = Run(self._gradient(batch.n), self.sums)
        run: Run = batch.run
        return run

    def backward(self, batch: Batch, lr: float, *, sample: bool) -> float:
        """See Synchronizer."""
        self._factor = self.optimizer.begin(lr)
        self._scale = self._factor / batch.total
        run = self.prepare(batch, sample=sample).gradient
        return self._timed_gradient(run, batch) if sample else run.loss_grad(batch, self._scale, None)

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
        # summing and updating is computing: what is left is the two barriers
        if after != self._nothing:
            raise NotFiniteError
        self.timer.add(arrived, time.perf_counter() - (done - met))
        self.reduce_s += done - met
        if sample:
            self.step_times.now[ARRIVED], self.step_times.now[UPDATED] = arrived, done
            self.step_times.number = self.timer.steps - 1
        return notes

    def restore_best(self) -> None:
        """See Synchronizer. When it returns, the other ranks' slices are back too."""
        super().restore_best()
        self.barrier.wait()

    def own_parameters(self) -> list[Array]:
        """Return this rank's slices of the parameters: a node remembers them once, like the optimizer's state."""
        return [self.flat.param_vector[a:b] for a, b, _ in self.where]

    def facts(self) -> dict[str, Any]:
        """See Synchronizer."""
        return {"phases": 2 if self._two_phases else 1, "factored": []}

    def not_finite(self, batch: Batch) -> list[str]:
        """See Synchronizer. Unless sums have taken its place, this rank's gradient is still where it wrote it."""
        return self._not_finite() if self._changed else super().not_finite(batch)

    def check_parameters(self) -> tuple[int, bool]:
        """See Synchronizer. Each rank of the node looks at its own slices. Collective."""
        found = [check(self.flat.param_vector[s.start : s.stop], s.start) for _, s in self.own]
        total = np.array([sum(part for part, _ in found) % 2**64], np.uint64)
        self.topology.local.Allreduce(MPI.IN_PLACE, total)
        return int(total[0]) >> 16, all(finite for _, finite in found)

    def seek(self, step: int) -> None:
        """See Synchronizer."""
        self._step = step

    def repair(self, odd_ranks: list[int]) -> None:
        """See Synchronizer. Between nodes, the owners of each slice repair each other's."""
        for number, comm in self.between.items():
            wrong = np.empty(comm.size, np.bool_)
            comm.Allgather(np.array([self.comm.rank in odd_ranks]), wrong)
            root = int(np.flatnonzero(~wrong)[0])
            for i, (a, b, _) in enumerate(self.where):
                if not any(s.number == number and s.start <= a < s.stop for _, s in self.own):
                    continue
                for vector in (self.flat.param_vector[a:b], *(parts[i] for parts in self.optimizer.state().values())):
                    comm.Bcast(vector.reshape(-1), root)
        self.barrier.wait()

    def capture(self) -> TrainingState | None:
        """See Synchronizer. What goes with the parameters lies with the ranks of rank 0's node, each its slices."""
        local, here = self.topology.local, self.topology.leaders[self.comm.rank] == 0
        state = {}
        for name, parts in self.vectors() if here else ():
            if self.me:
                for part in parts:  # blocks: none is near what one message may hold
                    local.Send(part.reshape(-1), 0)
                continue
            whole = state[name] = np.empty(self.flat.n, self.flat.dtype)
            for part, (a, b, _) in zip(parts, self.where, strict=True):
                whole[a:b] = part.reshape(-1)
            for rank in range(1, local.size):
                for a, b, _ in self.blocks(rank):
                    local.Recv(whole[a:b], rank)
        if self.comm.rank:
            return None
        return TrainingState(self.flat.param_vector.copy(), state, self.optimizer.counts())

    def load(self, state: TrainingState | None) -> None:
        """See Synchronizer."""
        if state is not None:
            np.copyto(self.flat.param_vector, state.params)
        self.broadcast()
        self._load_vectors(state, [slice(a, b) for a, b, _ in self.where])

    def close(self) -> None:
        """See Synchronizer."""
        self.topology.free()

    def _all_notes(self, notes: memoryview) -> int:
        """Return all ranks' notes in one, and keep which of this rank's slices nodes differ in."""
        together = int(np.bitwise_or.reduce(np.frombuffer(notes, np.uint8)))
        self._apart.clear()
        for j, comm in self.between.items():
            together, alike = self._rotations[j].exchange(comm, self._step, together)
            if not alike:
                self._apart.append(j)
        self._step += 1
        return together

    def _sum_and_update(self, totals: list[Callable[[], Array]]) -> bool:
        """Sum and update block by block; return False, and leave the rest, if a sum is not finite."""
        update = self.optimizer.update
        for i, total in enumerate(totals):
            grad = total()
            if not is_finite(grad):
                return False
            update(i, grad)
        return True

    def _sum_then_update(self, batch: Batch, totals: list[Callable[[], Array]], *, sample: bool) -> None:
        """Sum into this rank's packet, look at the whole, then update. Raises NotFiniteError on all ranks."""
        mine = self.grads[self.me]
        if sample:
            begin = time.perf_counter()
            self._capture()
            self.sampling_s += time.perf_counter() - begin
            self.reduce_s -= time.perf_counter() - begin  # which step adds with the rest
        for piece, total in zip(self.pieces, totals, strict=True):
            grad = total()
            if grad is not piece.own:
                np.copyto(piece.own, grad.reshape(-1))
        for i, s in self.own:
            for part in blocks(mine[s.start : s.stop], MAX_BYTES // mine.itemsize) if self.between else ():
                self.between[s.number].Allreduce(MPI.IN_PLACE, part)
            self.norms[i] = -1 if s.number in self._apart else long_norm(mine[s.start : s.stop])
        self.barrier.wait()
        if self.between and (self.norms < 0).any():
            raise ReplicasDivergedError
        norm = math.hypot(*self.norms)
        if not math.isfinite(norm):
            raise NotFiniteError
        if sample:
            step_times = self.step_times.now
            step_times[LEFT] = time.perf_counter()
            self._measure(batch)
            self.barrier.wait()
            step_times[MEASURED] = time.perf_counter()
            self.sampling_s += step_times[MEASURED] - step_times[LEFT]
            self.reduce_s -= step_times[MEASURED] - step_times[LEFT]  # which step adds with the rest
        most = self.clip * self._factor if self.clip else math.inf
        for i, piece in enumerate(self.pieces):
            if norm > most:
                np.multiply(piece.own, most / norm, out=piece.own)
            self.optimizer.update(i, piece.own.reshape(self.where[i][2]))

    def _capture(self) -> None:
        """Keep this rank's part of its own slices before the sums take their place."""
        if not self._captured:
            self._captured = {i: np.empty(s.stop - s.start, self.flat.dtype) for i, s in self.own}
            self._parts = list(self._pair())
        for i, s in self.own:
            np.copyto(self._captured[i], self.grads[self.me][s.start : s.stop])

    def _pair(self) -> Iterator[Part]:
        """Yield this rank's gradient beside the sums in their owners' packets, in the order of the vector."""
        mine, captured = self.grads[self.me], self._captured
        for i, where in enumerate(self.flat.slices.values()):
            for j, s in enumerate(self.slices):
                a, b = max(where.start, s.start), min(where.stop, s.stop)
                if a >= b:
                    continue
                own = captured[j][a - s.start : b - s.start] if j in captured else mine[a:b]
                pairs = zip(blocks(own, PIECE), blocks(self.grads[s.owner][a:b], PIECE), strict=True)
                yield from ((i, *pair) for pair in pairs)

    def _measure(self, batch: Batch) -> None:
        """Compare the two. Collective where ranks had unequal rows: S then takes a sum of its own."""
        self.meter.measure(self._parts, self._rows(batch), self._scale, self.comm.size if batch.equal else 0)
        if not batch.equal:
            if not len(self._plain):
                self._plain = np.empty(self.flat.n, self.flat.dtype)
            plain = np.concatenate([own for _, own, _ in self._parts], out=self._plain)
            np.multiply(plain, 1 / (self._scale * batch.n) if batch.n and self._scale else 0, out=plain)
            self.comm.Allreduce(MPI.IN_PLACE, plain)
            for i, where in enumerate(self.flat.slices.values()):
                self.meter.measure_plain((i, part) for part in blocks(plain[where], PIECE))
