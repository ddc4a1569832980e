"""Entry of a training process: ``mpirun -np 4 python -m workers.run --mode allreduce``."""

import sys
import traceback

from workers.launch.mpi import connect


def main() -> int:
    """Run one job on this rank; return its exit code."""
    comm = connect()
    if isinstance(comm, int):
        return comm

    # only now: everything below needs MPI to be there
    from common.errors import JobError
    from common.progress import RankStatus
    from ps.comm.agreement import abort_on_error
    from ps.comm.topology import Topology
    from ps.coordinator.seat import CoordinatorSeat
    from workers.elastic import survivors, ulfm
    from workers.launch.signals import StopFlag
    from workers.training.setup import configure, find_origin, prepare
    from workers.watchdog.spawn import WatchdogHandle

    rank_status, seat = RankStatus(), CoordinatorSeat()
    with abort_on_error(comm, rank_status):
        stop, watchdog = StopFlag(rank_status.cells, comm.Abort), WatchdogHandle(rank_status)
        job = topology = None
        try:
            configured = configure(comm, sys.argv[1:])
            if isinstance(configured, int):
                stop.over()
                return configured
            config = configured
            rank_status.debug = config.debug
            if config.elastic:
                ulfm.check_support(config, comm.size)
            topology = Topology(comm, config.ranks_per_node)
            watchdog.open(topology, config)
            # nothing here holds the origin: a checkpoint in it is as large as the model
            job = prepare(topology, config, find_origin(comm, config, rank_status), stop, rank_status, seat)
            watchdog.report_to(seat.coordinator, comm.size)
            code = survivors.train(job) if config.elastic else job.train()
        except JobError as error:
            if job is not None:
                job.checkpointing.close()
            if (comm if job is None else job.comm).rank == 0:
                if job is not None:
                    job.collect_death_notes(0.0)
                if seat.coordinator is not None:
                    seat.coordinator.fail(str(error))
                sys.stderr.write(f"rankwise: {error}\n")
                if rank_status.debug:
                    traceback.print_exc()
                sys.stderr.flush()
            code = error.exit_code
        stop.over()
        rank_status.phase = "checkpoint"
        if job is not None:
            job.checkpointing.close()
        rank_status.phase = "closing"
        if job is not None and job.config.elastic:
            ulfm.leave(rank_status, code)
        # all ranks are here, so what is freed together can be
        if job is not None:
            job.sync.close()
        if topology is not None:
            topology.close()
    watchdog.close()
    return code


if __name__ == "__main__":
    sys.exit(main())
