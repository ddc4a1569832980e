"""Puts together what trains a model in a mode, for test programs that take its steps themselves."""

import numpy as np

from common.config import RunConfig
from common.data.loader import BatchLoader
from common.data.row_table import RowTable
from common.data.sampler import RowSampler
from common.flat import Array
from common.nn.mlp import Mlp
from common.nn.models import Model
from ps.comm.topology import Topology
from ps.metrics.sync_timer import SyncTimer
from ps.sync.modes import MODES
from ps.sync.synchronizer import Synchronizer, SyncSetup


def assemble(
    mode: str, topology: Topology, model: Model | Mlp, config: RunConfig, x: Array, y: Array, n_outputs: int,
    *, start: Array | None = None, fixed: bool = False,
) -> tuple[Synchronizer, BatchLoader, Array]:  # fmt: skip
    """Return the synchroniser, the loader of this rank's rows, and how many rows each rank has in each step.

    ``x``: (rows, features + 1), with ones at the end. ``start``: the parameters to begin with; default: those that the
    model draws. All ranks have those of rank 0.
    """
    comm = topology.comm
    sampler = RowSampler(len(x), config.batch_size, 0, "shuffle", comm.size)
    counts = np.array([sampler.counts(rank) for rank in range(comm.size)])
    sync = MODES[mode].build(SyncSetup(topology, model, config, SyncTimer(topology, 1000), RowTable.of_counts(counts)))
    if comm.rank == 0 and start is None:
        model.init(sync.flat.params, np.random.default_rng(1))
    elif comm.rank == 0:
        sync.flat.param_vector[:] = start
    sync.state.broadcast()
    loader = BatchLoader(
        x, y, model.loss.encode, n_outputs, sync.row_counts, lambda epoch: sampler.order(epoch, comm.rank),
        fixed=fixed, allocate=sync.allocate_rows,
    )  # fmt: skip
    return sync, loader, counts
