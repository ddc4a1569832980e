"""Entry of the doctor, alone or on every rank of a job: ``mpirun -np 4 python -m workers.doctor``."""

import sys
from typing import TYPE_CHECKING

from workers.launch import process, start

if TYPE_CHECKING:
    from workers.diagnosis.deadline import Deadline


def main() -> int:
    """Examine this machine, or on a rank the job; return the exit code: 1 if something fails."""
    if not start.is_rank():
        from workers.diagnosis import alone

        return alone.main(sys.argv[1:])
    from workers.diagnosis import late

    deadline = late.begin(sys.argv[1:])
    return process.run(lambda context: _examine(context, deadline), _parse)


def _parse(arguments: list[str]) -> object:
    from workers.diagnosis.options import parse

    return parse(arguments)


def _examine(context: process.Context, deadline: "Deadline") -> int:
    from workers.diagnosis import job

    return job.run(context, deadline)


if __name__ == "__main__":
    sys.exit(main())
