"""Entry of exporting a model, in one process: ``python -m workers.export latest --onnx``."""

import sys

from common.errors import RankwiseError
from common.packages import needed
from common.standard_streams import as_result, complain, flush, open_closed


def main() -> int:
    """Export a model; return the exit code."""
    open_closed()
    with needed(), as_result():
        return _export()


def _export() -> int:
    from workers.exporting import exporting, options

    try:
        return exporting.run(sys.argv[1:], options.command())
    except RankwiseError as error:
        complain(f"rankwise: {error}")
        return error.exit_code
    finally:
        flush()


if __name__ == "__main__":
    sys.exit(main())
