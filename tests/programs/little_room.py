"""Sums where /dev/shm has room for the vectors of one node, and two look at the same time: no rank dies of it."""

# ruff: noqa: E402, since MPI must not start before its settings are made
import mpi4py

mpi4py.rc.initialize, mpi4py.rc.finalize = False, True

import numpy as np

from workers.launch.mpi import start_mpi

comm = start_mpi().Dup()

from common.config import RunConfig
from common.errors import JobError
from ps.comm.topology import Topology
from ps.sync.chosen_sum import ChosenSum

N = 2_000_000
topology = Topology(comm, ranks_per_node=2)
topology.pretended = False
assert ChosenSum.allocate(topology, RunConfig(dtype="float64"), N, np.dtype(np.float64)) is None
packet = np.ones(N)
reducer = ChosenSum.make(topology, packet, RunConfig(dtype="float64"), None, "")
packet[:] = 1
reducer.sum()
assert (packet == comm.size).all()
reducer.close()
try:
    ChosenSum.allocate(topology, RunConfig(dtype="float64", sum_algorithm="node-all-library"), N, np.dtype(np.float64))
except JobError as error:
    if comm.rank == 0:
        print(error)
topology.close()
