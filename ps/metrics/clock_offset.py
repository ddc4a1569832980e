"""How far the clocks of the nodes are apart."""

from collections.abc import Callable

import numpy as np

from ps.comm.topology import Topology

ROUND_TRIPS = 8


def clock_offset(topology: Topology, clock: Callable[[], float]) -> tuple[float, float]:
    """Return (seconds to add to this rank's clock to get rank 0's, largest error of that).

    On rank 0's node, whose ranks add nothing, the error is the largest of all nodes. Ranks of one node read the same
    clock, so only node leaders exchange messages with rank 0: of several round trips the shortest counts, and the true
    offset is within half of it (Cristian 1989). Collective.
    """
    comm, result = topology.comm, np.zeros(2)
    reply = np.zeros(1)
    leaders = sorted(set(topology.leaders) - {topology.leaders[0]})
    if comm.rank == 0:
        for leader in leaders:
            best = np.array([0.0, np.inf])
            for _ in range(ROUND_TRIPS):
                sent = clock()
                comm.Send(reply, leader)
                comm.Recv(reply, leader)
                back = clock()
                if (back - sent) / 2 < best[1]:
                    best[:] = (sent + back) / 2 - reply[0], (back - sent) / 2
            comm.Send(best, leader)
            result[1] = max(result[1], best[1])
    elif comm.rank in leaders:
        for _ in range(ROUND_TRIPS):
            comm.Recv(reply, 0)
            reply[0] = clock()
            comm.Send(reply, 0)
        comm.Recv(result, 0)
    topology.local.Bcast(result)
    return float(result[0]), float(result[1])
