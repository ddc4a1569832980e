"""Entry of a benchmark on every rank."""

import sys
from typing import TYPE_CHECKING, Any

from workers.launch import process

if TYPE_CHECKING:
    from mpi4py import MPI

    from common.progress import RankStatus
    from workers.benchmark.bench_options import BenchConfig
    from workers.launch.signals import StopFlag


def main() -> int:
    """Measure on this rank; return its exit code."""
    return process.run(_bench)


def _bench(comm: "MPI.Intracomm", arguments: list[str], stop: "StopFlag", rank_status: "RankStatus") -> int:
    config = _configure(comm, arguments)
    return config if isinstance(config, int) else _measure(comm, config, stop, rank_status)


def _configure(comm: "MPI.Intracomm", arguments: list[str]) -> "BenchConfig | int":
    """Return the options all ranks agree on, or the exit code after ``--help``. Raises JobError."""
    from ps.sync.modes import MODES
    from workers.benchmark import bench_options

    def parse() -> Any:
        parsed = bench_options.parse(arguments, list(MODES))
        return parsed if isinstance(parsed, int) else parsed.as_dict()

    agreed = process.agree(comm, arguments, parse)
    return agreed if isinstance(agreed, int) else bench_options.BenchConfig.from_dict(agreed)


def _measure(comm: "MPI.Intracomm", config: "BenchConfig", stop: "StopFlag", rank_status: "RankStatus") -> int:
    """Run what was asked for; rank 0 prints it and writes the JSON file. Raises JobError."""
    from common.errors import EXIT_OK
    from ps.comm.agreement import at_root
    from ps.comm.topology import Topology
    from workers.benchmark import bench_report, machine, scaling, steps, vectors
    from workers.launch.blas_threads import limit_threads

    topology = Topology(comm, config.ranks_per_node)
    rank_status.phase = f"benchmark, {config.kind}"
    result = {
        "kind": config.kind,
        "options": config.as_dict(),
        "job": machine.summary(topology, limit_threads(topology)),
    }
    if config.kind == "sync-only":
        result.update(vectors.measure(topology, config, stop))
    elif config.kind == "steps":
        result.update(steps.measure(topology, config, stop))
    else:
        result.update(scaling.measure(comm, config, stop))
    at_root(comm, lambda: bench_report.publish(result, config.json))
    topology.close()
    steps.check_losses(result)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
