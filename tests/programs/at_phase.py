"""A training job with a fault where a rank enters a phase: ``at_phase.py FAULT RANK EPOCH PHASE [arguments]``."""

import os
import signal
import sys
import time
from pathlib import Path

from common.rank_status import RankStatus
from workers import run

fault, rank, epoch, struck_phase = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
sys.argv[1:] = sys.argv[5:]
plain = RankStatus.enter


def enter(self: RankStatus, phase: str) -> None:
    plain(self, phase)
    from mpi4py import MPI

    if phase != struck_phase or self.epoch != epoch or MPI.COMM_WORLD.rank != rank:
        return
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "stop":
        Path("stopped").write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGSTOP)
    if fault == "nap":
        time.sleep(3)
    if fault == "hang":
        time.sleep(1000)


RankStatus.enter = enter  # type: ignore[method-assign]
sys.exit(run.main())
