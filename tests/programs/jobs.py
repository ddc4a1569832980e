"""Jobs one after the other on the same ranks, each as in a process of its own: ``jobs.py FOLDER``; see tests/ranks.py.

The folder has ``jobs.json``: by name, the arguments of Python. What job ``x`` prints goes to ``x.out`` and ``x.err``,
and the highest of its ranks' exit codes to ``x.code``.
"""

import contextlib
import gc
import json
import os
import runpy
import signal
import sys
import traceback
from pathlib import Path

from workers import run
from workers.launch import mpi
from workers.watchdog import spawn

mpi.start_mpi()
import numpy as np  # noqa: E402
from mpi4py import MPI  # noqa: E402

comm = MPI.COMM_WORLD.Dup()
MPI.Finalize = lambda: None  # a job leaves MPI at its end; here mpi4py does, behind the last one
close = spawn.WatchdogHandle.close


def close_with_watchdog(self: spawn.WatchdogHandle) -> None:
    """End the watchdog of this rank with the job: it waits for the process, which has more jobs to do."""
    close(self)
    comm.Barrier()  # else ranks that are still at work would miss it, and start another one
    held = f"Pid:\t{os.getpid()}\n"
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended: another rank of the node was first
            if spawn.PROGRAM.encode() in (process / "cmdline").read_bytes() and any(
                held in handle.read_text() for handle in (process / "fdinfo").iterdir()
            ):
                os.kill(int(process.name), signal.SIGKILL)
    if self.rank_status.folder is not None:  # what the watchdog would have removed
        (self.rank_status.folder / self._name).unlink(missing_ok=True)


spawn.WatchdogHandle.close = close_with_watchdog  # type: ignore[method-assign]


def exit_code(arguments: list[str]) -> int:
    """Run a job; return what its process would have ended with."""
    try:
        if arguments[:2] == ["-m", "workers.run"]:
            sys.argv = arguments[1:]
            sys.exit(run.main())
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception:
        traceback.print_exc()
        return 1
    return 0


folder, codes = Path(sys.argv[1]), np.zeros(comm.size, int)
for name, arguments in json.loads((folder / "jobs.json").read_text()).items():
    for number, ending in ((1, "out"), (2, "err")):
        # of the process, so that what libraries and children print is there too; all ranks add to the same file
        file = os.open(folder / f"{name}.{ending}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    code = exit_code(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    gc.collect()  # what a job held is gone for the next one, as if its process had ended
    comm.Gather(np.array([code]), codes)
    if comm.rank == 0:
        (folder / f"{name}.code").write_text(str(np.abs(codes).max()))
    comm.Barrier()
