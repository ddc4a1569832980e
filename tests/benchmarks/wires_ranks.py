"""The ranks of tests/benchmarks/wires.py: steps of a network for MNIST by each wire, in turn, and what they send."""

# ruff: noqa: E402, since MPI must not start before its settings are made
import json
import statistics
import sys
from typing import Any

import mpi4py

mpi4py.rc.initialize, mpi4py.rc.finalize = False, True

import numpy as np
import threadpoolctl
from mpi4py import MPI

from common.config import RunConfig
from common.data.dataset import Dataset
from common.data.features import HeldFeatures
from common.nn import models
from ps.comm.topology import Topology
from tests.benchmarks.hosts_ranks import counted, link_rate
from workers.benchmark.runner import Runner, Workload, closing, order, steps_in
from workers.launch.mpi import start_mpi
from workers.launch.signals import StopRequest

BASE = "MPI_Allreduce"
WAYS: dict[str, dict[str, Any]] = {
    BASE: {"mode": "allreduce", "sum_algorithm": "library"},
    "allreduce": {"mode": "allreduce"},
    "ring": {"mode": "ring"},
    "bf16": {"mode": "ring", "wire": "bf16"},
    "int8": {"mode": "ring", "wire": "int8"},
    "powersgd 2": {"mode": "ring", "wire": "powersgd", "wire_rank": 2},
    "powersgd 4": {"mode": "ring", "wire": "powersgd"},
    "topk": {"mode": "ring", "wire": "topk"},
    "sharded": {"mode": "sharded"},
    "server": {"mode": "async", "staleness": "0"},
    "servers all": {"mode": "async", "staleness": "0", "servers": "all"},
}
"""Options of each way; the first is what the others are compared with."""
LAYERS = (784, 512, 512, 10)
ROWS = 128
"""Of a rank in each step."""
TRIAL_S = 0.7
FEWEST, MOST = 3, 60


def workload(topology: Topology, stop: StopRequest, options: dict[str, Any]) -> Workload:
    """Return the network with random rows, as many as 16 steps take."""
    batch = ROWS * topology.comm.size
    config = RunConfig(
        hidden=LAYERS[1:-1], batch_size=batch, optimizer="momentum", momentum=0.9, learning_rate=0.01, **options
    )
    rng, n, none = np.random.default_rng(1), 16 * batch, np.empty(0, np.int64)
    rows = np.ones((n, LAYERS[0] + 1), np.float32)  # a column for the bias
    rows[:, :-1] = rng.standard_normal((n, LAYERS[0]), np.float32)
    data = Dataset(
        "random", HeldFeatures(rows), rng.integers(0, LAYERS[-1], n), LAYERS[-1], "", np.arange(n), none, none, None
    )
    return Workload(topology, stop, config, data, models.build(config, LAYERS[0], LAYERS[-1], 1))


def measure(topology: Topology, ways: list[str], rounds: int) -> None:
    """Take trials of all ways in turn; print a line of each. Collective."""
    comm, stop = topology.comm, StopRequest()
    seconds, sent = ({way: list[float]() for way in ways} for _ in range(2))
    with closing(topology) as stack:
        runners: dict[str, Runner] = {}
        for way in ways:
            runners[way] = workload(topology, stop, WAYS[way]).start(WAYS[way]["mode"], stack)
            runners[way].run(FEWEST)
        steps = {way: steps_in(TRIAL_S, runner.run(FEWEST), FEWEST, MOST) for way, runner in runners.items()}
        for number in range(rounds):
            for way in (ways[i] for i in order(len(ways), number)):
                comm.Barrier()
                before = counted()
                seconds[way].append(runners[way].run(steps[way]))
                comm.Barrier()
                sent[way].append((counted() - before) / steps[way])
        for way in ways:
            figures = statistics.median(sent[way]), runners[way].parts.sync.sent_bytes
            most = np.array(figures, np.float64)
            comm.Allreduce(MPI.IN_PLACE, most, MPI.MAX)
            line = {
                "way": way, "ms": [1e3 * s for s in seconds[way]], "steps": steps[way],
                "counted": most[0], "sent": most[1],
                "sum": (runners[way].parts.sync.facts()["sum"] or {}).get("way", ""),
            }  # fmt: skip
            if comm.rank == 0:
                print(json.dumps(line), flush=True)


def main() -> None:
    """Measure the ways that the command line names, with commas between, in so many rounds."""
    topology = Topology(start_mpi().Dup())
    threadpoolctl.threadpool_limits(1, "blas")  # hosts that share this machine's cores each believe to have them all
    rate = link_rate(topology)
    if topology.comm.rank == 0:
        print(json.dumps({"rate": rate}), flush=True)
    measure(topology, sys.argv[1].split(","), int(sys.argv[2]))


if __name__ == "__main__":
    main()
