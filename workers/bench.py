"""Entry of a benchmark on every rank: ``mpirun -np 4 python -m workers.bench --layers 784,128,10``."""

import sys
from dataclasses import asdict

from workers.launch import process


def main() -> int:
    """Measure on this rank; return its exit code."""
    return process.run(_bench, _parse)


def _parse(arguments: list[str]) -> object:
    from ps.sync import mode_names
    from workers.benchmark.options import parse_bench

    return parse_bench(arguments, mode_names.exact())


def _bench(context: process.Context) -> int:
    from ps.sync.modes import exact
    from workers.benchmark.options import BenchConfig, parse_bench

    agreed = context.agree(lambda: parse_bench(context.arguments, exact()), BenchConfig)
    if isinstance(agreed, int):
        return agreed
    (config,) = agreed
    # After the options: --help and a wrong option need none of these.
    from common.errors import EXIT_OK
    from common.memory import THIS_PROCESS
    from ps.comm.agreement import at_root
    from ps.comm.topology import Topology
    from workers.benchmark import bench_report, machine, scaling, steps, vectors
    from workers.launch.blas_threads import limit_threads

    topology = Topology(context.comm, config.ranks_per_node)
    THIS_PROCESS.set(config.max_memory, topology.here)
    context.rank_status.enter(f"benchmark, {config.kind}")
    job = machine.summary(topology, limit_threads(topology))
    measure = {"sync-only": vectors.measure, "steps": steps.measure}.get(config.kind, scaling.measure)
    result = {"kind": config.kind, "options": asdict(config), "job": job, **measure(topology, config, context.stop)}
    at_root(context.comm, lambda: bench_report.publish(result, config.json))
    topology.close()
    steps.check_losses(result)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
