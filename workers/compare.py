"""Entry of a comparison on every rank."""

import os
import sys
from typing import TYPE_CHECKING, Any

from workers.launch import process

if TYPE_CHECKING:
    from mpi4py import MPI

    from common.progress import RankStatus
    from workers.launch.signals import StopFlag


def main() -> int:
    """Compare on this rank; return its exit code."""
    return process.run(_compare)


def _compare(comm: "MPI.Intracomm", arguments: list[str], stop: "StopFlag", rank_status: "RankStatus") -> int:
    from common.config import RunConfig
    from common.errors import EXIT_ERROR, JobError
    from ps.comm.topology import Topology
    from workers.benchmark.compare_options import CompareConfig
    from workers.benchmark.comparison import Comparison

    agreed = _configure(comm, arguments)
    if isinstance(agreed, int):
        return agreed
    config, options = RunConfig.from_dict(agreed["run"]), CompareConfig(**agreed["compare"])
    rank_status.debug = config.debug
    topology = Topology(comm, config.ranks_per_node)
    comparison = Comparison(topology, config, options, stop, rank_status)
    ended: JobError | None = None
    code = EXIT_ERROR
    try:
        code = comparison.run()
    except JobError as error:
        ended = comparison.fail(error)
    topology.close()  # all ranks are here, so what is freed together can be
    if ended:
        raise ended
    return code


def _configure(comm: "MPI.Intracomm", arguments: list[str]) -> Any:
    """Return the options all ranks agree on, or the exit code after ``--help``. Raises JobError."""
    import dataclasses

    from ps.sync.modes import MODES, help_lines
    from workers.benchmark import compare_options
    from workers.launch.run_options import PREFIX

    def parse() -> Any:
        parsed = compare_options.parse(arguments, help_lines(), list(MODES))
        if isinstance(parsed, int):
            return parsed
        return {"run": parsed[0].as_dict(), "compare": dataclasses.asdict(parsed[1])}

    environment = sorted(f"{name}={value}" for name, value in os.environ.items() if name.startswith(PREFIX))
    texts = [*arguments, *environment]
    return process.agree(comm, texts, parse, "command line or RANKWISE_ environment")


if __name__ == "__main__":
    sys.exit(main())
