"""Entry of a comparison on every rank: ``mpirun -np 4 python -m workers.compare --modes allreduce,shared``."""

import sys
from functools import partial
from typing import TYPE_CHECKING

from workers.launch import process

if TYPE_CHECKING:
    from ps.comm.topology import Topology


def main() -> int:
    """Compare on this rank; return its exit code."""
    return process.run(_compare, _parse)


def _parse(arguments: list[str]) -> object:
    from ps.sync import mode_names
    from workers.benchmark.options import parse_compare

    return parse_compare(arguments, mode_names.read(), mode_names.exact())


def _compare(context: process.Context) -> int:
    from common.config import RunConfig
    from ps.sync.modes import exact, help_lines
    from workers.benchmark.options import CompareConfig, parse_compare

    parsed = partial(parse_compare, context.arguments, help_lines(), exact())
    agreed = context.agree(parsed, RunConfig, CompareConfig, environment=True)
    if isinstance(agreed, int):
        return agreed
    config, options = agreed

    def run(topology: "Topology") -> int:
        # imported after the options: --help and a wrong option need none of these
        if options.until_loss:
            from workers.benchmark.until_loss import LossComparison

            return LossComparison(topology, config, options, context.stop, context.rank_status).run()
        from workers.benchmark.comparison import Comparison

        return Comparison(topology, config, options, context.stop, context.rank_status).run()

    return context.on_nodes(config, run)


if __name__ == "__main__":
    sys.exit(main())
