"""On every rank: both halves of a sum against NumPy, bit by bit; and what mode ``sharded`` does between them."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
from mpi4py import MPI

from common.config import OPTIMIZERS, RunConfig
from common.errors import NotFiniteError
from common.flat import Array, Views
from common.nn.functional import MeanSquaredError
from common.nn.optimizers import RULES
from ps.comm.collectives import MAX_BYTES
from ps.comm.topology import Topology
from ps.sync.halves import Halves, slices_of
from ps.sync.sharded_state import ShardedState
from ps.sync.training_state import BEST
from tests.assembly import assemble

comm = MPI.COMM_WORLD.Dup()
rank, size = comm.rank, comm.size
topology = Topology(comm)


def check_halves(n: int, dtype: str, most_bytes: int) -> None:
    """Chunk i is added from rank i + 1 on around the ring. ``most_bytes``: of one message."""
    table = np.random.default_rng(n).standard_normal((size, n)).astype(dtype)
    vector, slices = table[rank].copy(), slices_of(n, size)
    longest = max(s.stop - s.start for s in slices)
    sums = Halves(comm, vector, slices, np.empty(longest, dtype), most_bytes)
    expected = np.empty(n, dtype)
    for owner, where in enumerate(slices):
        total = table[(owner + 1) % size, where].copy()
        for k in range(2, size + 1):
            total = total + table[(owner + k) % size, where]
        expected[where] = total
    sums.scatter()
    np.testing.assert_array_equal(vector[slices[rank]], expected[slices[rank]])
    for other, where in enumerate(slices):
        if other != rank:
            vector[where] = np.nan
    sums.gather()
    np.testing.assert_array_equal(vector, expected)


def check_state(optimizer: str) -> None:
    """The ranks' parts of the state make one whole, of whole cache lines each."""
    sync, _, _ = vector_mode(RunConfig(optimizer=optimizer, batch_size=size), 1.0, 1000)
    state = sync.state
    assert isinstance(state, ShardedState)
    found = np.array([state.optimizer_bytes()])
    comm.Allreduce(MPI.IN_PLACE, found)
    assert found[0] == len(RULES[optimizer].names) * sync.flat.param_vector.nbytes
    sync.close()


def vector_mode(config: RunConfig, value: float, n: int, mode: str = "sharded") -> Any:
    """Return a mode on a model that is one vector, whose gradient is ``value`` for each row."""

    def loss_grad(params: Views, x: Array, y: Array, grads: Views, ready: object) -> float:
        grads["v"].fill(len(x) * value)
        return 0.0

    model: Any = SimpleNamespace(loss=MeanSquaredError(), shapes=lambda: {"v": (n,)}, loss_grad=loss_grad)
    rows = np.ones((size, 2), config.dtype)
    return assemble(mode, topology, model, config, rows, rows[:, :1], 1, start=np.zeros(n))


def check_clip(value: float, dtype: str) -> None:
    """Squares that overflow do not hide the norm, which is the allowed one afterwards."""
    config = RunConfig(optimizer="sgd", batch_size=size, dtype=dtype, clip=1.0)
    sync, loader, _ = vector_mode(config, value, 1000)
    batch = next(loader.epoch(1))
    sync.step(batch, sync.backward(batch, 0.5, sample=False), stop=False, sample=False)
    np.testing.assert_allclose(sync.flat.param_vector, np.full(1000, -0.5 / math.sqrt(1000)), rtol=1e-6)
    sync.close()


def check_not_finite(where: int) -> None:
    """One number that is not finite, in whosever slice, is seen by all ranks before any parameter changes."""
    config = RunConfig(optimizer="adam", batch_size=size)
    sync, loader, _ = vector_mode(config, 1.0, 1000)
    batch = next(loader.epoch(1))
    loss = sync.backward(batch, 0.5, sample=False)
    if rank == size - 1:
        sync.flat.grad_vector[where] = np.inf
    try:
        sync.step(batch, loss, stop=False, sample=False)
        raise AssertionError("not noticed")
    except NotFiniteError:
        pass
    assert not sync.flat.param_vector.any()
    assert not any(block.any() for blocks in sync.state.optimizer.state().values() for block in blocks)
    sync.close()


def check_kept(mode: str, n: int) -> None:
    """All is saved and put back, though of few parameters some ranks, and rank 0 first, have an empty slice."""
    sync, loader, _ = vector_mode(RunConfig(optimizer="adam", batch_size=size), 1.0, n, mode)
    batch, state, params = next(loader.epoch(1)), sync.state, sync.flat.param_vector

    def step() -> Array:
        sync.step(batch, sync.backward(batch, 0.5, sample=False), stop=False, sample=False)
        comm.Barrier()
        found: Array = params.copy()
        comm.Barrier()
        return found

    best = step()
    state.snapshot_best()
    then = step()
    saved = state.capture()
    after = step()
    if saved is not None:
        np.testing.assert_array_equal(saved.vectors[BEST], best)
    state.load(saved)
    np.testing.assert_array_equal(params, then)
    np.testing.assert_array_equal(step(), after)
    state.restore_best()
    np.testing.assert_array_equal(params, best)
    comm.Barrier()
    sync.close()
    topology.free()


for n in (0, 1, 16, 17, 100, 1000, 4099):
    for dtype in ("float32", "float64"):
        for most_bytes in (MAX_BYTES, 256):
            check_halves(n, dtype, most_bytes)
for optimizer in OPTIMIZERS:
    check_state(optimizer)
with np.errstate(all="ignore"):
    check_clip(1.0, "float32")
    check_clip(1e19, "float32")
    check_clip(1e160, "float64")
    for where in (0, 500, 999):
        check_not_finite(where)
for mode in ("sharded", "shared", "allreduce"):
    check_kept(mode, 20)
    check_kept(mode, 1000)
topology.close()
if rank == 0:
    print("ok", size)
