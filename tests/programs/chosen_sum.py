"""Sums on what passes for two real nodes: every way is measured, all ranks choose the same, and each gives the sum."""

import numpy as np
from mpi4py import MPI

from common.config import RunConfig
from ps.comm.collectives import allgather
from ps.comm.control_variables import find
from ps.comm.topology import Topology
from ps.sync.chosen_sum import ChosenSum
from ps.sync.sum_ways import possible, worth_trying
from workers.launch.mpi import start_mpi

N = 5000
comm = start_mpi().Dup()
level = MPI.Query_thread()
topology = Topology(comm, ranks_per_node=2)
topology.pretended = False
config = RunConfig(dtype="float64")
names = "MPIR_CVAR_ALLREDUCE_INTRA_ALGORITHM", "coll_tuned_allreduce_algorithm", "coll_tuned_use_dynamic_rules"
variables = [variable for variable in map(find, names) if variable]
before = [variable.read() for variable in variables]
assert MPI.Query_thread() == level  # which Open MPI changes with that of its control variables
memory = ChosenSum.allocate(topology, config, N, np.dtype(np.float64))
assert memory is not None
packet = memory.packets[topology.local.rank]
reducer = ChosenSum.make(topology, packet, config, memory, "")
facts = reducer.facts()
assert facts is not None
assert len({str(one) for one in allgather(comm, facts)}) == 1
tried = {one["way"] for one in facts["measured"]}
assert tried == {way.name for way in worth_trying(topology, possible(topology, in_memory=True, apart=True))}
assert facts["way"] in tried
expected = comm.size * np.arange(N) + comm.size * (comm.size - 1) / 2
for way in sorted(tried):
    kept = ChosenSum.make(topology, packet, config, memory, way)
    assert kept.facts() == {"way": way, "measured": None}
    for _ in range(3):
        packet[:] = np.arange(N) + comm.rank
        kept.sum()
        np.testing.assert_allclose(packet, expected, rtol=1e-14)
    kept.close()
    comm.Barrier()
reducer.close()
again = ChosenSum.make(topology, packet, config, memory, "")
assert again.facts() == facts
again.close()
topology.close()
assert [variable.read() for variable in variables] == before
if comm.rank == 0:
    print("ok")
