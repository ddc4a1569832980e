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
    from common.progress import Position
    from ps.comm.agreement import abort_on_error
    from ps.comm.topology import Nodes
    from workers.elastic import survivors, ulfm
    from workers.launch.signals import StopFlag
    from workers.training.setup import configure, find_origin, open_log, prepare
    from workers.watchdog.spawn import Watch

    position = Position()
    with abort_on_error(comm, position):
        stop, watch = StopFlag(position.cells, comm.Abort), Watch(position)
        job = nodes = None
        try:
            configured = configure(comm, sys.argv[1:])
            if isinstance(configured, int):
                stop.over()
                return configured
            config = configured
            position.debug = config.debug
            if config.elastic:
                ulfm.check_support(config, comm.size)
            nodes = Nodes(comm, config.ranks_per_node)
            watch.open(nodes, config)
            origin = find_origin(comm, config, position)
            job = prepare(comm, nodes, config, origin, stop, position)
            open_log(job, nodes)
            watch.report_to(job.coordinator, comm.size)
            code = survivors.train(job) if config.elastic else job.train()
        except JobError as error:
            if job is not None:
                job.saving.close()
            if (comm if job is None else job.comm).rank == 0:
                if job is not None and job.coordinator is not None:
                    job.bring_words(0.0)
                    job.coordinator.fail(str(error))
                sys.stderr.write(f"rankwise: {error}\n")
                if position.debug:
                    traceback.print_exc()
                sys.stderr.flush()
            code = error.exit_code
        stop.over()
        position.phase = "checkpoint"
        if job is not None:
            job.saving.close()
        position.phase = "closing"
        if job is not None and job.config.elastic:
            ulfm.leave(position, code)
        # all ranks are here, so what is freed together can be
        if job is not None:
            job.sync.close()
        if nodes is not None:
            nodes.close()
    watch.close()
    return code


if __name__ == "__main__":
    sys.exit(main())
