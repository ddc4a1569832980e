"""On every rank, in every mode: a step that is left out, be it sampled or not, leaves nothing behind."""

import numpy as np
from mpi4py import MPI

from common.config import OPTIMIZERS, RunConfig
from common.errors import NotFiniteError
from common.nn.functional import SoftmaxCrossEntropy
from common.nn.mlp import Mlp
from ps.comm.topology import Topology
from ps.sync.modes import exact
from tests.assembly import assemble

comm = MPI.COMM_WORLD.Dup()
ROWS, FEATURES, CLASSES, BATCH = 50, 5, 3, 10
SAMPLED = 3
rng = np.random.default_rng(0)
good = np.concatenate([rng.standard_normal((ROWS, FEATURES)), np.ones((ROWS, 1))], axis=1)
y = rng.integers(0, CLASSES, ROWS)


def train(mode: str, optimizer: str, broken: set[int], left_out: set[int]) -> tuple[np.ndarray, int]:
    """Return the parameters after an epoch and how many steps were left out, all ranks of one mind."""
    topology = Topology(comm)
    model = Mlp((FEATURES, 6, CLASSES), "relu", SoftmaxCrossEntropy())
    config = RunConfig(optimizer=optimizer, batch_size=BATCH, dtype="float64", nonfinite="skip", learning_rate=0.01)
    sync, loader, _ = assemble(mode, topology, model, config, good.copy(), y, CLASSES)
    skipped = 0
    with np.errstate(all="ignore"):
        for k, batch in enumerate(loader.epoch(1)):
            if k in left_out:
                continue
            if k in broken and comm.rank == comm.size - 1:
                batch.x[0, 0] = np.nan
            try:
                sync.step(batch, sync.backward(batch, 0.01, sample=k == SAMPLED), stop=False, sample=k == SAMPLED)
            except NotFiniteError:
                sync.state.optimizer.undo_begin()
                skipped += 1
    params = sync.flat.param_vector.copy()
    comm.Barrier()
    sync.close()
    topology.close()
    return params, skipped


for name in exact():
    for rule in OPTIMIZERS:
        bad = {1, 2, SAMPLED}
        expected, none = train(name, rule, set(), bad)
        found, skipped = train(name, rule, bad, set())
        assert (none, skipped) == (0, len(bad)), (name, rule, none, skipped)
        assert np.isfinite(found).all()
        assert found.tobytes() == expected.tobytes(), (name, rule)
if comm.rank == 0:
    print("ok", comm.size)
