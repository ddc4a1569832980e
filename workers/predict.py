"""Entry of predicting on every rank, also on one alone: ``python -m workers.predict latest new.csv -o out.csv``."""

import sys

from workers.launch import process


def main() -> int:
    """Predict on this rank; return its exit code."""
    return process.run(_predict, _parse)


def _parse(arguments: list[str]) -> object:
    from workers.prediction.options import parse_predict

    return parse_predict(arguments)


def _predict(context: process.Context) -> int:
    from workers.prediction.options import PredictConfig, parse_predict

    agreed = context.agree(lambda: parse_predict(context.arguments), PredictConfig)
    if isinstance(agreed, int):
        return agreed
    (config,) = agreed
    # After the options: --help and a wrong option need none of these.
    from workers.prediction.predicting import predict

    return context.on_nodes(config, lambda topology: predict(context, topology, config))


if __name__ == "__main__":
    sys.exit(main())
