"""From the command line to a job that is ready to train, agreed on by all ranks."""

import os
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from mpi4py import MPI

from common.config import RunConfig
from common.data.dataset import Dataset
from common.errors import EXIT_USAGE, JobError
from common.nn.functional import MeanSquaredError
from common.nn.mlp import Mlp
from common.nn.models import Model
from common.progress import WAITING, RankStatus
from ps.comm.agreement import at_root, same_everywhere, together
from ps.comm.topology import Topology
from ps.coordinator import run_folder
from ps.coordinator.coordinator import Coordinator
from ps.coordinator.run_folder import make_folder
from ps.findings import replicas_differ, row_balance, skewed_rows, targets_differ
from ps.findings.verdict import Verdict
from ps.sync.modes import AUTO, HELP, MODES
from ps.text.stdout import warn
from workers.checkpoint.resume import Origin, open_origin, state_of
from workers.checkpoint.saving import Saving
from workers.launch import fault_spec, run_options
from workers.launch.blas_threads import limit_threads
from workers.launch.signals import StopFlag
from workers.training import fault_injection
from workers.training.auto_mode import pick_fastest
from workers.training.build import assemble, deal
from workers.training.environment import header_facts, timing
from workers.training.epoch_totals import EpochTotals
from workers.training.job import Job
from workers.training.loading import load, make_model
from workers.training.loop import Trainer
from workers.training.step_faults import StepFaults


def configure(comm: MPI.Comm, arguments: list[str]) -> RunConfig | int:
    """Return the configuration all ranks agree on, or the exit code after ``--help``. Raises JobError."""
    environment = sorted(f"{k}={v}" for k, v in os.environ.items() if k.startswith(run_options.PREFIX))
    # as bytes, for they need not be UTF-8; parsing will say so
    given = msgpack.packb([[os.fsencode(text) for text in texts] for texts in (arguments, environment)])
    same_everywhere(comm, given, "command line or RANKWISE_ environment", "start all ranks with the same one")

    def parse() -> Any:
        parsed = run_options.parse(arguments, HELP)
        return parsed if isinstance(parsed, int) else parsed.as_dict()

    agreed = at_root(comm, parse)
    if isinstance(agreed, int):
        return agreed
    return RunConfig.from_dict(agreed)


def find_origin(comm: MPI.Comm, config: RunConfig, rank_status: RankStatus) -> Origin:
    """Return where training begins; rank 0's has the checkpoint. Raises JobError."""
    rank_status.phase = WAITING if comm.rank else "reading the checkpoint"
    read: list[Origin] = []

    def look() -> dict[str, Any] | None:
        folder = run_folder.find(config.resume, config.output) if config.resume else None
        if folder is None:
            return None
        read.append(open_origin(folder))
        return read[0].facts()

    facts = at_root(comm, look)
    return Origin() if facts is None else Origin.from_facts(facts, read[0].snapshot if read else None)


def check_fit(config: RunConfig, origin: Origin, data: Dataset, n_ranks: int) -> None:
    """Raise JobError, on all ranks, where options, data and the run that is gone on with do not fit together."""
    if config.init == "per-rank" and config.mode != AUTO and not MODES[config.mode].replicas:
        raise JobError(
            f'init = "per-rank": mode {config.mode} keeps one copy of the parameters a node, so ranks cannot start '
            "apart; use --init broadcast or --mode allreduce",
            EXIT_USAGE,
        )
    if origin.data_sha256 not in ("", data.sha256):
        raise JobError(
            f"resume: data {data.name} is not what the run was trained on; give the same data, or start anew"
        )
    if origin.loads and config.rows == "shard" and origin.world != n_ranks:
        raise JobError(
            f"resume: with --rows shard each rank has rows of its own, so that {n_ranks} ranks cannot go on for "
            f"{origin.world}; start {origin.world} ranks"
        )


def prepare(
    comm: MPI.Comm, topology: Topology, config: RunConfig, origin: Origin, stop: StopFlag, rank_status: RankStatus
) -> Job:
    """Build everything a job needs and write the log's header. Raises JobError."""
    threads = limit_threads(topology)
    asked = together(comm, lambda: fault_spec.of_job(config.inject, comm.size))
    data, mean, scale = load(comm, config, rank_status)
    rank_status.phase = "building the model"
    data.train = fault_injection.order(asked, data)
    model = make_model(comm, config, data)
    check_fit(config, origin, data, comm.size)
    mode, trials = config.mode, None
    if mode == AUTO and origin.mode:
        mode = origin.mode
    elif mode == AUTO:
        rank_status.phase = "choosing a mode"
        mode, trials = pick_fastest(topology, config, data, model, rank_status.tick)
        rank_status.phase = "building the model"
    copies = comm.size if MODES[mode].replicas else topology.count
    together(comm, lambda: fault_injection.check(asked, config, deal(config, data, comm.size), copies))
    parts = assemble(mode, topology, config, data, model)
    done = (origin.epoch - 1) * parts.loader.steps + origin.before.steps
    sync = fault_injection.place(asked, parts.sync, parts.timer, comm.rank, done)
    if origin.loads:
        rank_status.phase = "loading the checkpoint"
        snapshot, into = origin.snapshot, (parts.sync, parts.loader.steps)
        parts.sync.load(together(comm, lambda: None if snapshot is None else state_of(snapshot, *into)))
        origin.snapshot = None
    saving = Saving(comm, config, parts.sync, parts.loader.steps)
    saving.before, saving.tick = origin.before, rank_status.tick
    step_faults = StepFaults(comm, config, parts.sync, saving, rank_status)
    step_faults.skipped = origin.skipped
    parts.sync.seek(origin.before.steps)
    totals = EpochTotals(sync) if config.elastic else None
    trainer = Trainer(config, data, model, parts.loader, totals or sync, stop, rank_status, step_faults)
    step_faults.not_finite = trainer.not_finite
    facts = {"mode": mode, **parts.sync.facts(), "trials": trials}
    return Job(
        comm, config, data, (mean, scale), model, trainer, parts.sync, parts.timer, stop, rank_status, threads, facts,
        origin, saving, step_faults, totals=totals,
    )  # fmt: skip


def open_log(job: Job, topology: Topology) -> None:
    """Make the run folder and the coordinator, write the header, then what was found out about the start.

    Raises JobError; if there is a coordinator by then, its log is open.
    """
    comm, config, data = job.comm, job.config, job.data
    job.rank_status.phase = "opening the log"
    facts = header_facts(topology, config, data, job.model, job.sync.flat, job.threads)
    job.rank_status.folder = Path(at_root(comm, lambda: _begin_log(job, topology, facts)))
    spread = row_balance.measure(comm, data, deal(config, data, comm.size))
    findings = _compare(job)
    if "targets-differ" not in [finding.code for finding in findings]:
        findings += filter(None, (skewed_rows.skewed_labels(spread), skewed_rows.skewed_targets(spread)))

    def note() -> None:
        lead = job.lead()
        fault_injection.announce(lead)
        lead.spool.append("balance", **spread)
        for finding in (*findings, *lead.findings.start()):
            lead.verdict(finding)

    at_root(comm, note)
    job.rank_status.phase = "training"


def _begin_log(job: Job, topology: Topology, facts: dict[str, Any]) -> str:
    """Make the run folder and the coordinator, and write the first record of this job; return the folder."""
    config, origin, resumed = job.config, job.origin, bool(job.origin.folder)
    folder = Path(origin.folder) if resumed else make_folder(config.output, config.mode, job.comm.size)
    lead = appoint(job, folder, resumed=resumed)
    run_folder.tidy(folder)  # behind the lock on the log: no other job writes here
    job.rank_status.folder = folder
    if resumed:
        lead.recall(origin.memory, facts)
        lead.event(
            "resume", epoch=origin.epoch, step=origin.before.steps, ranks_before=origin.world, ranks=job.comm.size,
            passed_over=origin.faults, epochs=config.epochs, config=config.as_dict(), **facts,
        )  # fmt: skip
        for fault in origin.faults:
            warn(f"passed over: {fault}")
        return str(folder)
    lead.header(
        **facts,
        steps_per_epoch=job.trainer.loader.steps,
        sync=job.sync_facts,
        timing=timing(topology, job.timer),
        contribution={"method": "measured on the sampled_steps of each epoch, before and after the sum"},
    )
    return str(folder)


def appoint(job: Job, folder: Path, *, resumed: bool, lock: bool = True) -> Coordinator:
    """Make this rank the coordinator of a run in a folder, of a new one or of one that has a log; return it."""
    config, spread = job.config, _spread(job.data, job.model)
    lead = job.coordinator = Coordinator(folder, config, job.sync.flat, spread, resumed=resumed, lock=lock)
    job.saving.outcome, job.step_faults.event = lead.checkpointed, lead.event
    job.saving.about = lambda: {
        "config": config.as_dict(),
        "mode": job.sync_facts["mode"],
        "data_sha256": job.data.sha256,
        "coordinator": lead.memory(),
        "skipped": list(job.step_faults.skipped),
    }
    if config.init == "broadcast":  # else each rank has parameters of its own, and one file does not hold them
        job.saving.open(folder)
    return lead


def _compare(job: Job) -> list[Verdict]:
    """Return what ranks find when they compare what they start from. Collective."""
    comm, config, data = job.comm, job.config, job.data
    found = []
    if config.init == "per-rank":
        found.append(replicas_differ.replicas_differ(comm, job.sync.flat.param_vector))
    if config.rows == "shard" and config.model == "linear":
        low, high = len(data.train) * comm.rank // comm.size, len(data.train) * (comm.rank + 1) // comm.size
        own = data.train[low:high]
        found.append(targets_differ.targets_differ(comm, data.x[own], data.y[own]))
    return [finding for finding in found if finding]


def _spread(data: Dataset, model: Model | Mlp) -> dict[str, float]:
    """Return the summed squared deviation of the target by split, over the number of targets; empty for classes."""
    if not isinstance(model.loss, MeanSquaredError):
        return {}
    parts = {"validation": data.y[data.validation], "test": data.y[data.test]}
    return {k: float(np.square(y - y.mean(axis=0)).sum()) / data.n_targets if len(y) else 0.0 for k, y in parts.items()}
