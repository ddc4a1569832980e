"""A doctor on ranks whose rank 1 suspends itself when clocks are compared."""

import os
import signal
import sys
from typing import Any
from unittest import mock

import workers.doctor
from ps.metrics.clock_offset import clock_offset


def stop(topology: Any, clock: Any) -> tuple[float, float]:
    """Suspend rank 1, and compare clocks."""
    if topology.comm.rank == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    return clock_offset(topology, clock)


with mock.patch("workers.diagnosis.job.clock_offset", stop):
    sys.exit(workers.doctor.main())
