"""Modes that exchange the whole packet in every step, after which every rank updates all parameters."""

import math
import time

import numpy as np
from mpi4py import MPI

from common.config import RunConfig
from common.data.loader import Batch
from common.errors import NotFiniteError, ReplicasDivergedError
from common.flat import ASK_SAVE, ASK_STOP, BLOCK, N_SLOTS, Array, Flat, Slot, blocks
from common.nn import optimizers
from common.nn.mlp import Mlp
from common.nn.models import Gradient, Model
from common.step_times import ARRIVED, MEASURED, UPDATED
from ps.comm.agreement import together
from ps.comm.collectives import MAX_BYTES
from ps.comm.topology import Topology
from ps.metrics.contribution import PIECE, Part
from ps.metrics.sync_timer import SyncTimer
from ps.sync.checksum import check, is_finite, long_norm
from ps.sync.reducers import Reducer
from ps.sync.replica_check import RotatingChecksum, agree
from ps.sync.synchronizer import SynchronizerBase
from ps.sync.training_state import TrainingState

LOSS_SUM, STOP, SAVE = (
    int(Slot.LOSS_SUM),
    int(Slot.STOP),
    int(Slot.SAVE),
)  # an IntEnum as an index takes three times as long


class ReplicatedSync(SynchronizerBase):
    """Sums the packet over the ranks by a reducer in each step; every rank then applies the same update.

    What travels is the gradient of the sum of losses, already divided by the rows of all ranks, which each knows,
    and multiplied by what the optimizer asks for.
    """

    def __init__(
        self,
        kind: type[Reducer],
        topology: Topology,
        model: Model | Mlp,
        config: RunConfig,
        timer: SyncTimer,
        counts: Array,
    ) -> None:
        def allocate() -> tuple[Flat, optimizers.Optimizer]:
            flat = Flat(model.shapes(), np.dtype(config.dtype))
            return flat, optimizers.build(config, blocks(flat.param_vector))

        flat, self.optimizer = together(topology.comm, allocate)
        super().__init__(topology, model, config, timer, counts, flat)
        self._grads = blocks(flat.grad_vector)
        self._own = np.empty(0, flat.dtype)
        self._parts: list[Part] = []
        self._kind, self._watched = kind, config.init == "broadcast"
        self._left: list[Reducer] = []
        self._begin(topology.comm, counts)
        self._ready = self._tell if kind.early else None

    def _begin(self, comm: MPI.Intracomm, counts: Array) -> None:
        self.comm, self.counts, self.copies = comm, counts, list(range(comm.size))
        watched = comm.size > 1 and self._watched
        self._rotation = (
            RotatingChecksum(self.flat.param_vector, comm.rank, comm.size, counts.shape[1]) if watched else None
        )
        self._reducer = self._kind(comm, self.flat.packet)
        self.sent_bytes = self._reducer.sent_bytes

    @property
    def exchanges_in(self) -> MPI.Comm:
        """The communicator that steps are exchanged in."""
        return self._reducer.comm

    def rebind(self, comm: MPI.Intracomm, counts: Array) -> None:
        """Go on among other ranks with the same parameters and optimizer. Collective.

        What was under way in the old communicator, which must be revoked, is dropped, and so is what was measured.
        """
        self._left.append(self._reducer)  # MPI may still hold its receives, so their memory must stay
        self._begin(comm, counts)
        self.meter.close_epoch()
        self.step_times.close_epoch()
        self.sampling_s = self.reduce_s = 0.0

    def broadcast(self) -> None:
        """Send rank 0's parameters."""
        self.comm.Bcast(self.flat.param_vector)

    def backward(self, batch: Batch, lr: float, *, sample: bool) -> float:
        """See Synchronizer. On a sampled step nothing is sent early: the gradient is measured first."""
        self._factor = self.optimizer.begin(lr)
        self._scale = self._factor / batch.total
        run: Gradient = batch.run
        if run is None:
            run = batch.run = self._gradient(batch.n)
        return self._timed_gradient(run, batch) if sample else run.loss_grad(batch, self._scale, self._ready)

    def step(self, batch: Batch, loss_sum: float, *, stop: bool, sample: bool, save: bool = False) -> int:
        """See Synchronizer."""
        status = self.flat.status
        status[LOSS_SUM] = loss_sum
        status[STOP] = stop
        status[SAVE] = save
        if self._rotation:
            self._rotation.stamp(status)
        if sample:
            self._capture()
        arrived = time.perf_counter()
        self._reducer.sum()
        left = time.perf_counter()
        if self._rotation and not agree(status):
            raise ReplicasDivergedError
        if not math.isfinite(status[LOSS_SUM]):
            raise NotFiniteError
        for grad in self._grads:  # all before the first update: ranks can then look for what is wrong in their own
            if not is_finite(grad):
                raise NotFiniteError
        if sample:
            self._measure(batch)
            self.step_times.now[ARRIVED : MEASURED + 1] = arrived, left, time.perf_counter()
        if self.clip:
            self._clip()
        self.timer.add(arrived, left)
        update = self.optimizer.update
        for i, grad in enumerate(self._grads):
            update(i, grad)
        if sample:
            self.step_times.now[UPDATED] = time.perf_counter()
            self.step_times.number = self.timer.steps - 1
        return (ASK_STOP if status[STOP] else 0) | (ASK_SAVE if status[SAVE] else 0)

    def check_parameters(self) -> tuple[int, bool]:
        """See Synchronizer."""
        total, finite = check(self.flat.param_vector, 0)
        return total >> 16, finite

    def capture(self) -> TrainingState | None:
        """See Synchronizer."""
        if self.comm.rank:
            return None
        vectors = {name: np.concatenate(parts) for name, parts in self.vectors()}
        return TrainingState(self.flat.param_vector.copy(), vectors, self.optimizer.counts())

    def load(self, state: TrainingState | None) -> None:
        """See Synchronizer."""
        if state is not None:
            np.copyto(self.flat.param_vector, state.params)
        self.broadcast()
        starts = range(0, self.flat.n, BLOCK)
        self._load_vectors(state, [slice(start, start + BLOCK) for start in starts])

    def repair(self, odd_ranks: list[int]) -> None:
        """See Synchronizer."""
        root = next(rank for rank in range(self.comm.size) if rank not in odd_ranks)
        for vector in (self.flat.param_vector, *(part for parts in self.optimizer.state().values() for part in parts)):
            for piece in blocks(vector, MAX_BYTES // vector.itemsize):
                self.comm.Bcast(piece, root)

    def seek(self, step: int) -> None:
        """See Synchronizer."""
        if self._rotation:
            self._rotation.seek(step)

    def close(self) -> None:
        """See Synchronizer."""
        self._reducer.close()

    def _tell(self, start: int) -> None:
        begin = time.perf_counter()
        self._reducer.ready(N_SLOTS + start)
        self.reduce_s += time.perf_counter() - begin  # within backward, but no computing of this rank's gradient

    def _clip(self) -> None:
        """Scale the gradient down to the norm allowed."""
        norm, most = long_norm(self.flat.grad_vector), self.clip * self._factor
        if not math.isfinite(norm):
            raise NotFiniteError
        if norm > most:
            np.multiply(self.flat.grad_vector, most / norm, out=self.flat.grad_vector)

    def _capture(self) -> None:
        """Keep this rank's gradient before it is summed in place."""
        start = time.perf_counter()
        if not len(self._own):
            self._own = np.empty_like(self.flat.grad_vector)
            own, grad = self.flat.views(self._own), self.flat.grads
            for i, name in enumerate(self.flat.names):
                pairs = zip(*(blocks(views[name].reshape(-1), PIECE) for views in (own, grad)), strict=True)
                self._parts += [(i, *pair) for pair in pairs]
        np.copyto(self._own, self.flat.grad_vector)
        self.sampling_s += time.perf_counter() - start

    def _measure(self, batch: Batch) -> None:
        """Compare it with the sum. Collective where ranks had unequal rows: S then takes a sum of its own."""
        start = time.perf_counter()
        self.meter.measure(self._parts, self._rows(batch), self._scale, self.comm.size if batch.equal else 0)
        if not batch.equal:
            own = self._own
            np.multiply(own, 1 / (self._scale * batch.n) if batch.n and self._scale else 0, out=own)
            self.comm.Allreduce(MPI.IN_PLACE, own)
            self.meter.measure_plain((i, part) for i, part, _ in self._parts)
        self.sampling_s += time.perf_counter() - start
