"""From the command line to a job that is ready to train, agreed on by all ranks."""

from functools import partial
from pathlib import Path
from typing import Any

from mpi4py import MPI

from common.config import RunConfig
from common.data.dataset import Dataset
from common.data.sampler import BY_RANK, SHARD, kind_of
from common.data.shards import SHARDS
from common.data.split_file import save_splits
from common.errors import EXIT_USAGE, JobError
from common.files import told, write_bytes
from common.rank_status import AT, EPOCH, N_PHASES, OUTSIDE, WAITING, RankStatus
from common.run_files import LOG_NAME, SPLITS_NAME, TRANSFORMER_NAME
from common.wording import count
from ps.comm.agreement import at_root, together
from ps.comm.topology import Topology
from ps.coordinator import display, earlier_run
from ps.coordinator.coordinator import Coordinator, CoordinatorSeat
from ps.coordinator.metric import Metric
from ps.coordinator.run_folder import cannot_begin, make_folder, remove_unfinished, require_writable, tidy
from ps.findings import row_balance
from ps.findings.detectors import before_training
from ps.findings.verdict import TrainingStart
from ps.logfile.lock import in_use
from ps.sync.modes import AUTO, MODES
from ps.text import column_table
from ps.text.contributions import NORM_RATIO
from ps.text.layout import output_width
from ps.text.run_facts import job_lines, trials_line
from ps.text.terminal import say, warn
from workers.checkpoint.resume import Origin, open_origin
from workers.launch import fault_spec
from workers.launch.blas_threads import blas_threads, limit_threads
from workers.launch.process import Context
from workers.preparation.transforming import saved_of_run
from workers.training import fault_injection, resumed
from workers.training.auto_mode import pick_fastest
from workers.training.build import TrainingParts, assemble, make_sampler
from workers.training.environment import facts_of_data, header_facts, timing
from workers.training.first_look import check_model, note_check
from workers.training.job import Job
from workers.training.memory_need import LEAST_MEMORY, check_memory
from workers.training.task import Task, check_labels, load, make_model, scale_target


def find_origin(comm: MPI.Comm, config: RunConfig, rank_status: RankStatus) -> Origin:
    """Return where training begins; rank 0's has the checkpoint, or the parameters to start from. Raises JobError."""
    rank_status.enter(WAITING if comm.rank else "reading the checkpoint")
    read: list[Origin] = []

    def look() -> dict[str, Any]:
        folder = earlier_run.find_run(config.resume, config.output) if config.resume else None
        origin = Origin() if folder is None else open_origin(folder, config)
        if config.start_from and origin.checkpoint is None:
            origin = origin.with_start(config)
        read.append(origin)
        return origin.as_dict()

    facts = at_root(comm, look)
    return read[0] if read else Origin.from_dict(facts)


def check_fit(config: RunConfig, origin: Origin, n_ranks: int) -> None:
    """Raise JobError, on all ranks, where options, ranks and the run to resume do not fit together."""
    if config.init == "per-rank" and config.mode != AUTO and not MODES[config.mode].replicas:
        raise JobError(
            f'init = "per-rank": mode {config.mode} keeps one copy of the parameters a node, so ranks cannot start '
            "apart; use --init broadcast or --mode allreduce",
            EXIT_USAGE,
        )
    if origin.mode and kind_of(config) == BY_RANK and origin.world != n_ranks:
        raise JobError(
            f"resume: {origin.folder} was begun by an earlier version with --rows shard, where each rank has rows of "
            f"its own, so that {n_ranks} ranks cannot continue for {origin.world}; start {origin.world} ranks, "
            f"or a new run from its parameters: --from {origin.folder}"
        )
    if config.balance != "off" and kind_of(config) == BY_RANK:
        raise JobError(
            f"balance: {origin.folder} was begun by an earlier version with --rows shard, where each rank has rows of "
            "its own; leave --balance out",
            EXIT_USAGE,
        )
    if config.balance != "off" and config.rows == SHARD and n_ranks > SHARDS:
        raise JobError(
            f"balance: with --rows shard a rank has one or more of {SHARDS} shards, which {n_ranks} ranks cannot have; "
            "use --rows shuffle",
            EXIT_USAGE,
        )


def check_data(config: RunConfig, origin: Origin, data: Dataset) -> None:
    """Raise JobError, on all ranks, where the data are not those of the run to resume, wherever they lie."""
    if not origin.folder:
        return
    then, now = origin.data, facts_of_data(data)
    differ = [
        f"{name} {_plain(then[name])} in the run, {_plain(now[name])} now"
        for name in ("features", "targets", "rows")
        if name in then and then[name] != now[name]
    ]
    if then["sha256"] not in ("", data.sha256):
        differ.insert(0, f"SHA-256 {then['sha256'][:12]}... in the run, {data.sha256[:12]}... now")
    if differ:
        alike = all(then.get(name, now[name]) == now[name] for name in ("features", "targets"))
        raise JobError(
            f"resume: data {config.data} is not what the run was trained on ({'; '.join(differ)}); give the place "
            "of those data with --data, or start a new run" + f" from its parameters: --from {origin.folder}" * alike
        )


def _plain(fact: Any) -> str:
    """Return a number as it is, and numbers by name as ``train 210, validation 30``."""
    return ", ".join(f"{name} {n}" for name, n in fact.items()) if isinstance(fact, dict) else str(fact)


def prepare(context: Context, topology: Topology, config: RunConfig, origin: Origin, seat: CoordinatorSeat) -> Job:
    """Build everything a job needs, open its log and write what is known before training. Raises JobError.

    If the seat has a coordinator by then, its log is open.
    """
    comm, rank_status = context.comm, context.rank_status
    threads = limit_threads(topology, most=blas_threads() if context.guest else 0)
    faults = together(comm, lambda: fault_spec.of_job(config.inject, comm.size))
    saved = together(comm, lambda: saved_of_run(origin.folder, origin.data)) if config.prepare else None
    fit = partial(check_data, config, origin)
    data = load(comm, config, rank_status, origin.scaling, fit, saved, context.stop.asked)
    at_root(comm, lambda: check_labels(origin.scaling, data))
    rank_status.enter("building the model")
    model = scale_target(comm, config, data, make_model(comm, config, data), rank_status, origin.scaling)
    joint = resumed.find_joint(config, origin)
    task = Task(config, fault_injection.skew(faults, data), model, joint)
    check_fit(config, origin, comm.size)
    if config.balance == "off" or len(origin.state.shares) != comm.size:
        origin.state.shares = ()
    check_memory(topology, task, LEAST_MEMORY if config.mode == AUTO else config.mode)
    checked = check_model(comm, config, task.data, model)
    resumed.count_anew(origin, make_sampler(config, data, comm.size, joint))
    mode, trials = _mode(topology, task, origin, rank_status)
    copies = comm.size if MODES[mode].replicas else topology.count
    together(comm, lambda: fault_injection.check(faults, config, make_sampler(config, data, comm.size), copies))
    kept_way = origin.sum_way if origin.world == comm.size and origin.mode == mode else ""
    parts = assemble(mode, topology, task, origin.state.shares, kept_way)
    _load(comm, parts, task, origin, rank_status)
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
    if origin.mode and not any(change["name"] == "mode" for change in origin.changes):
        return origin.mode, None
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
    job.rank_status.set_folder(Path(at_root(comm, lambda: _begin_log(job, origin, facts, of_sync))))
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


def _continued(folder: Path, origin: Origin) -> str:
    """Say where a job takes up a run."""
    step, before = origin.steps, count(origin.world, "rank")
    done = f", after {count(step, 'step')} of it" if step else ""
    return f"Continues {folder} at epoch {origin.state.epoch:,}{done}; before it ran on {before}"


def _begin_log(job: Job, origin: Origin, facts: dict[str, Any], of_sync: dict[str, Any]) -> str:
    """Make the run folder and the coordinator, and write the first record of this job; return the folder."""
    config, continues = job.config, bool(origin.folder)
    folder = Path(origin.folder) if continues else make_folder(config.output, f"{config.mode}-{job.comm.size}")
    require_writable(folder)
    try:
        coordinator = appoint(job, folder, facts, resumed=continues)
    except BlockingIOError:
        raise in_use(folder / LOG_NAME) from None
    except OSError as error:
        raise cannot_begin(folder, error, resumed=continues) from error
    tidy(folder)
    if job.data.transformer is not None and job.data.transformer.content:
        try:
            write_bytes(folder / TRANSFORMER_NAME, job.data.transformer.content)
        except OSError as error:
            raise cannot_begin(folder, error, resumed=continues) from error
    try:
        save_splits(folder, job.data)
    except OSError as error:
        warn(f"{SPLITS_NAME} could not be written ({told(error)}): which rows test is not kept")
    job.rank_status.set_folder(folder)
    of_steps = {"steps_per_epoch": job.trainer.loader.steps, "sync": of_sync}
    of_columns = column_table.lines(job.data.columns, output_width()) if job.data.columns else []
    tried = [trials_line(of_sync["trials"])] if of_sync["trials"] else []
    lines = job_lines({**facts, **of_steps, "config": config.as_dict()})
    say("\n".join((*of_columns, *lines, *tried, *job.data.notes)))
    if origin.start is not None:
        of_steps["start"] = origin.start.facts()
    if continues:
        say(_continued(folder, origin))
        _note_resume(job, origin, coordinator, {**facts, **of_steps})
    else:
        coordinator.header(
            **of_steps,
            timing=timing(job.sync.meter.timer),
            contribution={"method": "measured on the sampled_steps of each epoch, before and after the sum"},
        )
    if origin.start is not None:
        say(f"Starts from the parameters of {origin.start}{origin.start.taken_over()}.")
        for warning in origin.start.warnings(config, job.data.sha256):
            warn(warning)
    return str(folder)


def _note_resume(job: Job, origin: Origin, coordinator: Coordinator, facts: dict[str, Any]) -> None:
    """Write and print that this job continues a run, and what is different from now on."""
    state, config = origin.state, job.config
    rates = resumed.rates(config, origin, len(job.data.train))
    coordinator.recall(state.last["memory"])
    coordinator.event(
        "resume", epoch=state.epoch, step=origin.steps, ranks_before=origin.world, ranks=job.comm.size,
        passed_over=origin.faults, unlogged=origin.unlogged, **resumed.log_facts(config, origin, rates), **facts,
    )  # fmt: skip
    for fault in origin.faults:
        warn(f"passed over: {fault}")
    if origin.unlogged:
        first, last = origin.unlogged
        which = f"epoch {first} is" if first == last else f"epochs {first} to {last} are"
        warn(f"{coordinator.log.path}: {which} not in it, though trained: its end was cut off or lost")
    for note in origin.notes:
        say(note)
    note, is_warning = resumed.rate_note(config, origin, rates)
    if note:
        (warn if is_warning else say)(note)


def appoint(job: Job, folder: Path, facts: dict[str, Any], *, resumed: bool, lock: bool = True) -> Coordinator:
    """Make this rank the coordinator of a run in a folder, of a new one or of one that has a log; return it.

    ``facts``: what the header says of the job, or would.
    """
    config, steps, cells = job.config, job.trainer.loader.steps, job.rank_status.cells

    def place() -> tuple[int, int]:
        at = cells[AT]
        return cells[EPOCH], steps if at == OUTSIDE else at // N_PHASES

    score = job.trainer.score
    metric = Metric(score.varies(), score.unit, score.mixed)
    shown = display.make(config.epochs, config.verbose, place, steps)
    coordinator = Coordinator(folder, config, facts, metric, resumed=resumed, lock=lock, display=shown)
    job.seat.appoint(coordinator)
    remove_unfinished(folder)  # once the log is locked: no other job writes here
    job.checkpointing.open(folder)
    return coordinator
