"""On every rank, in every mode: a steady step makes no array, a model of one's own trains, parameters are kept."""

import dataclasses
import tracemalloc
from typing import Any

import numpy as np
from mpi4py import MPI

from common.config import RunConfig
from common.data.sampler import RowSampler
from common.flat import Array, Views
from common.nn.functional import LogisticCrossEntropy, Loss, MeanSquaredError, SoftmaxCrossEntropy
from common.nn.mlp import Mlp
from ps.comm.topology import Topology
from ps.sync import factors
from ps.sync.modes import exact
from tests.assembly import assemble

comm = MPI.COMM_WORLD.Dup()
topology = Topology(comm)
pairs = Topology(comm, ranks_per_node=2)
rng = np.random.default_rng(0)
ROWS, FEATURES, STEPS = 40_000, 9, 3
LARGEST = 36_000
"""Bytes: NumPy broadcasts through a buffer of 8192 numbers. One number for each row of a rank takes more."""
x = np.concatenate([rng.standard_normal((ROWS, FEATURES)), np.ones((ROWS, 1))], axis=1)


class OwnModel:
    """y = x w by the four plain methods."""

    loss: Loss = MeanSquaredError()

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"w": (FEATURES, 2)}

    def init(self, params: Views, rng: np.random.Generator) -> None:
        params["w"][...] = 0

    def predict(self, params: Views, x: Array) -> Array:
        return x @ params["w"]

    def loss_grad(self, params: Views, x: Array, y: Array, grads: Views, ready: Any) -> float:
        error = self.predict(params, x) - y
        grads["w"][...] = x.T @ error
        ready("w")
        return float(np.vdot(error, error)) / 2


LOSSES: dict[str, tuple[Loss, Array, int]] = {
    "sgd": (SoftmaxCrossEntropy(), rng.integers(0, 3, ROWS), 3),
    "adam": (MeanSquaredError(), rng.standard_normal((ROWS, 2)).astype(np.float32), 2),
    "momentum": (LogisticCrossEntropy(), rng.integers(0, 2, ROWS), 1),
}


def check_allocation(mode: str, optimizer: str, activation: str) -> None:
    config = RunConfig(
        optimizer=optimizer, batch_size=0, learning_rate=0.01, clip=1.0 if optimizer == "momentum" else 0
    )
    loss, y, n_out = LOSSES[optimizer]
    model = Mlp((FEATURES, 20, 15, n_out), activation, loss)
    sync, loader, _ = assemble(mode, topology, model, config, x.astype(config.dtype), y, n_out)
    sampler = list(loader.epoch(1))

    def steps(count: int) -> None:
        for k in range(count):
            batch = sampler[k % len(sampler)]
            sync.step(batch, sync.backward(batch, 0.01, sample=False), stop=False, sample=False)

    steps(2 * len(sampler))
    comm.Barrier()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    steps(STEPS)
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert peak < LARGEST, f"{mode} {optimizer} {activation}: {peak} bytes"
    sync.close()


def check_kept(mode: str, topology: Topology) -> None:
    """Each rank remembers the parameters that it updates: all, or its slice; then no more."""
    loss, y, n_out = LOSSES["sgd"]
    model, config = Mlp((FEATURES, 20, 15, n_out), "relu", loss), RunConfig(batch_size=500)
    sync, loader, _ = assemble(mode, topology, model, config, x.astype(config.dtype), y, n_out)
    taken = []
    for _ in range(2):
        tracemalloc.start()
        sync.state.snapshot_best()
        taken.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
    own = sum(where.stop - where.start for where in sync.state.ranges) * sync.flat.dtype.itemsize
    total = np.array([taken[0], own])
    topology.local.Allreduce(MPI.IN_PLACE, total)
    node, kept = total.tolist()
    allowed = 4000 * topology.local.size  # what Python itself takes
    assert 0 <= node - kept < allowed, f"{mode}: {node} bytes"
    assert taken[1] < 2000, f"{mode}: {taken[1]} bytes again"
    before = sync.flat.param_vector.copy()
    batch = next(loader.epoch(1))
    sync.step(batch, sync.backward(batch, 0.05, sample=False), stop=False, sample=False)
    assert not np.array_equal(sync.flat.param_vector, before)
    comm.Barrier()
    sync.state.restore_best()
    np.testing.assert_array_equal(sync.flat.param_vector, before)
    comm.Barrier()
    sync.close()


def check_own_model(mode: str) -> None:
    y = rng.standard_normal((ROWS, 2))
    config = RunConfig(optimizer="sgd", batch_size=3700, dtype="float64", model="linear")
    sync, loader, _ = assemble(mode, topology, OwnModel(), config, x, y, 2)
    w = np.zeros((FEATURES, 2))
    order = dataclasses.replace(RowSampler(ROWS, 3700, 0, "shuffle", 1)).order(1, 0)
    for k, batch in enumerate(loader.epoch(1)):
        rows = order[k * 3700 : (k + 1) * 3700]
        w -= 0.05 * x[rows, :-1].T @ (x[rows, :-1] @ w - y[rows]) / len(rows)
        sync.step(batch, sync.backward(batch, 0.05, sample=k == 3), stop=False, sample=k == 3)
    np.testing.assert_allclose(sync.flat.params["w"], w, rtol=1e-10)
    sync.close()


factors.WORTH = float("inf")  # so that layers are formed from factors, however many rows there are
for mode in exact():
    check_allocation(mode, "sgd", "relu")
    check_allocation(mode, "adam", "gelu")
    check_allocation(mode, "momentum", "tanh")
    check_own_model(mode)
    check_kept(mode, topology)
    check_kept(mode, pairs)
check_allocation("local", "sgd", "relu")
check_allocation("local", "adam", "gelu")
check_allocation("local", "momentum", "tanh")
check_kept("local", topology)
pairs.close()
topology.close()
if comm.rank == 0:
    print("ok", comm.size)
