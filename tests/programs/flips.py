"""On every rank: any single flipped bit of a rank's parameters is found within one rotation, and can be repaired.

A rotation is an epoch: of several steps, or of one.

``flips.py FLIPS``: how many, over all modes.
"""

import math
import sys

import numpy as np
from mpi4py import MPI

from common.config import RunConfig
from common.errors import StepError
from common.nn.functional import SoftmaxCrossEntropy
from common.nn.mlp import Mlp
from ps.comm.topology import Topology
from ps.sync.modes import MODES, exact
from ps.sync.replicated import ReplicatedSync
from ps.sync.shared import SharedSync
from tests.assembly import assemble

comm = MPI.COMM_WORLD.Dup()
flips = int(sys.argv[1])
ROWS, FEATURES, CLASSES = 60, 12, 3
BATCHES = (10, ROWS)
RATE = 1e-12  # no update shows: rounding could take a last bit's difference away before its turn has come
rng = np.random.default_rng(3)  # the same on all ranks: all know whose bit is flipped
x = np.concatenate([rng.standard_normal((ROWS, FEATURES)), np.ones((ROWS, 1))], axis=1).astype(np.float32)
y = rng.integers(0, CLASSES, ROWS)


def check(mode: str, count: int, size: int) -> int:
    """Train in batches of a size, and return how many of ``count`` flips were found, and repaired."""
    replicas = MODES[mode].replicas
    topology = Topology(comm, 0 if replicas else 1)  # in shared memory each node has a copy: then each rank is one
    model = Mlp((FEATURES, 20, CLASSES), "tanh", SoftmaxCrossEntropy())
    config = RunConfig(optimizer="adam", batch_size=size, learning_rate=RATE)
    start = np.random.default_rng(1).uniform(0.1, 1, sum(map(math.prod, model.shapes().values())))
    sync, loader, _ = assemble(mode, topology, model, config, x, y, CLASSES, start=start, fixed=True)
    assert isinstance(sync, ReplicatedSync | SharedSync)
    params = sync.flat.param_vector
    found = 0
    start = params.copy()
    for _ in range(count):
        rank, place, bit = (int(rng.integers(n)) for n in (comm.size, params.nbytes, 8))
        if comm.rank == rank:
            params.view(np.uint8)[place] ^= 1 << bit
        with np.errstate(all="ignore"):
            for batch in loader.epoch(1):
                try:
                    sync.step(batch, sync.backward(batch, RATE, sample=False), stop=False, sample=False)
                except StepError:
                    found += 1
                    break
        sync.meter.timer.resize(len(sync.meter.timer.arrived))
        sync.state.optimizer.undo_begin()
        named, majority = sync.state.compare()
        assert majority == (comm.size > 2)
        assert list(named) == [rank] or not majority, f"{mode}: rank {rank} was hit, {named} is named"
        before = params.copy()
        sync.state.repair([rank])
        assert not sync.state.compare()[0], mode
        assert comm.rank == rank or params.tobytes() == before.tobytes(), f"{mode}: the majority was changed"
        if not np.isfinite(params).all() or np.abs(params).max() > 1e3:  # what the hit rank's gradient did to all
            np.copyto(params, start)
            for parts in sync.state.optimizer.state().values():
                for part in parts:
                    part.fill(0)
        comm.Barrier()
    sync.close()
    topology.close()
    return found


cases = [(name, batch) for name in exact() for batch in BATCHES]
edges = [flips * i // len(cases) for i in range(len(cases) + 1)]
total = sum(check(name, b - a, batch) for (name, batch), a, b in zip(cases, edges, edges[1:], strict=False))
if comm.rank == 0:
    print(f"{total} of {edges[-1]}")
