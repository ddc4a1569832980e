"""Entry of evaluating on every rank, also on one alone: ``python -m workers.evaluate latest test.csv``."""

import sys

from workers.launch import process


def main() -> int:
    """Evaluate on this rank; return its exit code."""
    return process.run(_evaluate, _parse)


def _parse(arguments: list[str]) -> object:
    from workers.prediction.options import parse_evaluate

    return parse_evaluate(arguments)


def _evaluate(context: process.Context) -> int:
    from workers.prediction.options import EvaluateConfig, parse_evaluate

    agreed = context.agree(lambda: parse_evaluate(context.arguments), EvaluateConfig)
    if isinstance(agreed, int):
        return agreed
    (config,) = agreed
    # After the options: --help and a wrong option need none of these.
    from workers.prediction.evaluating import evaluate

    return context.on_nodes(config, lambda topology: evaluate(context, topology, config))


if __name__ == "__main__":
    sys.exit(main())
