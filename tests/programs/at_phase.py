"""A training job with a fault where a rank enters a phase: ``at_phase.py FAULT RANK EPOCH PHASE [arguments]``."""

import os
import signal
import sys
import time
from pathlib import Path

from common.progress import Progress
from workers import run

fault, rank, epoch, phase = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
sys.argv[1:] = sys.argv[5:]
plain = Progress.phase.fset


def enter(self: Progress, name: str) -> None:
    assert plain is not None
    plain(self, name)
    from mpi4py import MPI

    if name != phase or self.epoch != epoch or not MPI.Is_initialized() or MPI.COMM_WORLD.rank != rank:
        return
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "stop":
        Path("stopped").write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGSTOP)
    if fault == "raise":
        raise ValueError("this is the cause")
    if fault == "nap":
        time.sleep(3)
    if fault == "leave":
        sys.exit(0)


Progress.phase = property(Progress.phase.fget, enter)  # type: ignore[method-assign,assignment]
sys.exit(run.main())
