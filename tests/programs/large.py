"""A packet beyond 2^31 bytes through the reducer named first."""

import sys

import numpy as np
from mpi4py import MPI

from ps.sync.chosen_sum import WireSum
from ps.sync.reduce_bcast import ReduceBcastWire
from ps.sync.reducer import Reducer
from ps.sync.send_recv import SendRecv
from ps.sync.wire import Wire

comm = MPI.COMM_WORLD.Dup()
n = (2**31 + 2**20) // 4
packet = np.full(n, comm.rank + 1, np.float32)
packet[-1] = 10 * (comm.rank + 1)
if sys.argv[1] == "send-recv":
    reducer: Reducer = SendRecv(comm, packet)
else:
    reducer = WireSum({"allreduce": Wire, "reduce-bcast": ReduceBcastWire}[sys.argv[1]](comm), packet)
reducer.sum()
total = comm.size * (comm.size + 1) // 2
assert packet.nbytes > 2**31
assert packet[0] == packet[n // 2] == packet[-2] == total
assert packet[-1] == 10 * total
reducer.close()
