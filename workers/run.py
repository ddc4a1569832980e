"""Entry of a training process: ``mpirun -np 4 python -m workers.run --mode allreduce``."""

import sys
from typing import TYPE_CHECKING

from workers.launch import process

if TYPE_CHECKING:
    from common.errors import JobError
    from ps.comm.topology import Topology
    from ps.coordinator.seat import CoordinatorSeat
    from workers.training.job import Job


def main() -> int:
    """Run one job on this rank; return its exit code."""
    return process.run(_train, _parse)


def _parse(arguments: list[str]) -> object:
    from ps.sync import mode_names
    from workers.launch.run_options import parse

    return parse(arguments, mode_names.read())


def _options(arguments: list[str]) -> object:
    from ps.sync.modes import help_lines
    from workers.launch.run_options import parse

    return parse(arguments, help_lines())


def _train(context: process.Context) -> int:
    from common.config import RunConfig
    from common.errors import JobError
    from common.memory import THIS_PROCESS
    from common.run_files import note_start
    from ps.comm.topology import Topology
    from ps.coordinator.seat import CoordinatorSeat
    from workers.training.for_rank_0 import load_for_rank_0
    from workers.training.setup import find_origin, prepare
    from workers.watchdog.spawn import WatchdogHandle

    comm, rank_status, seat = context.comm, context.rank_status, CoordinatorSeat()
    watchdog = WatchdogHandle(rank_status, seat)
    job = topology = None
    try:
        if comm.rank == 0:
            load_for_rank_0()  # while the others load what they need: later they would wait for that
        agreed = context.agree(lambda: _options(context.arguments), RunConfig, environment=True)
        if isinstance(agreed, int):
            return agreed
        (config,) = agreed
        if comm.rank == 0:
            note_start(config.output)
        rank_status.set_debug(config.debug)
        if config.elastic:
            from workers.elastic import survivors, ulfm

            load_for_rank_0()  # which any rank may become
            ulfm.check_support(config, comm.size)
        topology = Topology(comm, config.ranks_per_node)
        THIS_PROCESS.set(config.max_memory, topology.here)
        watchdog.open(topology, config)
        # nothing here holds the origin: a checkpoint in it is as large as the model
        job = prepare(context, topology, config, find_origin(comm, config, rank_status), seat)
        watchdog.report_to(seat.coordinator, topology)
        code = survivors.train(job) if config.elastic else job.train()
    except JobError as error:
        _fail(context, seat, job, error)
        code = error.exit_code
    if job is not None and job.config.elastic:
        watchdog.tidy()
    _close(context, topology, job, code)
    watchdog.close()
    if seat.coordinator is not None:
        seat.coordinator.log.close()  # which lets other jobs write to it
    return code


def _fail(context: process.Context, seat: "CoordinatorSeat", job: "Job | None", error: "JobError") -> None:
    """Close the log of a job that all ranks agreed to end, and print why, at rank 0."""
    if job is not None:
        job.checkpointing.close()
    if (context.comm if job is None else job.comm).rank:
        return
    if job is not None:
        job.collect_death_notes(0.0)
    if seat.coordinator is not None:
        seat.coordinator.fail(str(error))
    context.report(error)


def _close(context: process.Context, topology: "Topology | None", job: "Job | None", code: int) -> None:
    """Give back what is held; all ranks are here, so what is freed together can be."""
    context.stop.over()
    context.rank_status.enter("checkpoint")
    if job is not None:
        job.checkpointing.close()
    context.rank_status.enter("closing")
    if job is not None and job.config.elastic:
        from workers.elastic import ulfm

        ulfm.leave(context.rank_status, code)
    if job is not None:
        job.sync.close()
    if topology is not None:
        topology.close()


if __name__ == "__main__":
    sys.exit(main())
