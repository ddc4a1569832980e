"""Entry of submitting a job to Slurm: ``python -m slurm.submit --nodes 2 -- <arguments of workers.run>``."""

import sys

from common import one_process


def main() -> int:
    """Submit a job; return the exit code."""
    return one_process.run(_submit)


def _submit() -> int:
    from slurm import options, submitting

    return submitting.run(sys.argv[1:], options.command())


if __name__ == "__main__":
    sys.exit(main())
