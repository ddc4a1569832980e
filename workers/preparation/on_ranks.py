"""What ranks do by themselves for a while, each with its child: they meet again, and all hear what is wrong."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

from mpi4py import MPI

from common.errors import EXIT_STOPPED, DataError, JobError
from common.files import do_nothing
from ps.comm.agreement import together
from ps.comm.collectives import allgather, bcast

T = TypeVar("T")
LEAST_PAUSE_S, MOST_PAUSE_S = 1e-4, 1e-2


def _meet(comm: MPI.Comm, meanwhile: Callable[[], object]) -> None:
    """Wait until all ranks are here, without a look at every moment: children need the cores meanwhile."""
    request, pause = comm.Ibarrier(), LEAST_PAUSE_S
    while not request.Test():
        meanwhile()
        time.sleep(pause)
        pause = min(2 * pause, MOST_PAUSE_S)


def on_each(comm: MPI.Comm, act: Callable[[], T], meanwhile: Callable[[], object] = do_nothing) -> T:
    """Do something on all ranks; if the data are at fault, say on all what is wrong with the first piece that is.

    ``meanwhile``: called again and again by those who have done it, until all have.
    """

    def attempt() -> tuple[list[T], list[Any]]:
        try:
            return [act()], []
        except DataError as error:
            return [], [str(error), error.exit_code]
        finally:
            _meet(comm, meanwhile)

    result, fault = together(comm, attempt)
    faults = [other for other in allgather(comm, fault) if other]
    if faults:
        raise JobError(*faults[0])
    return result[0]


def at_first(comm: MPI.Comm, act: Callable[[], Any], meanwhile: Callable[[], object] = do_nothing) -> Any:
    """Do something at rank 0, and give all ranks its result, plain values. ``meanwhile``: see ``on_each``."""
    result = on_each(comm, act if comm.rank == 0 else do_nothing, meanwhile)
    return bcast(comm, result)


def stopped() -> DataError:
    """Return what is said of a job that was asked to stop."""
    error = DataError("stopped while the data were prepared; nothing is left of that")
    error.exit_code = EXIT_STOPPED
    return error
