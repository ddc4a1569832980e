"""A job on ranks that are there already: at its end they are as before, ready for the next one."""

from mpi4py import MPI

from common.config import RunConfig
from common.errors import JobError
from common.memory import THIS_PROCESS
from common.rank_status import RankStatus
from ps.comm.agreement import abort_on_error
from ps.comm.topology import Topology
from ps.coordinator.seat import CoordinatorSeat
from workers.launch.process import Context
from workers.launch.signals import StopRequest
from workers.training.job import Job
from workers.training.setup import find_origin, prepare


def train(comm: MPI.Intracomm, config: RunConfig, stop: StopRequest, *, guest: bool = False) -> int:
    """Run a job; return its exit code. Collective. Raises JobError, on all ranks. ``guest``: see Context.

    No watchdog looks at them: it would take the end of this process for a failure of the job. Any other error of one
    rank ends all, since they would wait for it.
    """
    own, rank_status = comm.Dup(), RankStatus()
    try:
        with abort_on_error(own, rank_status):
            return _train(Context(own, [], stop, rank_status, guest=guest), config)
    finally:
        rank_status.close()
        own.Free()


def _train(context: Context, config: RunConfig) -> int:
    comm, rank_status, seat = context.comm, context.rank_status, CoordinatorSeat()
    topology = Topology(comm, config.ranks_per_node)
    THIS_PROCESS.set(config.max_memory, topology.here)
    job: Job | None = None
    try:
        job = prepare(context, topology, config, find_origin(comm, config, rank_status), seat)
        code = job.train()
    except JobError as error:
        if job is not None:
            job.checkpointing.close()
        if seat.coordinator is not None:
            seat.coordinator.fail(str(error))
        _close(topology, job, seat)
        raise
    _close(topology, job, seat)
    return code


def _close(topology: Topology, job: Job | None, seat: CoordinatorSeat) -> None:
    if job is not None:
        job.checkpointing.close()
        job.sync.close()
    topology.close()
    if seat.coordinator is not None:
        seat.coordinator.log.close()
