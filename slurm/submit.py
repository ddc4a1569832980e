"""Entry of submitting a job to Slurm: ``python -m slurm.submit --nodes 2 -- <arguments of workers.run>``."""

import sys

from common import start_guard
from common.errors import EXIT_INTERRUPTED, RankwiseError
from common.packages import needed
from common.standard_streams import as_result, complain, flush, open_closed


def main() -> int:
    """Submit a job; return the exit code."""
    start_guard.over()
    open_closed()
    with needed(), as_result():
        return _submit()


def _submit() -> int:
    from slurm import options, submitting

    try:
        return submitting.run(sys.argv[1:], options.command())
    except RankwiseError as error:
        complain(f"rankwise: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    finally:
        flush()


if __name__ == "__main__":
    sys.exit(main())
