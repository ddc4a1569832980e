"""Entry of preparing tables on every rank: ``mpirun -np 4 python -m workers.prepare train.csv -o prepared``."""

import sys
from dataclasses import asdict

from workers.launch import process


def main() -> int:
    """Prepare on this rank; return its exit code."""
    return process.run(_prepare, _parse)


def _parse(arguments: list[str]) -> object:
    from workers.preparation.prepare_options import parse

    return parse(arguments)


def _prepare(context: process.Context) -> int:
    from workers.preparation.prepare_options import ColumnsConfig, PrepareConfig, parse

    agreed = context.agree(lambda: parse(context.arguments), PrepareConfig, ColumnsConfig)
    if isinstance(agreed, int):
        return agreed
    config, columns = agreed
    # After the options: --help and a wrong option need none of these.
    from pathlib import Path

    from common.errors import EXIT_OK
    from workers.preparation.command import prepare

    prepare(context, config.request(asdict(columns)), Path(config.output))
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
