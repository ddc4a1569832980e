"""From the command line to a job that is ready to train, agreed on by all ranks."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpi4py import MPI

from common.config import OPTIONS, WIRES, RunConfig
from common.data.dataset import Dataset
from common.data.sampler import BY_RANK, SHARD, kind_of
from common.data.shards import SHARDS
from common.errors import EXIT_USAGE, JobError
from common.rank_status import WAITING, RankStatus
from ps.comm.agreement import at_root, attempt, from_root, together
from ps.comm.collectives import meet
from ps.comm.topology import Topology
from ps.coordinator.seat import CoordinatorSeat
from ps.findings import row_balance
from ps.findings.starting import before_training
from ps.findings.verdict import TrainingStart
from ps.sync import wires
from ps.sync.modes import AUTO, MODES
from ps.sync.sum_ways import has_effect
from ps.text.contributions import NORM_RATIO
from ps.text.terminal import say
from workers.checkpoint.origin import Origin
from workers.launch import fault_spec
from workers.launch.blas_threads import blas_threads, limit_threads
from workers.launch.process import Context
from workers.training import fault_injection, resumed
from workers.training.build import TrainingParts, assemble, make_sampler
from workers.training.environment import facts_of_data, header_facts
from workers.training.first_look import check_model, note_check
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


def check_fit(config: RunConfig, origin: Origin, n_ranks: int) -> None:
    """Raise JobError, on all ranks, where options, ranks and the run to resume do not fit together."""
    if config.init == "per-rank" and config.mode != AUTO and not MODES[config.mode].apart:
        why = (
            "keeps parameters that are those of all ranks"
            if MODES[config.mode].replicas
            else "keeps one copy of the parameters a node"
        )
        raise JobError(
            f'init = "per-rank": mode {config.mode} {why}, so ranks cannot start '
            "apart; use --init broadcast or --mode allreduce",
            EXIT_USAGE,
        )
    _check_mode_options(config, origin)
    if config.servers == "all":
        _check_servers(config)
    if config.simulate_delay and n_ranks > 1:
        raise JobError(
            f"simulate_delay: {config.simulate_delay} is for one process, but there are {n_ranks} ranks, whose delays "
            "are real; leave it out, or start one rank",
            EXIT_USAGE,
        )
    if config.wait_for > n_ranks and _is_given(origin, "wait_for"):
        raise JobError(
            f"wait_for: got {config.wait_for}, but only {n_ranks} ranks have gradients; allowed is at most as many, "
            "and 0 for all but one",
            EXIT_USAGE,
        )
    if config.heal and config.mode != AUTO and MODES[config.mode].serves and _is_given(origin, "heal"):
        raise JobError(
            f"heal: has no effect in mode {config.mode}, where each rank gets its parameters anew from those that "
            "serve them; leave it out",
            EXIT_USAGE,
        )
    _check_sum_algorithm(config, origin)
    check_wire(config, origin)
    if origin.mode and kind_of(config) == BY_RANK and origin.world != n_ranks:
        raise JobError(
            f"resume: {origin.folder} was begun by an earlier version with --rows shard, where each rank has rows of "
            f"its own, so that {n_ranks} ranks cannot continue for {origin.world}; start {origin.world} ranks, "
            f"or a new run from its parameters: --from {origin.folder}"
        )
    if config.balance != "off" and config.mode != AUTO and MODES[config.mode].serves:
        raise JobError(
            f"balance: {config.balance} has no effect in mode {config.mode}, where ranks take rows as they come for "
            "more; leave it out, or choose --mode allreduce",
            EXIT_USAGE,
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


def _check_mode_options(config: RunConfig, origin: Origin) -> None:
    """Raise JobError, on all ranks, where an option is given that the mode does nothing with."""
    for name, one in OPTIONS.items():
        value = getattr(config, name)
        if one.modes and value != one.default and config.mode not in one.modes and _is_given(origin, name):
            raise JobError(
                f"{name}: {value} has no effect in mode {config.mode}; leave it out, or choose "
                f"--mode {' or '.join(one.modes)}",
                EXIT_USAGE,
            )


def _check_servers(config: RunConfig) -> None:
    """Raise JobError, on all ranks, where servers of slices would have to know more than their slice."""
    whole = "each server has a slice of a gradient alone"
    gone, single = "with a rank its slice of the optimizer's state is gone", "that is for one process"
    reasons = {"clip": whole, "max_delay": whole, "elastic": gone, "simulate_delay": single}
    for name, reason in reasons.items():
        if getattr(config, name) != OPTIONS[name].default:
            raise JobError(
                f"{name}: does not go with --servers all: {reason}; leave it out, or use --servers one", EXIT_USAGE
            )


def _check_sum_algorithm(config: RunConfig, origin: Origin) -> None:
    """Raise JobError, on all ranks, where a way to sum is given that the mode, or its wire, does not take."""
    if config.mode == AUTO or not _is_given(origin, "sum_algorithm"):
        return
    mode, way = MODES[config.mode], config.sum_algorithm
    of_wire = config.wire in mode.wires and config.wire != wires.EXACT
    if has_effect(way, () if of_wire else mode.algorithms):
        return
    at = f"mode {config.mode}{f' with --wire {config.wire}' if of_wire else ''}"
    modes = [name for name, one in MODES.items() if has_effect(way, one.algorithms) and name != config.mode]
    raise JobError(
        f"sum_algorithm: {way} has no effect in {at}; leave it out, or choose one of --mode {', '.join(modes)}",
        EXIT_USAGE,
    )


def _is_given(origin: Origin, option: str) -> bool:
    """Say whether an option is meant for this job, not for the run that it resumes."""
    return not origin.folder or _has_changed(origin, option)


def check_wire(config: RunConfig, origin: Origin) -> None:
    """Raise JobError, on all ranks, where a wire or an option of one has no effect."""
    taken = () if config.mode == AUTO else MODES[config.mode].wires
    if config.wire not in (wires.EXACT, *taken):
        able = [name for name, mode in MODES.items() if config.wire in mode.wires]
        problem = f"is not one that mode {config.mode} takes" if taken else f"has no effect in mode {config.mode}"
        raise JobError(
            f"wire: {config.wire} {problem}; use --wire {' or '.join(taken or [wires.EXACT])}, or choose one of "
            f"--mode {', '.join(able)}",
            EXIT_USAGE,
        )
    if config.wire != wires.EXACT and config.simulate_delay:
        raise JobError(
            f"wire: {config.wire} has no effect with --simulate-delay, where nothing is sent; leave one of them out",
            EXIT_USAGE,
        )
    for name, one in OPTIONS.items():
        given = not origin.folder or _has_changed(origin, name)
        if name.startswith("wire_") and given and getattr(config, name) != one.default:
            takes = [wire for wire in WIRES if name in wires.find(wire).options]
            if config.wire not in takes:
                raise JobError(
                    f"{name}: has no effect with --wire {config.wire}; leave it out, or choose --wire "
                    f"{' or '.join(takes)}",
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
    anew = config.measure_sums or _has_changed(origin, "sum_algorithm")
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


def _has_changed(origin: Origin, option: str) -> bool:
    return any(change["name"] == option for change in origin.changes)


def _saved_transformer(comm: MPI.Comm, origin: Origin) -> "Saved | None":
    from workers.preparation.transforming import saved_of_run

    return together(comm, lambda: saved_of_run(origin.folder, origin.data))


def _mode(
    topology: Topology, task: Task, origin: Origin, rank_status: RankStatus
) -> tuple[str, list[dict[str, Any]] | None]:
    """Return the mode to train in, and what was measured to choose it, if anything was. Collective."""
    if task.config.mode != AUTO:
        return task.config.mode, None
    if origin.mode and not _has_changed(origin, "mode"):
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
