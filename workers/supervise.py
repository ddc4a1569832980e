"""Entry of the supervisor: ``python -m workers.supervise -np 4 -- <arguments of workers.run>``."""

import sys

from common.errors import RankwiseError
from common.packages import needed
from common.standard_streams import complain, flush, open_closed


def main() -> int:
    """Run the job until it is done or given up; return the exit code."""
    open_closed()
    with needed():
        return _supervise()


def _supervise() -> int:
    from workers.supervisor import options
    from workers.supervisor.run_monitor import RunMonitor, run_folder_of
    from workers.supervisor.supervisor import Supervisor

    try:
        chosen = options.parse(sys.argv[1:])
        if isinstance(chosen, int):
            return chosen
        with run_folder_of(chosen.arguments) as path:
            return Supervisor(chosen, RunMonitor(path)).run()
    except RankwiseError as error:
        complain(f"rankwise: {error}")
        return error.exit_code
    finally:
        flush()


if __name__ == "__main__":
    sys.exit(main())
