"""Jobs one after the other on the same ranks, each as in a process of its own: ``jobs.py FOLDER``; see tests/ranks.py.

The folder has ``jobs.json``: by name, the arguments of Python. What job ``x`` prints goes to ``x.out`` and ``x.err``,
and the highest of its ranks' exit codes to ``x.code``.
"""

import gc
import json
import os
import runpy
import sys
import traceback
from pathlib import Path

from workers import launch, run

launch.start_mpi()
import numpy as np  # noqa: E402
from mpi4py import MPI  # noqa: E402

comm = MPI.COMM_WORLD.Dup()
MPI.Finalize = lambda: None  # a job leaves MPI at its end; here mpi4py does, behind the last one


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
