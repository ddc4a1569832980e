"""The frame of a command that measures on all ranks: start MPI, agree on the options, end together."""

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from workers.launch.mpi import connect

if TYPE_CHECKING:
    from mpi4py import MPI

    from common.progress import RankStatus
    from workers.launch.signals import StopFlag

Act = Callable[["MPI.Intracomm", list[str], "StopFlag", "RankStatus"], int]
"""Does the work, given the command line; returns the exit code, or raises JobError on all ranks."""


def run(act: Act) -> int:
    """Do it on this rank; return its exit code. What all ranks agreed to end with, rank 0 says once."""
    comm = connect()
    if isinstance(comm, int):
        return comm

    # only now: everything below needs MPI to be there
    from common.errors import JobError
    from common.progress import RankStatus
    from ps.comm.agreement import abort_on_error
    from workers.launch.signals import StopFlag

    rank_status = RankStatus()
    with abort_on_error(comm, rank_status):
        stop = StopFlag(rank_status.cells, comm.Abort)
        try:
            code = act(comm, sys.argv[1:], stop, rank_status)
        except JobError as error:
            if comm.rank == 0:
                sys.stderr.write(f"rankwise: {error}\n")
                sys.stderr.flush()
            code = error.exit_code
        stop.over()
    return code


def agree(comm: "MPI.Intracomm", texts: list[str], parse: Callable[[], Any], what: str = "command line") -> Any:
    """Return what rank 0 parsed (plain values), once all ranks have shown the same texts. Raises JobError."""
    import msgpack

    from ps.comm.agreement import at_root, same_everywhere

    given = msgpack.packb([os.fsencode(text) for text in texts])  # as bytes, for they need not be UTF-8
    same_everywhere(comm, given, what, "start all ranks with the same one")
    return at_root(comm, parse)
