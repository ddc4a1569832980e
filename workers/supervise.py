"""Entry of the supervisor: ``python -m workers.supervise -np 4 -- <arguments of workers.run>``."""

import sys

from common import one_process


def main() -> int:
    """Run the job until it is done or given up; return the exit code."""
    return one_process.run(_supervise, result=False)


def _supervise() -> int:
    from workers.supervisor import options
    from workers.supervisor.run_monitor import RunMonitor, run_folder_of
    from workers.supervisor.supervisor import Supervisor

    chosen = options.parse(sys.argv[1:])
    if isinstance(chosen, int):
        return chosen
    with run_folder_of(chosen.arguments) as path:
        return Supervisor(chosen, RunMonitor(path)).run()


if __name__ == "__main__":
    sys.exit(main())
