"""Entry of the supervisor: ``python -m workers.supervise -np 4 -- <arguments of workers.run>``."""

import sys

from common.errors import RankwiseError
from workers.supervisor import options
from workers.supervisor.run_monitor import RunMonitor, choose_folder
from workers.supervisor.supervisor import Supervisor


def main() -> int:
    """Run the job until it is done or given up; return the exit code."""
    try:
        chosen = options.parse(sys.argv[1:])
        if isinstance(chosen, int):
            return chosen
        return Supervisor(chosen, RunMonitor(choose_folder(chosen.arguments))).run()
    except RankwiseError as error:
        sys.stderr.write(f"rankwise: {error}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
