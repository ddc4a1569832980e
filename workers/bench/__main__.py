"""Entry of a benchmark on every rank."""

import os
import sys
from typing import TYPE_CHECKING, Any

from common.errors import EXIT_OK
from workers.launch import connect

if TYPE_CHECKING:
    from mpi4py import MPI

    from workers.bench.options import BenchConfig


def main() -> int:
    """Measure on this rank; return its exit code."""
    comm = connect()
    if isinstance(comm, int):
        return comm

    # only now: everything below needs MPI to be there
    from common.errors import JobError
    from ps.guard import Position, abort_on_error
    from workers.signals import StopFlag

    position = Position()
    with abort_on_error(comm, position):
        stop = StopFlag(position.cells, comm.Abort)
        try:
            config = _configure(comm, sys.argv[1:])
            code = config if isinstance(config, int) else _measure(comm, config, stop, position)
        except JobError as error:
            if comm.rank == 0:
                sys.stderr.write(f"rankwise: {error}\n")
                sys.stderr.flush()
            code = error.exit_code
        stop.over()
    return code


def _configure(comm: "MPI.Intracomm", arguments: list[str]) -> "BenchConfig | int":
    """Return the options all ranks agree on, or the exit code after ``--help``. Raises JobError."""
    import msgpack

    from ps.guard import at_root, same_everywhere
    from ps.modes import MODES
    from workers.bench import options

    given = msgpack.packb([os.fsencode(text) for text in arguments])
    same_everywhere(comm, given, "command line", "start all ranks with the same one")

    def parse() -> Any:
        parsed = options.parse(arguments, list(MODES))
        return parsed if isinstance(parsed, int) else parsed.as_dict()

    agreed = at_root(comm, parse)
    return agreed if isinstance(agreed, int) else options.BenchConfig.from_dict(agreed)


def _measure(comm: "MPI.Intracomm", config: "BenchConfig", stop: Any, position: Any) -> int:
    """Run what was asked for; rank 0 prints it and writes the JSON file. Raises JobError."""
    from ps.guard import at_root
    from ps.nodes import Nodes
    from workers.bench import machine, report, scaling, steps, vectors
    from workers.threads import limit_threads

    nodes = Nodes(comm, config.ranks_per_node)
    position.phase = f"benchmark, {config.kind}"
    result = {"kind": config.kind, "options": config.as_dict(), "job": machine.describe(nodes, limit_threads(nodes))}
    if config.kind == "sync-only":
        result.update(vectors.measure(nodes, config, stop))
    elif config.kind == "steps":
        result.update(steps.measure(nodes, config, stop))
    else:
        result.update(scaling.measure(comm, config, stop))
    at_root(comm, lambda: report.publish(result, config.json))
    nodes.close()
    steps.check_losses(result)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
