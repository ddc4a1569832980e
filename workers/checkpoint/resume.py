"""Where a job begins: at the start, with the parameters of another run, or where an earlier job of the run was."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from common.config import RunConfig
from common.errors import EXIT_USAGE, JobError, RankwiseError
from common.files import told
from common.run_files import LOG_NAME, checkpoints_in
from ps.coordinator import earlier_run
from ps.coordinator.earlier_run import EarlierRun
from ps.logfile.lock import refuse_locked
from ps.logfile.validation import TEXT, Validator, table
from ps.sync.training_state import BEST
from workers.checkpoint import changes, checkpoint_file
from workers.checkpoint.content import COUNT, CheckpointContent
from workers.checkpoint.job_state import JobState
from workers.checkpoint.origin import Origin
from workers.checkpoint.start import read_start

HEADER = table(data=table(sha256=TEXT), world=COUNT)
"""What the log's header must say for a run to be resumed."""


def with_start(origin: Origin, config: RunConfig) -> Origin:
    """Return the same that begins with the parameters that ``--from`` names. Raises RankwiseError."""
    source = config.start_from
    start = read_start(source)
    start.check(config)
    if not origin.folder:
        start.check_model(config)
    if origin.start_sha256 not in ("", start.sha256):
        raise RankwiseError(
            f"resume: {origin.folder} started from parameters in {source} that are others now (SHA-256 "
            f"{origin.start_sha256[:12]}... then, {start.sha256[:12]}... now), and has no checkpoint; start a new run"
        )
    return replace(origin, start=start if config.carry else replace(start, content=None))


def open_origin(folder: Path, config: RunConfig) -> Origin:
    """Read the newest whole checkpoint of a run; without any, training begins again. Raises RankwiseError.

    ``config``: of the job that resumes it.
    """
    log = folder / LOG_NAME
    if log.exists():
        refuse_locked(log)
    run = earlier_run.read_run(log)
    if bad := Validator().fault(run.header, HEADER):
        raise RankwiseError(f"resume: the log of {folder}: header{bad}; start a new run")
    last = earlier_run.known_config(run.config, run.header)
    try:
        trained = bool(checkpoints_in(folder))
    except OSError as error:  # training must not begin again for that
        raise RankwiseError(
            f"resume: {told(error)}; its checkpoints cannot be found; make the folder readable"
        ) from error
    of_model = changes.changed_model(run.model, config, of="resume", trained=trained)
    if run.done:
        _check_more(folder, run, last, config)
    snapshot, faults = checkpoint_file.newest(folder)
    started = run.header.get("start")
    common: dict[str, Any] = {
        "folder": str(folder), "data": run.header["data"], "faults": faults,
        "start_sha256": str(started.get("sha256", "")) if isinstance(started, dict) else "",
    }  # fmt: skip
    if snapshot is None:
        return _from_the_beginning(run, last, config, common, of_model)
    content = CheckpointContent.read(snapshot, snapshot.path)
    if run.headless:
        common["data"] = {"sha256": content.data_sha256}
    then = earlier_run.known_config(content.config, run.header) or last
    done, epoch = content.done_epochs, content.done_epochs + bool(content.before.steps)
    if config.epochs < epoch:
        raise JobError(
            f"resume: epochs: got {config.epochs}, but {snapshot.path} is of epoch {epoch}; give at "
            f"least {epoch}, or start a new run from its parameters: --from {folder}",
            EXIT_USAGE,
        )
    content, anew = _with_patience(content, config, again=run.done and bool(run.early_stop))
    memory = content.coordinator
    state = JobState(
        epoch=done + 1,
        before=content.before,
        last={"epoch": done, "improved": False, "memory": memory},
        skipped=content.skipped,
        shares=content.shares,
        best_kept=content.has_best,
        over=not content.before.steps and has_run_out(config.patience, done, memory),
    )
    found = [*of_model, *changes.changed_options(then, config, trained=content.step > 0, anew=anew)]
    notes = [changes.sentence(found)]
    if anew:
        notes.append(f"The run had stopped early after epoch {done}; patience is counted again from there.")
    return Origin(
        **common, state=state, mode=content.mode, sum_way=content.sum_way, step=content.step,
        steps=content.before.steps, world=content.world,
        then={} if then is None else then.as_dict(), changes=changes.plain(found), notes=[n for n in notes if n],
        checkpoint=content, unlogged=[run.last_epoch + 1, done] if run.last_epoch < done else [],
    )  # fmt: skip


def has_run_out(patience: int, epoch: int, memory: dict[str, Any]) -> bool:
    """Say whether, after an epoch, training ends for lack of a lower validation loss. ``memory``: the coordinator's."""
    return bool(patience) and epoch - max(memory["best_epoch"], memory.get("patience_from", 0)) >= patience


def _check_more(folder: Path, run: EarlierRun, last: RunConfig | None, config: RunConfig) -> None:
    """Raise JobError unless there is more to train of a run that came to its end."""
    epochs = last.epochs if last else run.end.get("epochs", 0)
    if config.epochs > epochs:
        return
    new_run = f"for a new run with its parameters: --from {folder}"
    if not run.early_stop:
        raise JobError(
            f"resume: {folder} is done: it has trained its {epochs} epochs; to train on, give more: --epochs "
            f"{2 * epochs}; {new_run}",
            EXIT_USAGE,
        )
    epoch, best = run.early_stop.get("epoch"), run.early_stop.get("best_epoch")
    patience = last.patience if last else 0
    if config.patience and config.patience <= patience:
        raise JobError(
            f"resume: {folder} is done: it stopped early after epoch {epoch}, {patience} epochs without a lower "
            f"validation loss than in epoch {best}; to train on, give a larger --patience (0: no early stop) or more "
            f"--epochs than {epochs}; {new_run}",
            EXIT_USAGE,
        )


def _from_the_beginning(
    run: EarlierRun, last: RunConfig | None, config: RunConfig, common: dict[str, Any], of_model: list[changes.Change]
) -> Origin:
    """Return the origin of a run without a checkpoint. Raises JobError if it came to its end."""
    folder = common["folder"]
    if run.done:
        raise JobError(
            f"resume: {folder} is done and holds no checkpoint to train on from: model.npz has the parameters, but not "
            f"the optimizer's state; start a new run from it: --from {folder}",
            EXIT_USAGE,
        )
    found = [*of_model, *changes.changed_options(last, config, trained=False, anew=False)]
    notes = ["The run has no checkpoint: training begins again.", changes.sentence(found)]
    return Origin(
        **common, world=run.header["world"], changes=changes.plain(found), notes=[n for n in notes if n]
    )  # fmt: skip


def _with_patience(content: CheckpointContent, config: RunConfig, *, again: bool) -> tuple[CheckpointContent, bool]:
    """Return the content as early stopping is to continue with it, and whether patience is counted again.

    Without patience the last parameters are the result, and the best ones are not needed any more. Where nobody has
    kept the best ones so far, they are looked for from here on. ``again``: patience has ended the run, and more epochs
    were asked for.
    """
    memory, done, anew = content.coordinator, content.done_epochs, False
    if not config.patience:
        arrays = {name: array for name, array in content.arrays.items() if not name.startswith(f"{BEST}/")}
        return replace(content, arrays=arrays), False
    if not content.has_best and memory["best_loss"] is not None:
        memory = {**memory, "best_loss": None, "best_epoch": 0, "patience_from": done}
    elif again and has_run_out(config.patience, done, memory):
        memory, anew = {**memory, "patience_from": done}, True
    return replace(content, coordinator=memory), anew
