"""What a rank does for ``python -m tests.benchmarks.scaling``: steps of each mode at several batches, and sums."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import workers  # noqa: F401  # before NumPy, as the training process imports it
from workers.launch.mpi import start_mpi

comm = start_mpi().Dup()

from common.rank_status import RankStatus  # noqa: E402
from ps.comm.topology import Topology  # noqa: E402
from workers.benchmark.options import BenchConfig  # noqa: E402
from workers.benchmark.steps import in_turn, prepare  # noqa: E402
from workers.benchmark.vectors import VectorSums  # noqa: E402
from workers.launch.blas_threads import limit_threads  # noqa: E402
from workers.launch.signals import StopFlag  # noqa: E402

NODE_SUMS, NODE_SUM = ("allreduce", "reduce-bcast"), "node-all-library"
"""Modes whose ranks of a node add in shared memory, where there are several nodes, and how one asks for that."""


def main() -> None:
    """Measure what the task asks for; rank 0 writes it."""
    task = json.loads(sys.argv[1])
    topology = Topology(comm)
    limit_threads(topology)
    stop = StopFlag(RankStatus().cells, comm.Abort)
    bench = BenchConfig(layers=tuple(task["layers"]), mode=",".join(task["modes"]), rounds=task["rounds"])
    found: dict[str, Any] = {"nodes": topology.count, "steps": {}, "sums": {}}
    for batch in task["batches"]:
        work = prepare(topology, dataclasses.replace(bench, batch=batch), batch, stop)
        steps = found["steps"][batch] = {}
        for mode in task["modes"]:  # each by itself: the slowest would leave the others a step or two
            own = dataclasses.replace(bench, batch=batch, mode=mode)
            as_on_several = topology.count == 1 and topology.largest > 1 and mode in NODE_SUMS
            way = NODE_SUM if as_on_several else work.config.sum_algorithm
            timed = dataclasses.replace(work, config=dataclasses.replace(work.config, sum_algorithm=way))
            steps[mode] = in_turn(timed, own)["modes"][mode]["median_s"]
    sums = VectorSums(topology, stop, task["modes"], bench.dtype, task["rounds"], task["sums"])
    for n in task["numbers"]:
        found["sums"][n] = {mode: m["median_s"] for mode, m in sums.measure(n)["modes"].items()}
    found["ways"] = {kind: chosen.way.name for kind, chosen in topology.chosen.items()}
    if comm.rank == 0:
        Path(task["out"]).write_text(json.dumps(found))
    stop.over()
    topology.close()


if __name__ == "__main__":
    main()
