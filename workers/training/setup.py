"""From the command line to a job that is ready to train, agreed on by all ranks."""

from pathlib import Path
from typing import Any

from mpi4py import MPI

from common.config import RunConfig
from common.data.dataset import Dataset
from common.errors import EXIT_USAGE, JobError
from common.rank_status import WAITING, RankStatus
from ps.comm.agreement import at_root, together
from ps.comm.topology import Topology
from ps.coordinator import earlier_run
from ps.coordinator.coordinator import Coordinator, CoordinatorSeat, Metric
from ps.coordinator.run_folder import make_folder, tidy
from ps.findings import row_balance
from ps.findings.detectors import before_training
from ps.findings.verdict import TrainingStart
from ps.sync.modes import AUTO, MODES
from ps.text.terminal import say, warn
from workers.checkpoint.resume import Origin, open_origin
from workers.launch import fault_spec
from workers.launch.blas_threads import limit_threads
from workers.launch.process import Context
from workers.training import fault_injection
from workers.training.auto_mode import pick_fastest
from workers.training.build import TrainingParts, assemble, make_sampler
from workers.training.environment import header_facts, timing
from workers.training.first_look import check_model, note_check
from workers.training.job import Job
from workers.training.task import Task, load, make_model, scale_target


def find_origin(comm: MPI.Comm, config: RunConfig, rank_status: RankStatus) -> Origin:
    """Return where training begins; rank 0's has the checkpoint. Raises JobError."""
    rank_status.enter(WAITING if comm.rank else "reading the checkpoint")
    read: list[Origin] = []

    def look() -> dict[str, Any]:
        folder = earlier_run.find_run(config.resume, config.output) if config.resume else None
        read.append(Origin() if folder is None else open_origin(folder, config.patience))
        return read[0].as_dict()

    facts = at_root(comm, look)
    return read[0] if read else Origin.from_dict(facts)


def check_fit(config: RunConfig, origin: Origin, data: Dataset, n_ranks: int) -> None:
    """Raise JobError, on all ranks, where options, data and the run to resume do not fit together."""
    if config.init == "per-rank" and config.mode != AUTO and not MODES[config.mode].replicas:
        raise JobError(
            f'init = "per-rank": mode {config.mode} keeps one copy of the parameters a node, so ranks cannot start '
            "apart; use --init broadcast or --mode allreduce",
            EXIT_USAGE,
        )
    if origin.data_sha256 not in ("", data.sha256):
        raise JobError(
            f"resume: data {data.name} is not what the run was trained on; give the same data, or start a new run"
        )
    if origin.mode and config.rows == "shard" and origin.world != n_ranks:
        raise JobError(
            f"resume: with --rows shard each rank has rows of its own, so that {n_ranks} ranks cannot continue for "
            f"{origin.world}; start {origin.world} ranks"
        )


def prepare(context: Context, topology: Topology, config: RunConfig, origin: Origin, seat: CoordinatorSeat) -> Job:
    """Build everything a job needs, open its log and write what is known before training. Raises JobError.

    If the seat has a coordinator by then, its log is open.
    """
    comm, rank_status, threads = context.comm, context.rank_status, limit_threads(topology)
    faults = together(comm, lambda: fault_spec.of_job(config.inject, comm.size))
    data = load(comm, config, rank_status)
    rank_status.enter("building the model")
    model = scale_target(comm, config, data, make_model(comm, config, data), rank_status)
    task = Task(config, fault_injection.skew(faults, data), model)
    check_fit(config, origin, data, comm.size)
    checked = check_model(comm, config, task.data, model)
    mode, trials = _mode(topology, task, origin, rank_status)
    copies = comm.size if MODES[mode].replicas else topology.count
    together(comm, lambda: fault_injection.check(faults, config, make_sampler(config, data, comm.size), copies))
    parts = assemble(mode, topology, task)
    _load(comm, parts, origin, rank_status)
    job = Job(context, task, parts, origin.state, seat, threads)
    of_sync = {"mode": mode, "in_place": MODES[mode].in_place, **parts.sync.facts(), "trials": trials}
    try:
        open_log(job, topology, origin, of_sync)
    except JobError:  # the caller does not have the job yet
        job.checkpointing.close()
        job.sync.close()
        raise
    if checked and seat.coordinator is not None:
        note_check(seat.coordinator, checked)
    return job


def _mode(
    topology: Topology, task: Task, origin: Origin, rank_status: RankStatus
) -> tuple[str, list[dict[str, Any]] | None]:
    """Return the mode to train in, and what was measured to choose it, if anything was. Collective."""
    if task.config.mode != AUTO:
        return task.config.mode, None
    if origin.mode:
        return origin.mode, None
    rank_status.enter("choosing a mode")
    chosen = pick_fastest(topology, task, rank_status.tick)
    rank_status.enter("building the model")
    return chosen


def _load(comm: MPI.Comm, parts: TrainingParts, origin: Origin, rank_status: RankStatus) -> None:
    """Continue from the checkpoint, if there is one. Collective."""
    if not origin.mode:
        return
    rank_status.enter("loading the checkpoint")
    state, content = parts.sync.state, origin.checkpoint
    steps = parts.loader.steps
    state.load(together(comm, lambda: None if content is None else content.saved_state(state, steps)))
    parts.sync.seek(origin.state.before.steps)


def open_log(job: Job, topology: Topology, origin: Origin, of_sync: dict[str, Any]) -> None:
    """Make the run folder and the coordinator, write the header, then what was found out about the start."""
    comm, config, data = job.comm, job.config, job.data
    job.rank_status.enter("opening the log")
    facts = header_facts(topology, job.task, job.sync.flat, job.threads)
    job.rank_status.set_folder(Path(at_root(comm, lambda: _begin_log(job, origin, facts, of_sync))))
    balance = row_balance.measure(comm, data, make_sampler(config, data, comm.size))
    findings, unjudged = before_training(TrainingStart(comm, config, data, job.sync.flat.param_vector), balance)

    def note() -> None:
        coordinator = job.seat.here()
        for text in data.notes:
            say(text)
        fault_injection.announce(coordinator, fault_spec.of_job(config.inject, comm.size))
        coordinator.queue.append("balance", **balance)
        coordinator.findings.unjudged.update(unjudged)
        for finding in (*findings, *coordinator.findings.start()):
            coordinator.verdict(finding)

    at_root(comm, note)
    job.rank_status.enter("training")


def _begin_log(job: Job, origin: Origin, facts: dict[str, Any], of_sync: dict[str, Any]) -> str:
    """Make the run folder and the coordinator, and write the first record of this job; return the folder."""
    config, resumed = job.config, bool(origin.folder)
    folder = Path(origin.folder) if resumed else make_folder(config.output, f"{config.mode}-{job.comm.size}")
    coordinator = appoint(job, folder, facts, resumed=resumed)
    tidy(folder)  # once the log is locked: no other job writes here
    job.rank_status.set_folder(folder)
    if resumed:
        state = origin.state
        coordinator.recall(state.last["memory"])
        coordinator.event(
            "resume", epoch=state.epoch, step=state.before.steps, ranks_before=origin.world, ranks=job.comm.size,
            passed_over=origin.faults, epochs=config.epochs, config=config.as_dict(), **facts,
        )  # fmt: skip
        for fault in origin.faults:
            warn(f"passed over: {fault}")
        return str(folder)
    coordinator.header(
        steps_per_epoch=job.trainer.loader.steps,
        sync=of_sync,
        timing=timing(job.sync.meter.timer),
        contribution={"method": "measured on the sampled_steps of each epoch, before and after the sum"},
    )
    return str(folder)


def appoint(job: Job, folder: Path, facts: dict[str, Any], *, resumed: bool, lock: bool = True) -> Coordinator:
    """Make this rank the coordinator of a run in a folder, of a new one or of one that has a log; return it.

    ``facts``: what the header says of the job, or would.
    """
    score = job.trainer.score
    metric = Metric(score.varies(), score.unit, score.mixed)
    coordinator = Coordinator(folder, job.config, facts, metric, resumed=resumed, lock=lock)
    job.seat.appoint(coordinator)
    job.checkpointing.open(folder)
    return coordinator
