"""From the command line to a job that is ready to train, agreed on by all ranks."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpi4py import MPI

from common.config import RunConfig
from common.errors import JobError
from common.rank_status import WAITING, RankStatus
from ps.comm.agreement import at_root, attempt, from_root, together
from ps.comm.collectives import meet
from ps.comm.topology import Topology
from ps.coordinator.seat import CoordinatorSeat
from ps.findings import row_balance
from ps.findings.starting import before_training
from ps.findings.verdict import TrainingStart
from ps.sync.modes import AUTO, MODES
from ps.text.contributions import NORM_RATIO
from ps.text.terminal import say
from workers.checkpoint.origin import Origin
from workers.launch import fault_spec
from workers.launch.blas_threads import blas_threads, limit_threads
from workers.launch.process import Context
from workers.training import fault_injection, resumed
from workers.training.build import TrainingParts, assemble, make_sampler
from workers.training.environment import header_facts
from workers.training.first_look import check_model, note_check
from workers.training.fit import check_data, check_fit, has_changed
from workers.training.job import Job
from workers.training.memory_need import check_memory
from workers.training.task import Task, check_labels, load, make_model, scale_target

if TYPE_CHECKING:
    from workers.preparation.transforming import Saved


def find_origin(comm: MPI.Comm, config: RunConfig, rank_status: RankStatus) -> Origin:
    """Return where training begins; rank 0's has the checkpoint, or the parameters to start from. Raises JobError."""
    rank_status.enter(WAITING if comm.rank else "reading the checkpoint")
    read: list[Origin] = []

    def look() -> dict[str, Any]:
        from ps.coordinator import earlier_run
        from workers.checkpoint.resume import open_origin, with_start

        folder = earlier_run.find_run(config.resume, config.output) if config.resume else None
        origin = Origin() if folder is None else open_origin(folder, config)
        if config.start_from and origin.checkpoint is None:
            origin = with_start(origin, config)
        read.append(origin)
        return origin.as_dict()

    facts = at_root(comm, look)
    return read[0] if read else Origin.from_dict(facts)


def prepare(context: Context, topology: Topology, config: RunConfig, origin: Origin, seat: CoordinatorSeat) -> Job:
    """Build everything a job needs, open its log and write what is known before training. Raises JobError.

    If the seat has a coordinator by then, its log is open.
    """
    comm, rank_status = context.comm, context.rank_status
    threads = limit_threads(topology, most=blas_threads() if context.guest else 0)
    faults = together(comm, lambda: fault_spec.of_job(config.inject, comm.size))
    saved = _saved_transformer(comm, origin) if config.prepare else None
    fit = partial(check_data, config, origin)
    data = load(comm, config, rank_status, origin.scaling, fit, saved, context.stop.asked)
    at_root(comm, lambda: check_labels(origin.scaling, data))
    rank_status.enter("building the model")
    model = scale_target(comm, config, data, make_model(comm, config, data), rank_status, origin.scaling)
    joint = resumed.find_joint(config, origin)
    task = Task(config, fault_injection.skew(faults, data, config, comm.size), model, joint)
    check_fit(config, origin, comm.size)
    if config.balance == "off" or len(origin.state.shares) != comm.size:
        origin.state.shares = ()
    check_memory(topology, task, config.mode)
    checked = check_model(comm, config, task.data, model)
    resumed.count_anew(origin, make_sampler(config, data, comm.size, joint))
    mode, trials = _mode(topology, task, origin, rank_status)
    copies = 1 if MODES[mode].serves else comm.size if MODES[mode].replicas else topology.count
    together(comm, lambda: fault_injection.check(faults, config, make_sampler(config, data, comm.size), copies))
    anew = config.measure_sums or has_changed(origin, "sum_algorithm")
    kept_way = origin.sum_way if origin.world == comm.size and origin.mode == mode and not anew else ""
    parts = assemble(mode, topology, task, origin.state.shares, kept_way, rank_status.tick)
    _load(comm, parts, task, origin, rank_status)
    job = Job(context, task, parts, origin.state, seat, threads)
    of_sync = {
        "mode": mode,
        "in_place": MODES[mode].in_place,
        "divides_state": MODES[mode].divides_state,
        "state_bytes": parts.sync.state.optimizer_bytes(),
        **parts.sync.facts(),
        "trials": trials,
    }
    try:
        open_log(job, topology, origin, of_sync)
    except JobError:  # the caller does not have the job yet
        job.checkpointing.close()
        job.sync.close()
        raise
    if checked and seat.coordinator is not None:
        note_check(seat.coordinator, checked)
    return job


def _saved_transformer(comm: MPI.Comm, origin: Origin) -> "Saved | None":
    from workers.preparation.transforming import saved_of_run

    return together(comm, lambda: saved_of_run(origin.folder, origin.data))


def _mode(
    topology: Topology, task: Task, origin: Origin, rank_status: RankStatus
) -> tuple[str, list[dict[str, Any]] | None]:
    """Return the mode to train in, and what was measured to choose it, if anything was. Collective."""
    if task.config.mode != AUTO:
        return task.config.mode, None
    if origin.mode and not has_changed(origin, "mode"):
        return origin.mode, None
    from workers.training.auto_mode import pick_fastest

    rank_status.enter("choosing a mode")
    chosen = pick_fastest(topology, task, rank_status.tick)
    rank_status.enter("building the model")
    return chosen


def _load(comm: MPI.Comm, parts: TrainingParts, task: Task, origin: Origin, rank_status: RankStatus) -> None:
    """Continue from the checkpoint, if there is one, or start from the given parameters. Collective."""
    state, content, start = parts.sync.state, origin.checkpoint, origin.start
    if not origin.mode and not task.config.start_from:
        return
    rank_status.enter("loading the checkpoint")
    if not origin.mode:
        at_root(comm, lambda: start.fill(state.flat) if start else None)
        if task.config.carry:
            state.load(together(comm, lambda: start.saved_state(state) if start else None))
        state.broadcast()
        return
    steps = resumed.steps_then(task.config, origin, len(task.data.train))
    state.load(together(comm, lambda: None if content is None else content.saved_state(state, steps)))
    parts.sync.seek(origin.state.before.steps)


def open_log(job: Job, topology: Topology, origin: Origin, of_sync: dict[str, Any]) -> None:
    """Make the run folder and the coordinator, write the header, then what was found out about the start."""
    comm, config, data = job.comm, job.config, job.data
    job.rank_status.enter("opening the log")
    facts = header_facts(topology, job.task, job.sync.flat, job.threads)

    def begin() -> str:
        from workers.training.log_start import begin_log  # with the coordinator, which the other ranks need not load

        return begin_log(job, origin, facts, of_sync)

    outcome = attempt(begin) if comm.rank == 0 else None
    meet(comm)  # it waits for files
    job.rank_status.set_folder(Path(from_root(comm, outcome)))
    sampler = make_sampler(config, data, comm.size, shares=job.state.shares)
    balance = row_balance.measure(comm, data, sampler)
    findings, unjudged = before_training(TrainingStart(comm, config, data, job.sync.flat.param_vector), balance)

    def note() -> None:
        coordinator = job.seat.here()
        fault_injection.announce(coordinator, fault_spec.of_job(config.inject, comm.size))
        coordinator.queue.append("balance", **balance)
        coordinator.findings.unjudged.update(unjudged)
        for finding in (*findings, *coordinator.findings.start()):
            coordinator.verdict(finding)
        if config.verbose:
            say(NORM_RATIO)
        coordinator.display.open()

    at_root(comm, note)
    job.rank_status.enter("training")
