"""From the command line to a job that is ready to train, agreed on by all ranks."""

from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from common.config import RunConfig
from common.data.dataset import Dataset
from common.errors import EXIT_USAGE, JobError
from common.flat import Array
from common.nn.functional import MeanSquaredError
from common.nn.mlp import Mlp
from common.nn.models import Model
from common.rank_status import WAITING, RankStatus
from ps.comm.agreement import at_root, together
from ps.comm.topology import Topology
from ps.coordinator import run_folder
from ps.coordinator.coordinator import Coordinator, Metric
from ps.coordinator.run_folder import make_folder
from ps.coordinator.seat import CoordinatorSeat
from ps.findings import row_balance
from ps.findings.detectors import before_training
from ps.findings.verdict import TrainingStart
from ps.metrics.rank_row import RankRow
from ps.sync.modes import AUTO, MODES
from ps.text.terminal import warn
from workers.checkpoint.checkpointing import Checkpointing
from workers.checkpoint.resume import Origin, open_origin
from workers.launch import fault_spec
from workers.launch.blas_threads import limit_threads
from workers.launch.signals import StopFlag
from workers.training import fault_injection
from workers.training.auto_mode import pick_fastest
from workers.training.build import TrainingParts, assemble, make_sampler, sync_facts
from workers.training.environment import header_facts, timing
from workers.training.epoch_totals import EpochTotals
from workers.training.job import Job
from workers.training.loading import load, make_model
from workers.training.loop import Trainer, TrainingStep
from workers.training.membership import Membership
from workers.training.step_faults import StepFaults


def find_origin(comm: MPI.Comm, config: RunConfig, rank_status: RankStatus) -> Origin:
    """Return where training begins; rank 0's has the checkpoint. Raises JobError."""
    rank_status.enter(WAITING if comm.rank else "reading the checkpoint")
    read: list[Origin] = []

    def look() -> dict[str, Any] | None:
        folder = run_folder.find(config.resume, config.output) if config.resume else None
        if folder is None:
            return None
        read.append(open_origin(folder))
        return read[0].facts()

    facts = at_root(comm, look)
    return Origin() if facts is None else Origin.from_facts(facts, read[0].checkpoint if read else None)


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
    if origin.loads and config.rows == "shard" and origin.world != n_ranks:
        raise JobError(
            f"resume: with --rows shard each rank has rows of its own, so that {n_ranks} ranks cannot continue for "
            f"{origin.world}; start {origin.world} ranks"
        )


def prepare(
    topology: Topology,
    config: RunConfig,
    origin: Origin,
    stop: StopFlag,
    rank_status: RankStatus,
    seat: CoordinatorSeat,
) -> Job:
    """Build everything a job needs, open its log and write what is known before training. Raises JobError.

    If the seat has a coordinator by then, its log is open.
    """
    comm, threads = topology.comm, limit_threads(topology)
    faults = together(comm, lambda: fault_spec.of_job(config.inject, comm.size))
    data, mean, scale = load(comm, config, rank_status)
    rank_status.enter("building the model")
    data.train = fault_injection.order(faults, data)
    model = make_model(comm, config, data)
    check_fit(config, origin, data, comm.size)
    mode, trials = _mode(topology, config, data, model, origin, rank_status)
    copies = comm.size if MODES[mode].replicas else topology.count
    together(comm, lambda: fault_injection.check(faults, config, make_sampler(config, data, comm.size), copies))
    parts = assemble(mode, topology, config, data, model)
    _load(comm, parts, origin, rank_status)
    done = (origin.epoch - 1) * parts.loader.steps + origin.before.steps
    step = fault_injection.place(faults, parts.sync, comm.rank, done)
    job = make_job(
        topology, config, origin, (data, (mean, scale), model), parts, step, stop, rank_status, seat, threads
    )
    open_log(job, topology, origin, {**sync_facts(parts), "trials": trials})
    return job


def make_job(
    topology: Topology,
    config: RunConfig,
    origin: Origin,
    trained: tuple[Dataset, tuple[Array, Array], Model | Mlp],
    parts: TrainingParts,
    step: TrainingStep,
    stop: StopFlag,
    rank_status: RankStatus,
    seat: CoordinatorSeat,
    threads: tuple[int, str],
) -> Job:
    """Put a job together. ``trained``: data, mean and scale of the features, model. ``step``: what takes the steps."""
    comm, sync, steps = topology.comm, parts.sync, parts.loader.steps
    data, scaling, model = trained
    state, totals = origin.job_state(config), EpochTotals(step) if config.elastic else None
    checkpointing = Checkpointing(
        comm, config, sync.state, steps, state, seat, rank_status.tick, mode=parts.mode, data_sha256=data.sha256
    )
    step_faults = StepFaults(comm, config, sync.state, steps, state, seat, rank_status)
    trainer = Trainer(config, data, model, parts.loader, totals or step, stop, rank_status, step_faults, checkpointing)
    return Job(
        comm=comm, config=config, data=data, scaling=scaling, model=model, state=state, seat=seat, sync=sync,
        trainer=trainer, checkpointing=checkpointing, step_faults=step_faults, totals=totals,
        membership=Membership.of_all(comm) if config.elastic else None, stop=stop,
        rank_status=rank_status, threads=threads, row=RankRow(len(sync.flat.shapes)),
    )  # fmt: skip


def _mode(
    topology: Topology, config: RunConfig, data: Dataset, model: Model | Mlp, origin: Origin, rank_status: RankStatus
) -> tuple[str, list[dict[str, Any]] | None]:
    """Return the mode to train in, and what was measured to choose it, if anything was. Collective."""
    if config.mode != AUTO:
        return config.mode, None
    if origin.mode:
        return origin.mode, None
    rank_status.enter("choosing a mode")
    chosen = pick_fastest(topology, config, data, model, rank_status.tick)
    rank_status.enter("building the model")
    return chosen


def _load(comm: MPI.Comm, parts: TrainingParts, origin: Origin, rank_status: RankStatus) -> None:
    """Continue from the checkpoint, if there is one. Collective."""
    if not origin.loads:
        return
    rank_status.enter("loading the checkpoint")
    state, content = parts.sync.state, origin.checkpoint
    steps = parts.loader.steps
    state.load(together(comm, lambda: None if content is None else content.saved_state(state, steps)))
    parts.sync.seek(origin.before.steps)


def open_log(job: Job, topology: Topology, origin: Origin, of_sync: dict[str, Any]) -> None:
    """Make the run folder and the coordinator, write the header, then what was found out about the start."""
    comm, config, data = job.comm, job.config, job.data
    job.rank_status.enter("opening the log")
    facts = header_facts(topology, config, data, job.model, job.sync.flat, job.threads)
    job.rank_status.set_folder(Path(at_root(comm, lambda: _begin_log(job, topology, origin, facts, of_sync))))
    balance = row_balance.measure(comm, data, make_sampler(config, data, comm.size))
    findings = before_training(TrainingStart(comm, config, data, job.sync.flat.param_vector), balance)

    def note() -> None:
        coordinator = job.seat.here()
        fault_injection.announce(coordinator)
        coordinator.queue.append("balance", **balance)
        for finding in (*findings, *coordinator.findings.start()):
            coordinator.verdict(finding)

    at_root(comm, note)
    job.rank_status.enter("training")


def _begin_log(job: Job, topology: Topology, origin: Origin, facts: dict[str, Any], of_sync: dict[str, Any]) -> str:
    """Make the run folder and the coordinator, and write the first record of this job; return the folder."""
    config, resumed = job.config, bool(origin.folder)
    folder = Path(origin.folder) if resumed else make_folder(config.output, config.mode, job.comm.size)
    coordinator = appoint(job, folder, facts, resumed=resumed)
    run_folder.tidy(folder)  # once the log is locked: no other job writes here
    job.rank_status.set_folder(folder)
    if resumed:
        coordinator.recall(origin.memory)
        coordinator.event(
            "resume", epoch=origin.epoch, step=origin.before.steps, ranks_before=origin.world, ranks=job.comm.size,
            passed_over=list(origin.faults), epochs=config.epochs, config=config.as_dict(), **facts,
        )  # fmt: skip
        for fault in origin.faults:
            warn(f"passed over: {fault}")
        return str(folder)
    coordinator.header(
        steps_per_epoch=job.trainer.loader.steps,
        sync=of_sync,
        timing=timing(topology, job.sync.meter.timer),
        contribution={"method": "measured on the sampled_steps of each epoch, before and after the sum"},
    )
    return str(folder)


def appoint(job: Job, folder: Path, facts: dict[str, Any], *, resumed: bool, lock: bool = True) -> Coordinator:
    """Make this rank the coordinator of a run in a folder, of a new one or of one that has a log; return it.

    ``facts``: what the header says of the job, or would.
    """
    coordinator = Coordinator(folder, job.config, facts, _metric(job.data, job.model), resumed=resumed, lock=lock)
    job.seat.appoint(coordinator)
    job.checkpointing.open(folder)
    return coordinator


def _metric(data: Dataset, model: Model | Mlp) -> Metric:
    """Return by what the model is judged."""
    if not isinstance(model.loss, MeanSquaredError):
        return Metric({})
    rows = {"validation": data.y[data.validation], "test": data.y[data.test]}
    squares = {split: float(np.square(y - y.mean(axis=0)).sum()) if len(y) else 0.0 for split, y in rows.items()}
    return Metric({split: total / data.n_targets for split, total in squares.items()})
