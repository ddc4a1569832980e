"""Entry of exporting a model, in one process: ``python -m workers.export latest --onnx``."""

import sys

from common import one_process


def main() -> int:
    """Export a model; return the exit code."""
    return one_process.run(_export)


def _export() -> int:
    from workers.exporting import exporting, options

    return exporting.run(sys.argv[1:], options.command())


if __name__ == "__main__":
    sys.exit(main())
