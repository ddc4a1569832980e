"""What keeps ranks together: agreed errors, agreed state, and the end of the whole job when one rank fails."""

import contextlib
import hashlib
import os
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
from mpi4py import MPI

from common import start_guard
from common.errors import EXIT_ERROR, JobError, RankwiseError
from common.files import told
from common.host import host
from common.ranges import ranges, ranks_on
from common.rank_status import REPORTED, RankStatus
from common.run_files import write_failure_once
from common.standard_streams import TRACE_CHARACTERS, complain, flush
from common.status_line import erase
from common.wording import MOST_CHARACTERS, MOST_LINES, printable
from ps.comm.collectives import allgather, bcast

T = TypeVar("T")
BETTER_CAUSE_S = 1.0
"""How long a rank that MPI reports an error to leaves the message to others, which may know the cause."""


@contextlib.contextmanager
def abort_on_error(comm: MPI.Comm, rank_status: RankStatus) -> Iterator[None]:
    """End the whole job if this rank raises what the others cannot know of.

    Errors that all ranks agreed on (JobError) pass through; an exit of one rank alone does not. ``MPI_Abort`` may
    return to its caller (it does in MPICH 5.0.2), so the process then ends itself.
    """
    try:
        yield
    except JobError:
        raise
    except BaseException as error:
        start_guard.over()  # this message is better
        cause = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        importing = isinstance(error, (ImportError, SyntaxError))
        cause = start_guard.reason(error) if importing else cause
        message = f"rankwise: rank {comm.rank} on {host()}, {rank_status}: {cause}"
        message = printable(message, MOST_CHARACTERS, MOST_LINES)
        expected = importing or isinstance(error, RankwiseError)
        trace = traceback.format_exc() if not expected or rank_status.debug else ""
        if isinstance(error, MPI.Exception):
            time.sleep(BETTER_CAUSE_S)
        if _first_to_fail(rank_status, f"{printable(trace, TRACE_CHARACTERS)}{message}"):
            erase()
            complain(message, trace)
        flush()
        comm.Abort(EXIT_ERROR)
        os._exit(EXIT_ERROR)


def _first_to_fail(rank_status: RankStatus, message: str) -> bool:
    """Keep the message in the run folder; only the rank that creates the file also prints it."""
    rank_status.keep_failure(message)
    first = rank_status.folder is None or write_failure_once(rank_status.folder, message)
    rank_status.cells[REPORTED] = first
    return first


def _attempt(act: Callable[[], T], where: str = "") -> tuple[list[T], tuple[str, int] | None]:
    """Return what ``act`` returns, in a list, or the message and exit code of an expected fault.

    ``where``: stands before messages that do not name the place themselves.
    """
    try:
        return [act()], None
    except RankwiseError as error:
        message, code = str(error), error.exit_code
    except OSError as error:
        message, code = f"{where}{told(error)}", EXIT_ERROR
    except MemoryError as error:
        message, code = f"{where}out of memory: {error}", EXIT_ERROR
    return [], (printable(message, MOST_CHARACTERS, MOST_LINES), code)  # which is to be sent, and may quote anything


def together(comm: MPI.Comm, act: Callable[[], T]) -> T:
    """Do something that may fail on any rank; if it does on one, raise the same JobError on all.

    ``act`` must not communicate. Expected faults are RankwiseError, OSError and MemoryError; others are bugs
    and pass to ``abort_on_error``.
    """
    result, fault = _attempt(act)
    failed = np.array([fault is not None], np.int32)
    comm.Allreduce(MPI.IN_PLACE, failed, MPI.MAX)
    if not failed[0]:  # as nearly always, and what each has to say would take as much memory as there are ranks
        return result[0]
    faults = [(rank, f) for rank, f in enumerate(allgather(comm, [host(), fault])) if f[1] is not None]
    messages = {f[1][0] for _, f in faults}
    first_rank, (first_host, (message, code)) = faults[0]
    if len(faults) == comm.size and len(messages) == 1:
        raise JobError(message, code)
    others = f" (and rank {ranges([r for r, _ in faults[1:]])})" if len(faults) > 1 else ""
    raise JobError(f"rank {first_rank} on {first_host}{others}: {message}", code)


def odd_ranks(digests: list[bytes] | list[int]) -> list[int]:
    """Return the ranks that differ from the majority; from rank 0's group on a tie."""
    counts = Counter[Any](digests)
    most = max(counts.values())
    usual = digests[0] if counts[digests[0]] == most else next(d for d in digests if counts[d] == most)
    return [rank for rank, d in enumerate(digests) if d != usual]


def same_everywhere(comm: MPI.Comm, content: bytes, what: str, remedy: str) -> None:
    """Raise JobError on all ranks, naming the odd ones, unless ``content`` is the same on every rank."""
    digest = hashlib.sha256(content).digest()
    words = np.frombuffer(digest, np.uint64)
    ends = np.concatenate([words, ~words])  # the largest of the one is the complement of the least of the other
    comm.Allreduce(MPI.IN_PLACE, ends, MPI.MAX)
    if (ends[: len(words)] != ~ends[len(words) :]).any():
        odd = odd_ranks(allgather(comm, digest))
        hosts = allgather(comm, host())
        named = ranks_on(odd, [hosts[rank] for rank in odd])
        raise JobError(f"{what}: not the same on all ranks; different on {named}; {remedy}")


def at_root(comm: MPI.Comm, act: Callable[[], Any]) -> Any:
    """Do something at rank 0 and give all ranks its result (plain values); if it fails, raise JobError on all."""
    return from_root(comm, attempt(act) if comm.rank == 0 else None)


def attempt(act: Callable[[], Any]) -> tuple[list[Any], tuple[str, int] | None]:
    """Do something at rank 0; return what ``from_root`` brings to the others."""
    return _attempt(act, f"rank 0 on {host()}: ")


def from_root(comm: MPI.Comm, outcome: tuple[list[Any], tuple[str, int] | None] | None) -> Any:
    """Give all ranks the result of an ``attempt`` at rank 0; if it failed, raise JobError on all."""
    result, fault = bcast(comm, outcome)
    if fault:
        raise JobError(*fault)
    return result[0]
