"""The frame of a command that runs on all ranks: start MPI, agree on the options, end together."""

import os
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from common import start_guard
from common.standard_streams import complain, flush, open_closed
from workers.launch.mpi import connect

if TYPE_CHECKING:
    from mpi4py import MPI

    from common.errors import JobError
    from common.rank_status import RankStatus
    from ps.comm.topology import Topology
    from workers.launch.signals import StopRequest


class Context:
    """What a command finds on a rank: a communicator of all, the command line, whether to stop, and where it is.

    ``guest``: whether the process is another program's, which goes on after the job.
    """

    def __init__(
        self,
        comm: "MPI.Intracomm",
        arguments: list[str],
        stop: "StopRequest",
        rank_status: "RankStatus",
        *,
        guest: bool = False,
    ) -> None:
        self.comm, self.arguments, self.stop, self.rank_status = comm, arguments, stop, rank_status
        self.guest = guest

    def agree(self, parse: Callable[[], Any], *kinds: type, environment: bool = False) -> Any:
        """Return the options that rank 0 parsed, one object of each kind, or the exit code if it has printed help.

        ``environment``: whether variables set options too. Raises JobError, also if the ranks' texts differ.
        """
        from dataclasses import asdict

        import msgpack

        from common.option import from_dict
        from ps.comm.agreement import attempt, from_root, same_everywhere
        from ps.comm.collectives import meet
        from workers.launch.environment_options import PREFIX
        from workers.launch.environment_options import environment as variables

        def plain() -> Any:
            found = parse()
            configs = found if isinstance(found, tuple) else (found,)
            return found if isinstance(found, int) else [asdict(config) for config in configs]

        texts = [self.arguments, variables() if environment else []]
        given = msgpack.packb([[os.fsencode(text) for text in some] for some in texts])  # they need not be UTF-8
        what = f"command line or {PREFIX} environment" if environment else "command line"
        parsed = attempt(plain) if self.comm.rank == 0 else None  # which takes longest, and the others need not wait
        meet(self.comm)  # most of what a command needs has been imported just now
        same_everywhere(self.comm, given, what, "start all ranks with the same one")
        agreed = from_root(self.comm, parsed)
        start_guard.over()  # all are there
        return agreed if isinstance(agreed, int) else [from_dict(*pair) for pair in zip(kinds, agreed, strict=True)]

    def on_nodes(self, config: Any, act: Callable[["Topology"], int]) -> int:
        """Do a command's work once its options are known; return its exit code. Collective; raises JobError.

        ``config``: says whether errors have tracebacks, and what the arrays of a process may take.
        """
        from common.errors import JobError
        from common.memory import THIS_PROCESS
        from ps.comm.topology import Topology

        self.rank_status.set_debug(config.debug)
        topology = Topology(self.comm, getattr(config, "ranks_per_node", 0))
        THIS_PROCESS.set(config.max_memory, topology.here)
        try:
            code = act(topology)
        except JobError:  # not finally: closing is collective, and an error of one rank alone must not wait there
            topology.close()
            raise
        topology.close()
        return code

    def report(self, error: "JobError") -> None:
        """Print an error that all ranks agreed on, while it is handled; with its traceback if that was asked for."""
        from common.status_line import erase

        erase()
        complain(f"rankwise: {error}", traceback.format_exc() if self.rank_status.debug else "")


def run(act: Callable[[Context], int], parse: Callable[[list[str]], object]) -> int:
    """Do a command's work on this rank; return the exit code, which ``act`` returns.

    If ``act`` raises JobError on all ranks instead, rank 0 prints it. ``parse``: reads the command line without MPI,
    see ``connect``.
    """
    open_closed()
    try:
        comm = connect(lambda: parse(sys.argv[1:]))
        if isinstance(comm, int):
            start_guard.over()
            return comm

        # only now: everything below needs MPI to be there
        from common.errors import JobError
        from common.rank_status import RankStatus
        from ps.comm.agreement import abort_on_error
        from workers.launch.signals import StopFlag
    except BaseException as error:
        start_guard.failed(error)
    rank_status = RankStatus()
    with abort_on_error(comm, rank_status):
        context = Context(comm, sys.argv[1:], StopFlag(rank_status.cells, comm.Abort), rank_status)
        try:
            code = act(context)
        except JobError as error:
            if comm.rank == 0:
                context.report(error)
            code = error.exit_code
        context.stop.over()
    start_guard.over()
    flush()
    return code
