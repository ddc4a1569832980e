"""Mode ``sharded``: each rank sums, updates and hands out its slice, and has the optimizer's state of that alone."""

import math
import time
from typing import Any

import numpy as np
from mpi4py import MPI

from common.checksum import long_norm
from common.data.loader import Batch
from common.errors import NotFiniteError, ReplicasDivergedError
from common.flat import ASK_SAVE, ASK_STOP, N_SLOTS, Array, Flat, blocks, numbers
from common.step_times import ARRIVED, LEFT, MEASURED, NUMBER, UPDATED
from ps.comm.collectives import allgather
from ps.comm.topology import Topology
from ps.sync.halves import Halves, slices_of
from ps.sync.mode import CostFormula, Mode, rounds
from ps.sync.reducer import Reducer
from ps.sync.replica_check import WholeChecksum
from ps.sync.replicated import ReplicatedSync
from ps.sync.sharded_state import ShardedState
from ps.sync.slices import cache_blocks
from ps.sync.synchronizer import SyncSetup

LOSS_SUM, STOP, SAVE, WRONG, SQUARE, PRINT = range(6)
"""What ranks tell each other between the halves, as sums: of the losses, who asks to stop and to save, whose slice is
not finite, the squared norms of the slices, and two numbers that are 0 if all have the same parameters."""
N_NUMBERS = 8


class HalvedSum(Reducer):
    """Sums the gradient by both halves; the packet's status stays what it is."""

    def __init__(self, topology: Topology, packet: Array) -> None:
        super().__init__(topology.comm, packet)
        vector, size = packet[N_SLOTS:], topology.comm.size
        slices = slices_of(len(vector), size)
        mine, after = (slices[(topology.comm.rank + k) % size] for k in (0, 1))
        longest = max(s.stop - s.start for s in slices) if size > 1 else 0
        self._halves = Halves(topology.comm, vector, slices, np.empty(longest, packet.dtype))
        self.scatter, self.gather = self._halves.scatter, self._halves.gather
        self.own, self.slices = vector[mine], slices
        """This rank's slice of the sum, and by rank where it lies."""
        kept = vector[mine].nbytes + vector[after].nbytes
        self.sent_bytes = 2 * vector.nbytes - kept if size > 1 else 0

    @classmethod
    def make(cls, topology: Topology, packet: Array, *_: Any, **__: Any) -> "HalvedSum":
        """See Reducer."""
        return cls(topology, packet)

    def between_bytes(self, topology: Topology) -> int:
        """See Reducer."""
        rank, size = self.comm.rank, self.comm.size
        return self.sent_bytes if topology.leaders[(rank + 1) % size] != topology.leaders[rank] else 0

    def sum(self) -> None:
        """See Reducer."""
        self.scatter()
        self.gather()


class ShardedSync(ReplicatedSync):
    """Ranks sum a slice of the gradient each, update their slice of the parameters, and hand it to all others.

    ZeRO, stage 1 (Rajbhandari et al. 2020, arXiv 1910.02054): the bytes of a sum, whose two halves these are, and each
    rank has its part of the optimizer's state and of the update. Between the halves ranks add up a few numbers: so all
    know before the first update whether it may be made, and by how much it is clipped.
    """

    _reducer: HalvedSum

    def __init__(self, setup: SyncSetup) -> None:
        super().__init__(HalvedSum, setup)
        self._own_grad, slices = self._reducer.own, self._reducer.slices
        self._grads = blocks(self._own_grad)
        self._params = Halves(self.comm, self.flat.param_vector, slices)
        self.exchanged_bytes = self.flat.grad_vector.nbytes
        several = self.comm.size > 1
        self._whole = WholeChecksum(self.flat.param_vector, self.comm.rank, self.comm.size) if several else None
        self._gathers = 0
        self._told = np.zeros(N_NUMBERS)
        self._numbers = numbers(self._told)

    def _state(self, setup: SyncSetup, flat: Flat) -> ShardedState:
        slices = slices_of(flat.n, setup.topology.comm.size)
        of_ranks = [list(cache_blocks(s.start, s.stop)) for s in slices]
        own = [flat.param_vector[a:b] for a, b, _ in of_ranks[setup.topology.comm.rank]]
        return ShardedState(setup.topology, flat, setup.make_optimizer(setup.config, own), slices, of_ranks)

    def _make_checksum(self, steps: int) -> None:
        """All is checked in every step: what a rank has wrong in its slice, the others get in the next update."""

    def sent_in(self, steps: int) -> int:
        """See Synchronizer. A sampled step hands out sums as well, which takes half of what a step takes."""
        gathers, self._gathers = self._gathers, 0
        return super().sent_in(steps) + gathers * self.sent_bytes // 2

    def facts(self) -> dict[str, Any]:
        """See Synchronizer."""
        return {**super().facts(), "phases": 2}

    def step(self, batch: Batch, loss_sum: float, *, stop: bool, sample: bool, save: bool = False) -> int:
        """See Synchronizer."""
        told, meter = self._numbers, self.meter
        told[LOSS_SUM], told[STOP], told[SAVE] = loss_sum, stop, save
        if self._whole:
            told[PRINT], told[PRINT + 1] = self._whole.numbers()
        if sample:
            self._keep_own()
        arrived = time.perf_counter()
        self._reducer.scatter()
        norm = long_norm(self._own_grad)
        told[WRONG] = math.isnan(norm)
        told[SQUARE] = 0.0 if math.isnan(norm) else norm * norm
        self.comm.Allreduce(MPI.IN_PLACE, self._told)
        agreed = time.perf_counter()
        if told[PRINT] or told[PRINT + 1]:
            raise ReplicasDivergedError
        if told[WRONG] or not math.isfinite(told[LOSS_SUM]):
            raise NotFiniteError
        if sample:
            self._measure_whole(batch)
            meter.step_times.now[ARRIVED : LEFT + 1] = arrived, agreed
        if self.clip:
            self._clip_own(norm)
        update = self._optimizer.update
        for i, grad in enumerate(self._grads):
            update(i, grad)
        updated = time.perf_counter()
        self._params.gather()
        self._timer.add(arrived, time.perf_counter() - (updated - agreed))
        if sample:
            meter.step_times.now[UPDATED] = updated
            meter.step_times.now[NUMBER] = self._timer.steps - 1
        return (ASK_STOP if told[STOP] else 0) | (ASK_SAVE if told[SAVE] else 0)

    def _measure_whole(self, batch: Batch) -> None:
        """Compare this rank's gradient with the whole sum, of which a step has a slice only. Collective."""
        begin = time.perf_counter()
        self._reducer.gather()
        self._gathers += 1
        self._measure(batch)
        now = self.meter.step_times.now
        now[MEASURED] = time.perf_counter()
        self.meter.sampling_s += now[MEASURED] - begin

    def _clip_own(self, own: float) -> None:
        """Scale the slice down as the whole gradient must be. ``own``: the norm of the slice."""
        norm, most = math.sqrt(self._numbers[SQUARE]), self.clip * self._factor
        if not math.isfinite(norm):  # squares overflow before the norms do
            norm = math.hypot(*allgather(self.comm, own))
            if not math.isfinite(norm):
                raise NotFiniteError
        if norm > most:
            np.multiply(self._own_grad, most / norm, out=self._own_grad)


def sharded_terms(ranks: int, nodes: int) -> tuple[float, float]:  # noqa: ARG001
    """Two halves around a ring, and a sum of a few numbers between them."""
    return 2 * (ranks - 1) + rounds(ranks), 2 * (ranks - 1) / ranks


def between(nodes: int, elsewhere: int) -> tuple[float, float]:
    """Return messages and packets between nodes of equal size: each step of the ring crosses all links at once."""
    return sharded_terms(elsewhere + round(elsewhere / (nodes - 1)), nodes)


MODE = Mode(
    name="sharded",
    help="each rank updates its slice, with its part of the optimizer's state",
    build=ShardedSync,
    cost=CostFormula(
        sharded_terms, "(2 (P-1) + lg P) a + 2 (P-1)/P m b", between, "(2 (P-1) + lg P) A + 2 (P-1)/P m B"
    ),
    elastic=False,
    apart=False,
    divides_state=True,
)
