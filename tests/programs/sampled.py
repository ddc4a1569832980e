"""On every rank, in every mode: whatever steps are sampled, the parameters are the same to the last bit."""

import itertools

import numpy as np
from mpi4py import MPI

from common.config import RunConfig
from common.flat import Array
from common.nn.functional import SoftmaxCrossEntropy
from common.nn.mlp import Mlp
from ps.comm.topology import Topology
from ps.sync import factors
from ps.sync.modes import MODES, exact
from tests.assembly import assemble

comm = MPI.COMM_WORLD.Dup()
ROWS, FEATURES, CLASSES, BATCH = 203, 24, 3, 34
rng = np.random.default_rng(0)
x = np.concatenate([rng.standard_normal((ROWS, FEATURES)), np.ones((ROWS, 1))], axis=1).astype("f4")
y = rng.integers(0, CLASSES, ROWS)


def trained(mode: str, ranks_per_node: int, clip: float, sampled: range) -> Array:
    """Return the parameters after two epochs."""
    topology = Topology(comm, ranks_per_node)
    model = Mlp((FEATURES, 33, 40, CLASSES), "tanh", SoftmaxCrossEntropy())
    config = RunConfig(optimizer="adam", batch_size=BATCH, clip=clip)
    sync, loader, _ = assemble(mode, topology, model, config, x, y, CLASSES)
    for epoch in (1, 2):
        for k, batch in enumerate(loader.epoch(epoch)):
            loss = sync.backward(batch, 0.01, sample=k in sampled)
            sync.step(batch, loss, stop=False, sample=k in sampled)
    comm.Barrier()
    found = sync.flat.param_vector.copy()
    sync.close()
    topology.close()
    return found


factors.WORTH = float("inf")  # so that layers are formed from factors, however many rows there are
for mode, per_node, clip in itertools.product(exact(), (0, 2), (0.0, 0.05)):
    if per_node and MODES[mode].replicas:  # it sums over all ranks alike
        continue
    never, always, some = (trained(mode, per_node, clip, steps) for steps in (range(0), range(99), range(1, 99, 3)))
    assert np.array_equal(never, always), f"{mode}, {per_node} ranks a node, clip {clip}: all steps sampled"
    assert np.array_equal(never, some), f"{mode}, {per_node} ranks a node, clip {clip}: some steps sampled"
if comm.rank == 0:
    print("ok", comm.size)
