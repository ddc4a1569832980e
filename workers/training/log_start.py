"""Rank 0 opens the log of a job: run folder, coordinator, and what is written and said before training."""

from pathlib import Path
from typing import Any

from common.data.split_file import save_splits
from common.files import told, write_bytes
from common.rank_status import AT, EPOCH, N_PHASES, OUTSIDE
from common.run_files import LOG_NAME, SPLITS_NAME, TRANSFORMER_NAME
from common.wording import count
from ps.coordinator import display
from ps.coordinator.coordinator import Coordinator
from ps.coordinator.metric import Metric
from ps.coordinator.run_folder import cannot_begin, make_folder, remove_unfinished, require_writable, tidy
from ps.logfile.lock import in_use
from ps.text import column_table
from ps.text.layout import output_width
from ps.text.run_facts import job_lines, trials_line
from ps.text.terminal import say, warn
from workers.checkpoint.origin import Origin
from workers.training import resumed
from workers.training.environment import timing
from workers.training.job import Job


def _continued(folder: Path, origin: Origin) -> str:
    """Say where a job takes up a run."""
    step, before = origin.steps, count(origin.world, "rank")
    done = f", after {count(step, 'step')} of it" if step else ""
    return f"Continues {folder} at epoch {origin.state.epoch:,}{done}; before it ran on {before}"


def begin_log(job: Job, origin: Origin, facts: dict[str, Any], of_sync: dict[str, Any]) -> str:
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
