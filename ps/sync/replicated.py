"""Modes that sum the whole packet in every step, after which every rank updates all parameters."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from mpi4py import MPI

from common.checksum import is_finite, long_norm
from common.data.loader import Batch
from common.data.row_table import RowTable
from common.errors import NotFiniteError, ReplicasDivergedError
from common.flat import ASK_SAVE, ASK_STOP, BLOCK, N_SLOTS, Flat, Slot, blocks
from common.nn.models import Gradient
from common.step_times import ARRIVED, MEASURED, NUMBER, UPDATED
from ps.comm.agreement import together
from ps.comm.topology import Topology
from ps.metrics.contribution import MEASURED_BLOCK
from ps.sync.reducer import Reducer
from ps.sync.replica_check import RotatingChecksum, agree
from ps.sync.synchronizer import Synchronizer, SyncSetup, own_rows
from ps.sync.training_state import TrainingState

# plain numbers: an IntEnum as an index takes three times as long
LOSS_SUM, STOP, SAVE = int(Slot.LOSS_SUM), int(Slot.STOP), int(Slot.SAVE)


class ReplicatedSync(Synchronizer):
    """Sums the packet over the ranks by a reducer in each step; every rank then applies the same update.

    What travels is the gradient of the sum of losses, already divided by the rows of all ranks, which each knows,
    and multiplied by what the optimizer asks for.
    """

    def __init__(self, kind: type[Reducer], setup: SyncSetup) -> None:
        comm, config = setup.topology.comm, setup.config
        shapes, dtype = setup.model.shapes(), np.dtype(config.dtype)
        n = N_SLOTS + sum(math.prod(shape) for shape in shapes.values())
        self._memory = kind.allocate(setup.topology, config, n, dtype)
        packet = None if self._memory is None else self._memory.packets[setup.topology.local.rank]

        super().__init__(setup, together(comm, lambda: self._state(setup, Flat(shapes, dtype, packet=packet))))
        self.exchanged_bytes = self.flat.packet.nbytes
        self._grads = blocks(self.flat.grad_vector)
        self._own = self._applied = np.empty(0, self.flat.dtype)
        self._work: dict[Batch, Gradient] = {}
        self._kind, self._checked, self._config = kind, config.init == "broadcast", config
        self._left: list[Reducer] = []
        self._reducer = self._join(setup.topology, setup.counts, setup.kept_way, setup.tick)
        self._ready = self._send_early if kind.early else None

    def _state(self, setup: SyncSetup, flat: Flat) -> TrainingState:
        """Return what is trained: every rank updates all of it."""
        ranges = [slice(start, min(start + BLOCK, flat.n)) for start in range(0, flat.n, BLOCK)]
        optimizer = setup.make_optimizer(setup.config, [flat.param_vector[where] for where in ranges])
        return TrainingState(setup.topology.comm, flat, optimizer, ranges)

    def _join(
        self, topology: Topology, counts: RowTable, kept: str, tick: Callable[[], object] = lambda: None
    ) -> Reducer:
        """Return what sums among these ranks; ``kept``: the way in which it was done before."""
        comm = topology.comm
        self.comm, self.row_counts, self._topology = comm, own_rows(counts, comm.rank), topology
        self._checksum = self._make_checksum(counts.shape[1]) if comm.size > 1 and self._checked else None
        reducer = self._kind.make(topology, self.flat.packet, self._config, self._memory, kept, tick, self.flat.shapes)
        before, self.state.error = self.state.error, reducer.error
        if before is not None and reducer.error is not None:
            np.copyto(reducer.error.now, before.now)  # as long as before: with --elastic each rank has one
        self.sent_bytes = reducer.sent_bytes if topology.count == 1 else reducer.between_bytes(topology)
        return reducer

    def _make_checksum(self, steps: int) -> RotatingChecksum | None:
        return RotatingChecksum(self.flat.param_vector, self.comm.rank, self.comm.size, steps)

    @property
    def exchanges_in(self) -> MPI.Comm:
        """The communicator that steps are exchanged in."""
        return self._reducer.comm

    def rebind(self, topology: Topology, counts: RowTable) -> None:
        """Continue among other ranks with the same parameters and optimizer. Collective.

        What was under way in the old communicator, which must be revoked, is dropped, and so is what was measured.
        """
        self._left.append(self._reducer)  # MPI may still hold its receives, so their memory must stay
        self._work.clear()
        self._gradients.clear()
        self.meter.rebind(topology)
        self.state.rebind(topology.comm)
        self._plain_sums = 0
        self._reducer = self._join(topology, counts, (self._reducer.facts() or {}).get("way", ""))

    def recount(self, counts: RowTable) -> None:
        """See Synchronizer."""
        super().recount(counts)
        self._work.clear()

    def backward(self, batch: Batch, lr: float, *, sample: bool) -> float:
        """See Synchronizer. On a sampled step nothing is sent early: the gradient is measured first."""
        self._factor = self._optimizer.begin(lr)
        self._scale = self._factor / batch.total
        gradient = self._work.get(batch)
        if gradient is None:
            gradient = self._work[batch] = self._gradient(batch.n)
        if sample:
            return self._timed_gradient(gradient, batch)
        return gradient.loss_grad(batch, self._scale, self._ready)

    def step(self, batch: Batch, loss_sum: float, *, stop: bool, sample: bool, save: bool = False) -> int:
        """See Synchronizer."""
        status, meter = self.flat.status, self.meter
        status[LOSS_SUM] = loss_sum
        status[STOP] = stop
        status[SAVE] = save
        if self._checksum:
            self._checksum.stamp(status)
        if sample:
            self._keep_own()
        arrived = time.perf_counter()
        self._reducer.sum()
        left = time.perf_counter()
        if self._checksum and not agree(status):
            raise ReplicasDivergedError
        if not math.isfinite(status[LOSS_SUM]):
            raise NotFiniteError
        for grad in self._grads:  # all before the first update: ranks can then look for what is wrong in their own
            if not is_finite(grad):
                raise NotFiniteError
        if sample:
            begin = time.perf_counter()
            self._measure(batch)
            measured = time.perf_counter()
            meter.sampling_s += measured - begin
            meter.step_times.now[ARRIVED : MEASURED + 1] = arrived, left, measured
        if self.clip:
            self._clip()
        self._reducer.accept()
        self._timer.add(arrived, left)
        update = self._optimizer.update
        for i, grad in enumerate(self._grads):
            update(i, grad)
        if sample:
            meter.step_times.now[UPDATED] = time.perf_counter()
            meter.step_times.now[NUMBER] = self._timer.steps - 1
        return (ASK_STOP if status[STOP] else 0) | (ASK_SAVE if status[SAVE] else 0)

    def seek(self, step: int) -> None:
        """See Synchronizer."""
        if self._checksum:
            self._checksum.seek(step)

    def sent_in(self, steps: int) -> int:
        """See Synchronizer. The sums that measure do not take a wire's short form."""
        plain, self._plain_sums = self._plain_sums, 0
        return round(self.sent_bytes * (steps + self._reducer.exact_ratio * plain))

    def facts(self) -> dict[str, Any]:
        """See Synchronizer."""
        return {**super().facts(), "sum": self._reducer.facts()}

    def close(self) -> None:
        """See Synchronizer."""
        self._reducer.close()
        if self._memory is not None:
            self._topology.free()

    def _send_early(self, start: int) -> None:
        begin = time.perf_counter()
        self._reducer.ready(N_SLOTS + start)
        self.meter.reduce_s += time.perf_counter() - begin  # within backward, but not computing this rank's gradient

    def _clip(self) -> None:
        """Scale the gradient down to the norm allowed."""
        norm, most = long_norm(self.flat.grad_vector), self.clip * self._factor
        if not math.isfinite(norm):
            raise NotFiniteError
        if norm > most:
            np.multiply(self.flat.grad_vector, most / norm, out=self.flat.grad_vector)

    def _measure(self, batch: Batch) -> None:
        """See Synchronizer. Where the step's sum is not exact, one that is takes its place meanwhile."""
        if not self._reducer.lossy:
            super()._measure(batch)
            return
        flat, status = self.flat, self.flat.status.tolist()
        if not len(self._applied):
            self._applied = np.empty_like(flat.grad_vector)
        np.copyto(self._applied, flat.grad_vector)
        np.copyto(flat.grad_vector, self._own)
        self._reducer.sum_exactly()
        self._plain_sums += 1
        super()._measure(batch)
        np.copyto(flat.grad_vector, self._applied)
        for i, value in enumerate(status):
            flat.status[i] = value

    @contextmanager
    def _plain_sum(self, factor: float) -> Iterator[None]:
        """See Synchronizer. The step's sums lie where this rank's gradient was meanwhile."""
        flat, status = self.flat, self.flat.status.tolist()
        for _, own, sums in self._measured:
            scaled = own * factor
            np.copyto(own, sums)
            np.copyto(sums, scaled)
        self._reducer.sum_exactly()
        yield
        np.copyto(flat.grad_vector, self._own)
        for i, value in enumerate(status):
            flat.status[i] = value

    def _keep_own(self) -> None:
        """Keep this rank's gradient before it is summed in place."""
        begin, flat = time.perf_counter(), self.flat
        if not len(self._own):
            self._own = np.empty_like(flat.grad_vector)
            for i, where in enumerate(flat.slices.values()):
                pairs = zip(*(blocks(v[where], MEASURED_BLOCK) for v in (self._own, flat.grad_vector)), strict=True)
                self._measured += [(i, *pair) for pair in pairs]
        np.copyto(self._own, flat.grad_vector)
        self.meter.sampling_s += time.perf_counter() - begin
