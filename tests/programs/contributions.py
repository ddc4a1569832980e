"""On every rank, in every mode: contributions and moments of a sampled step, against gradients computed apart."""

import numpy as np
from mpi4py import MPI

from common.config import RunConfig
from common.flat import Flat
from common.nn import models
from common.nn.functional import SoftmaxCrossEntropy
from common.nn.mlp import Mlp
from common.step_times import TIMESTAMPS
from ps.comm.topology import Topology
from ps.sync.modes import exact
from tests.assembly import assemble

comm = MPI.COMM_WORLD.Dup()
ROWS, FEATURES, CLASSES, BATCH = 61, 5, 3, 20  # batches and the last one divide unevenly by 3 and by 4
rng = np.random.default_rng(0)
x = np.concatenate([rng.standard_normal((ROWS, FEATURES)), np.ones((ROWS, 1))], axis=1)
y = rng.integers(0, CLASSES, ROWS)


def check(mode: str, ranks_per_node: int, clip: float) -> None:
    topology = Topology(comm, ranks_per_node)
    model = Mlp((FEATURES, 7, CLASSES), "tanh", SoftmaxCrossEntropy())
    config = RunConfig(optimizer="sgd", dtype="float64", batch_size=BATCH, clip=clip)
    sync, loader, counts = assemble(mode, topology, model, config, x, y, CLASSES)
    flat = Flat(model.shapes(), np.dtype("f8"))
    expected = {field: np.zeros((comm.size, len(flat.shapes))) for field in ("own_sq", "dot", "own_dot", "without_sq")}
    all_sq = plain_sq = trace = np.zeros(len(flat.shapes))
    sampled = (1, 3)  # the last batch has one row, so that only one rank has any
    for k, batch in enumerate(loader.epoch(1)):
        flat.param_vector[:] = sync.flat.param_vector
        comm.Barrier()  # before anyone changes the one copy
        if k in sampled:
            models.gradient(model, flat, batch.n).loss_grad(batch, 1 / max(batch.n, 1), None)
            means = np.empty((comm.size, flat.n))
            comm.Allgather(flat.grad_vector, means)
            weights = counts[:, k] / counts[:, k].sum()
            means[weights == 0] = 0
            g = weights @ means
            for i, s in enumerate(flat.slices.values()):
                own, whole = means[:, s], g[s]
                expected["own_sq"][:, i] += np.square(own).sum(axis=1)
                expected["dot"][:, i] += own @ whole
                expected["own_dot"][:, i] += weights * (own @ whole)
                for rank in range(comm.size):
                    rest = 1 - weights[rank]
                    apart = whole - (whole - weights[rank] * own[rank]) / rest if rest else np.full(1, np.inf)
                    expected["without_sq"][rank, i] += np.square(apart).sum()
            cut = list(flat.slices.values())
            all_sq = all_sq + [np.square(g[s]).sum() for s in cut]
            plain_sq = plain_sq + [np.square(means.sum(axis=0)[s]).sum() for s in cut]
            if (weights > 0).sum() > 1:
                spread = [(weights * (np.square(means[:, s]).sum(axis=1) - np.square(g[s]).sum())).sum() for s in cut]
                trace = trace + counts[:, k].sum() / ((weights > 0).sum() - 1) * np.array(spread)
        loss = sync.backward(batch, 0.1, sample=k in sampled)
        sync.step(batch, loss, stop=False, sample=k in sampled)
        if k in sampled:
            sync.meter.step_times.close_step(k)
    found = sync.meter.contributions.close_epoch()
    for field, values in expected.items():
        np.testing.assert_allclose(found[field], values[comm.rank], rtol=1e-9, atol=1e-15, err_msg=f"{mode} {field}")
    np.testing.assert_allclose(found["all_sq"], all_sq, rtol=1e-9, err_msg=mode)
    np.testing.assert_allclose(found["plain_sq"], plain_sq, rtol=1e-9, err_msg=mode)
    comm.Allreduce(MPI.IN_PLACE, found["noise"])
    np.testing.assert_allclose(found["noise"], trace, rtol=1e-9, err_msg=mode)
    steps, lines = sync.meter.step_times.close_epoch()
    moments = lines[:, TIMESTAMPS.index("forward") : TIMESTAMPS.index("updated") + 1]
    assert steps == list(sampled), steps
    assert (np.diff(moments, axis=1) >= 0).all(), f"{mode}: {moments}"
    assert sync.meter.reduce_s >= 0, sync.meter.reduce_s
    sync.close()
    topology.close()


for name in exact():
    for per_node in (0, 2):
        for largest in (0.0, 0.01):
            check(name, per_node, largest)
if comm.rank == 0:
    print("ok", comm.size)
