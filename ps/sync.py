"""When ranks exchange what: here, the whole packet in every step, after which every rank updates all parameters."""

import math
import time
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from mpi4py import MPI

from common import models, optim
from common.config import RunConfig
from common.errors import NotFiniteError, ReplicasDivergedError
from common.feed import Batch, Plan
from common.flat import ASK_SAVE, ASK_STOP, BLOCK, N_SLOTS, Array, Flat, Slot, blocks
from common.marks import ARRIVED, BACKWARD, FORWARD, MEASURED, UPDATED, Marks
from common.mlp import Mlp
from common.models import Gradient, Model
from ps.checks import check, is_finite, long_norm
from ps.contribution import PIECE, ContributionMeter, Part, Rows
from ps.guard import together
from ps.messages import bcast
from ps.nodes import Nodes
from ps.reduce import MAX_BYTES, Reducer
from ps.replicas import Rotation, agree
from ps.timing import SyncTimer

LOSS_SUM, STOP, SAVE = (
    int(Slot.LOSS_SUM),
    int(Slot.STOP),
    int(Slot.SAVE),
)  # an IntEnum as an index takes three times as long


KEPT = "kept"


@dataclass(slots=True)
class State:
    """Parameters and what goes with them, whole: (n,) vectors laid out like the parameters, and whole numbers.

    ``vectors``: the optimizer's by name, and ``kept``, the parameters that ``Synchronizer.keep`` remembers, if any.
    """

    params: Array
    vectors: dict[str, Array]
    counts: dict[str, int]


class Synchronizer(Protocol):
    """How a mode makes one training out of many: made once per run, with the memory training happens in."""

    flat: Flat
    optimizer: optim.Optimizer
    sampling_s: float
    """Seconds spent on measuring contributions in this epoch, apart from synchronising."""
    meter: ContributionMeter
    marks: Marks
    copies: list[int]
    """By rank: which rank's copy of the parameters it has; its own, or that of its node."""
    reduce_s: float
    """Seconds spent on summing and updating this rank's slices in this epoch, where that is not a call of MPI."""
    sent_bytes: int
    """Payload bytes this rank hands to MPI, or writes to memory for others, in one step."""

    def plan(self) -> Plan:
        """Say where the rows of each step lie."""

    def allocate_rows(self, rows: int, columns: int) -> Array:
        """Return memory for the features."""

    def broadcast(self) -> None:
        """Give every rank rank 0's parameters."""

    def backward(self, batch: Batch, lr: float, *, sample: bool) -> float:
        """Compute this rank's gradient; return its sum of losses."""

    def step(self, batch: Batch, loss_sum: float, *, stop: bool, sample: bool, save: bool = False) -> int:
        """Exchange and update; return what any rank asked for, as bits. Raises NotFiniteError on all ranks."""

    def not_finite(self, batch: Batch) -> list[str]:
        """Return the parameters whose gradient on this rank, in the step that has just failed, is not finite."""

    def check_parameters(self) -> tuple[int, bool]:
        """Return a 48-bit checksum of this rank's copy of the parameters, and whether those it updates are finite."""

    def keep(self) -> None:
        """Remember the parameters as they are now, in place of those remembered before."""

    def restore(self) -> None:
        """Put back what ``keep`` remembered. Collective."""

    def vectors(self) -> list[tuple[str, list[Array]]]:
        """Return this rank's blocks of what goes with the parameters, by name, the same on all ranks."""

    def capture(self) -> State | None:
        """Return a copy of the state of training at rank 0, None elsewhere. Collective."""

    def load(self, state: State | None) -> None:
        """Take a state up, which rank 0 has. Collective."""

    def withdraw(self) -> None:
        """Take back the beginning of a step that changed nothing."""

    def heal(self, odd: list[int]) -> None:
        """Give some ranks the parameters and the optimizer's state of the others. Collective."""

    def go_on_at(self, step: int) -> None:
        """Begin an epoch at a step of it."""

    def facts(self) -> dict[str, Any]:
        """Return what the log says of it: phases of an update, and layers whose gradient is formed from factors."""

    def close(self) -> None:
        """Give back what MPI holds; nothing may be under way. Collective."""


class OwnGradient:
    """What the modes share: this rank's own gradient, in memory the mode gives.

    ``counts``: (ranks, steps), the rows of each rank in each step of an epoch.
    """

    optimizer: optim.Optimizer

    def __init__(
        self, nodes: Nodes, model: Model | Mlp, config: RunConfig, timer: SyncTimer, counts: Array, flat: Flat
    ) -> None:
        self.counts = counts
        self.comm = nodes.comm
        self.model = model
        self.timer = timer
        self.flat = flat
        self.clip = config.clip
        self.meter = ContributionMeter([view.size for view in flat.p.values()])
        self.marks = Marks()
        self.copies = list(range(nodes.comm.size))
        self.sampling_s = self.reduce_s = 0.0
        self._factor, self._scale = 1.0, 1.0
        self._gradients: dict[int, Gradient] = {}
        self._kept: list[Array] = []

    def plan(self) -> Plan:
        """Keep this rank's rows to itself."""
        own = self.counts[self.comm.rank]
        return Plan(own, self.counts.sum(axis=0), own, np.zeros_like(own), (self.counts == own).all(axis=0),
                    (self.counts > 0).sum(axis=0))  # fmt: skip

    def allocate_rows(self, rows: int, columns: int) -> Array:
        """Return private memory."""
        return np.empty((rows, columns), self.flat.dtype)

    def not_finite(self, batch: Batch) -> list[str]:
        """See Synchronizer. The parameters have not changed, so the gradient can be had again."""
        self._gradient(batch.n).loss_grad(batch, self._scale, None)
        return self._not_finite()

    def _not_finite(self) -> list[str]:
        return [name for name, gradient in self.flat.g.items() if not np.isfinite(gradient).all()]

    def keep(self) -> None:
        """See Synchronizer. The memory is taken when it is first needed."""
        parts = self.own_parameters()
        if not self._kept:
            self._kept = [np.empty_like(part) for part in parts]
        for kept, part in zip(self._kept, parts, strict=True):
            np.copyto(kept, part)

    def restore(self) -> None:
        """See Synchronizer."""
        for kept, part in zip(self._kept, self.own_parameters(), strict=True):
            np.copyto(part, kept)

    def own_parameters(self) -> list[Array]:
        """Return views of the parameters that this rank updates, in the optimizer's blocks: all of them."""
        return blocks(self.flat.params)

    def facts(self) -> dict[str, Any]:
        """See Synchronizer."""
        return {"phases": 1, "factored": []}

    def withdraw(self) -> None:
        """See Synchronizer."""
        self.optimizer.withdraw()

    def go_on_at(self, step: int) -> None:
        """See Synchronizer."""

    def vectors(self) -> list[tuple[str, list[Array]]]:
        """See Synchronizer."""
        return [*sorted(self.optimizer.state().items()), *([(KEPT, self._kept)] if self._kept else [])]

    def _load_vectors(self, state: State | None, own: list[slice]) -> None:
        """Fill the blocks of ``vectors``, which lie at ``own`` in the whole vectors that rank 0 has. Collective."""
        if bcast(self.comm, state is not None and KEPT in state.vectors):
            self.keep()
        for name, parts in self.vectors():
            whole = np.empty(self.flat.n, self.flat.dtype) if state is None else state.vectors[name]
            for piece in blocks(whole, MAX_BYTES // whole.itemsize):
                self.comm.Bcast(piece)
            for part, where in zip(parts, own, strict=True):
                np.copyto(part, whole[where].reshape(part.shape))
        self.optimizer.restore(bcast(self.comm, None if state is None else state.counts))

    def _marked(self, run: Gradient, batch: Batch) -> float:
        """Compute the gradient with the clock between its halves."""
        marks = self.marks.now
        loss_sum = run.forward(batch, self._scale)
        marks[FORWARD] = time.perf_counter()
        run.backward(batch, None)
        marks[BACKWARD] = time.perf_counter()
        return loss_sum

    def _rows(self, batch: Batch) -> Rows:
        return Rows(batch.n, batch.total, batch.active)

    def _gradient(self, n: int) -> Gradient:
        if n not in self._gradients:
            self._gradients[n] = models.gradient(self.model, self.flat, n)
        return self._gradients[n]


class EveryStep(OwnGradient):
    """Sums the packet over the ranks by a reducer in each step; every rank then applies the same update.

    What travels is the gradient of the sum of losses, already divided by the rows of all ranks, which each knows,
    and multiplied by what the optimizer asks for.
    """

    def __init__(
        self, kind: type[Reducer], nodes: Nodes, model: Model | Mlp, config: RunConfig, timer: SyncTimer, counts: Array
    ) -> None:
        def allocate() -> tuple[Flat, optim.Optimizer]:
            flat = Flat(model.shapes(), np.dtype(config.dtype))
            return flat, optim.build(config, blocks(flat.params))

        flat, self.optimizer = together(nodes.comm, allocate)
        super().__init__(nodes, model, config, timer, counts, flat)
        self._grads = blocks(flat.grad)
        self._own = np.empty(0, flat.dtype)
        self._parts: list[Part] = []
        self._kind, self._watched = kind, config.init == "broadcast"
        self._left: list[Reducer] = []
        self._begin(nodes.comm, counts)
        self._ready = self._tell if kind.early else None

    def _begin(self, comm: MPI.Intracomm, counts: Array) -> None:
        self.comm, self.counts, self.copies = comm, counts, list(range(comm.size))
        watched = comm.size > 1 and self._watched
        self._rotation = Rotation(self.flat.params, comm.rank, comm.size, counts.shape[1]) if watched else None
        self._reducer = self._kind(comm, self.flat.packet)
        self.sent_bytes = self._reducer.sent_bytes

    @property
    def exchanges_in(self) -> MPI.Comm:
        """The communicator that steps are exchanged in."""
        return self._reducer.comm

    def move(self, comm: MPI.Intracomm, counts: Array) -> None:
        """Go on among other ranks with the same parameters and optimizer. Collective.

        What was under way in the old communicator, which must be revoked, is dropped, and so is what was measured.
        """
        self._left.append(self._reducer)  # MPI may still hold its receives, so their memory must stay
        self._begin(comm, counts)
        self.meter.close_epoch()
        self.marks.close_epoch()
        self.sampling_s = self.reduce_s = 0.0

    def broadcast(self) -> None:
        """Send rank 0's parameters."""
        self.comm.Bcast(self.flat.params)

    def backward(self, batch: Batch, lr: float, *, sample: bool) -> float:
        """See Synchronizer. On a sampled step nothing is sent early: the gradient is measured first."""
        self._factor = self.optimizer.begin(lr)
        self._scale = self._factor / batch.total
        run: Gradient = batch.run
        if run is None:
            run = batch.run = self._gradient(batch.n)
        return self._marked(run, batch) if sample else run.loss_grad(batch, self._scale, self._ready)

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
            self.marks.now[ARRIVED : MEASURED + 1] = arrived, left, time.perf_counter()
        if self.clip:
            self._clip()
        self.timer.add(arrived, left)
        update = self.optimizer.update
        for i, grad in enumerate(self._grads):
            update(i, grad)
        if sample:
            self.marks.now[UPDATED] = time.perf_counter()
            self.marks.number = self.timer.steps - 1
        return (ASK_STOP if status[STOP] else 0) | (ASK_SAVE if status[SAVE] else 0)

    def check_parameters(self) -> tuple[int, bool]:
        """See Synchronizer."""
        total, finite = check(self.flat.params, 0)
        return total >> 16, finite

    def capture(self) -> State | None:
        """See Synchronizer."""
        if self.comm.rank:
            return None
        vectors = {name: np.concatenate(parts) for name, parts in self.vectors()}
        return State(self.flat.params.copy(), vectors, self.optimizer.counts())

    def load(self, state: State | None) -> None:
        """See Synchronizer."""
        if state is not None:
            np.copyto(self.flat.params, state.params)
        self.broadcast()
        starts = range(0, self.flat.n, BLOCK)
        self._load_vectors(state, [slice(start, start + BLOCK) for start in starts])

    def heal(self, odd: list[int]) -> None:
        """See Synchronizer."""
        root = next(rank for rank in range(self.comm.size) if rank not in odd)
        for vector in (self.flat.params, *(part for parts in self.optimizer.state().values() for part in parts)):
            for piece in blocks(vector, MAX_BYTES // vector.itemsize):
                self.comm.Bcast(piece, root)

    def go_on_at(self, step: int) -> None:
        """See Synchronizer."""
        if self._rotation:
            self._rotation.go_on_at(step)

    def close(self) -> None:
        """See Synchronizer."""
        self._reducer.close()

    def _tell(self, start: int) -> None:
        begin = time.perf_counter()
        self._reducer.ready(N_SLOTS + start)
        self.reduce_s += time.perf_counter() - begin  # within backward, but no computing of this rank's gradient

    def _clip(self) -> None:
        """Scale the gradient down to the norm allowed."""
        norm, most = long_norm(self.flat.grad), self.clip * self._factor
        if not math.isfinite(norm):
            raise NotFiniteError
        if norm > most:
            np.multiply(self.flat.grad, most / norm, out=self.flat.grad)

    def _capture(self) -> None:
        """Keep this rank's gradient before it is summed in place."""
        start = time.perf_counter()
        if not len(self._own):
            self._own = np.empty_like(self.flat.grad)
            own, grad = self.flat.views(self._own), self.flat.g
            for i, name in enumerate(self.flat.names):
                pairs = zip(*(blocks(views[name].reshape(-1), PIECE) for views in (own, grad)), strict=True)
                self._parts += [(i, *pair) for pair in pairs]
        np.copyto(self._own, self.flat.grad)
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
