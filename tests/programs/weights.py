"""On every rank: a row of weight k trains as k rows do, in every mode, however rows are dealt; started with mpirun."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from mpi4py import MPI

from common.config import RunConfig
from common.data.dataset import Dataset, Raw, check
from common.data.training_features import scale_alone
from common.errors import NotFiniteError
from common.flat import Array
from common.rank_status import RankStatus
from ps.comm.topology import Topology
from ps.sync import factors
from ps.sync.modes import exact
from workers.training.build import assemble
from workers.training.task import Task, new_model, scale_target

comm = MPI.COMM_WORLD.Dup()
alone = Topology(MPI.COMM_SELF.Dup())
together, pairs = Topology(comm), Topology(comm, ranks_per_node=2)
rng = np.random.default_rng(3)
N, BROKEN, RATE, RTOL = 61, 3, 0.1, 1e-10
X = rng.standard_normal((N, 4))
Z = X @ rng.standard_normal((4, 3)) + 0.3 * rng.standard_normal((N, 3))
WHOLE_WEIGHT = rng.integers(0, 4, N)
WEIGHT = np.where(WHOLE_WEIGHT > 0, rng.uniform(0.1, 3, N), 0)
WHOLE = RunConfig(
    dtype="float64", hidden=(8,), optimizer="momentum", batch_size=0, clip=0.05, weight_decay=0.01, test_fraction=0,
    validation_fraction=0, nonfinite="skip",
)  # fmt: skip
TASKS: dict[str, tuple[Array, dict[str, Any]]] = {
    "classes": (Z.argmax(axis=1) * 5 + 1, {}),
    "balanced": (Z.argmax(axis=1), {"class_weight": "balanced"}),
    "two": ((Z[:, 0] > 0).astype(int), {"model": "logistic"}),
    "numbers": (1e4 + Z[:, :2] * [1.0, 50.0], {}),
    "labels": ((Z > 0).astype(int), {}),
    "own model": (Z.argmax(axis=1), {"model": "tests.weighted_model:WeightedNet"}),
}


def task_of(config: RunConfig, y: Array, rows: Array, weight: Array | None) -> Task:
    """Return what is trained on some rows; each rank makes all of it."""
    data: Dataset = check(Raw("data", X[rows], y[rows], weight=weight), config)
    scale_alone(data, config.dtype, standardize=True)
    status = RankStatus()
    model = scale_target(alone.comm, config, data, new_model(config, data), status)
    status.close()
    return Task(config, data, model)


def train(
    mode: str, topology: Topology, task: Task, *, epochs: int = 1, shares: tuple[float, ...] = (), broken: bool = False
) -> tuple[Array, list[float]]:
    """Return the parameters, and each epoch's loss of all ranks together; in a broken step a rank has NaN."""
    parts, losses, rank = assemble(mode, topology, task, shares), list[float](), topology.comm.rank
    for epoch in range(1, epochs + 1):
        parts.sync.meter.timer.resize(parts.loader.steps)
        total = np.zeros(2)
        for k, batch in enumerate(parts.loader.epoch(epoch)):
            is_broken = broken and epoch == epochs and k == BROKEN
            if is_broken and topology is alone:
                continue
            if is_broken and topology.comm.allreduce(rank if batch.n else -1, MPI.MAX) == rank:
                batch.x[0, 0] = np.nan
            try:
                with np.errstate(all="ignore"):
                    loss = parts.sync.backward(batch, RATE, sample=False)
                    parts.sync.step(batch, loss, stop=False, sample=False)
            except NotFiniteError:
                parts.sync.state.optimizer.undo_begin()
            else:
                assert not is_broken
                total += loss, batch.n if batch.weight is None else batch.weight.sum()
        topology.comm.Allreduce(MPI.IN_PLACE, total)
        losses.append(total[0] / total[1])
    found = parts.sync.flat.param_vector.copy()
    topology.comm.Barrier()
    parts.sync.close()
    topology.free()
    return found, losses


def same(what: object, found: tuple[Array, list[float]], expected: tuple[Array, list[float]]) -> None:
    """``what``: for the message."""
    for one, other in ((found[0], expected[0]), (np.array(found[1]), np.array(expected[1]))):
        np.testing.assert_allclose(one, other, rtol=RTOL, atol=RTOL / 1e3, err_msg=f"{what} on {comm.size}")


def uneven() -> tuple[float, ...]:
    """Return shares of which the largest is four times the smallest."""
    return tuple((1 + 3 * np.arange(comm.size) / max(1, comm.size - 1)).tolist())


def in_every_mode() -> Iterable[tuple[str, Topology]]:
    yield from ((mode, together) for mode in exact())
    yield from ((mode, pairs) for mode in ("shared", "factors") if comm.size in (3, 4))


factors.WORTH = float("inf")  # so that layers are formed from factors, however many rows there are
rows = np.arange(N)
for name, (y, options) in TASKS.items():
    config = replace(WHOLE, **options)
    repeated = task_of(config, y, np.repeat(rows, WHOLE_WEIGHT), None)
    weighted = task_of(config, y, rows, WHOLE_WEIGHT)
    oracle = train("allreduce", alone, repeated, epochs=4)
    for mode, topology in in_every_mode():
        same((name, mode, "k rows"), train(mode, topology, weighted, epochs=4), oracle)

for name, how in (("numbers", "shuffle"), ("balanced", "shard")):
    y, options = TASKS[name]
    config = replace(WHOLE, rows=how, batch_size=7, **options)
    task = task_of(config, y, rows, WEIGHT)
    used = np.flatnonzero(WEIGHT)
    without = task_of(config, y, used, WEIGHT[used])
    oracle = train("allreduce", alone, task, broken=True)
    for mode, topology in in_every_mode():
        same((name, mode, "batches"), train(mode, topology, task, broken=True), oracle)
        found = train(mode, topology, task, shares=uneven(), broken=True)
        same((name, mode, "shares"), found, oracle)
        left_out = train(mode, topology, without, shares=uneven(), broken=True)
        assert found[0].tobytes() == left_out[0].tobytes(), (name, mode, "weight 0")
pairs.close()
together.close()
if comm.rank == 0:
    print("ok", comm.size)
