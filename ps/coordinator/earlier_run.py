"""An earlier run: the one to resume or to start from, which that is, and what its log says of it."""

import contextlib
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from common.config import OPTIONS, RunConfig
from common.errors import RankwiseError
from common.files import require_regular
from common.option import from_dict
from common.run_files import CONFIG_NAME, LOG_NAME, MODEL_NAME, RUNS, checkpoints_in, is_without_log, log_path
from ps.logfile.rebuilt import read_config
from ps.logfile.records import Record
from ps.logfile.salvage import SalvageReader


@dataclass(frozen=True, slots=True)
class EarlierRun:
    """What the log of a run says to those who continue it.

    ``config``, ``model``: the options and the model of its last job, as the log has them. ``end``: its last record, if
    it came to its end or was stopped. ``early_stop``: the event that ended it, if patience did. ``headless``: whether
    the header is lost, and ``header`` and options are made of ``config.toml``. ``last_epoch``: the last one in the log.
    """

    header: Record
    config: Any
    model: Any = None
    end: Record = field(default_factory=dict)
    early_stop: Record = field(default_factory=dict)
    headless: bool = False
    last_epoch: int = 0

    @property
    def done(self) -> bool:
        """Whether it came to its end."""
        return bool(self.end.get("status") == "ok")


def read_run(log: Path) -> EarlierRun:
    """Read a log, of a damaged one what is whole. Raises RankwiseError, also if nothing says what was trained."""
    header: Record = {}
    end: Record = {}
    early_stop: Record = {}
    config = model = None
    found, last_epoch = False, 0
    for record in SalvageReader(log).records() if os.path.lexists(log) else ():
        found = True
        kind, what = record["kind"], record.get("what")
        if kind == "header":
            header, config, model = record, record.get("config"), record.get("model")
        elif kind == "epoch":
            last_epoch = max(last_epoch, record["epoch"] if type(record.get("epoch")) is int else 0)
        elif kind == "end":
            end = record
        elif kind == "event" and what == "resume":
            config, model, end, early_stop = record.get("config", config), record.get("model", model), {}, {}
        elif kind == "event" and what == "early-stop":
            early_stop = record
    if header:
        return EarlierRun(header, config, model, end, early_stop, last_epoch=last_epoch)
    return _without_header(log, EarlierRun({}, config, model, end, early_stop, last_epoch=last_epoch), found=found)


def _without_header(log: Path, run: EarlierRun, *, found: bool) -> EarlierRun:
    """Return what can be said of a run whose header is lost. ``found``: whether its log holds any whole record."""
    if not found and not checkpoints_in(log.parent):
        raise RankwiseError(
            f"resume: {log} holds no record: the earlier job ended while it created the log, and nothing was trained; "
            f"start a new run, in the same folder once {log.name} and config.toml are removed"
        )
    config = run.config or read_config(log.parent)
    if not config:
        raise RankwiseError(
            f"resume: {log} has lost its header, and {log.parent / CONFIG_NAME}, which holds the same options, is not "
            f"there or damaged too; write a {CONFIG_NAME} with the options that the run was started with, and resume "
            f"again, or start a new run from its newest checkpoint: --from {log.parent}"
        )
    return replace(run, header={"world": 0, "data": {"sha256": ""}}, config=config, headless=True)


def find_run(resume: str, output: str) -> Path | None:
    """Return the folder of the run to resume.

    ``auto`` takes ``output``, or else the newest run under runs/ that has a checkpoint and is not done; None if there
    is none. Raises RankwiseError where a run is named that is not there.
    """
    if resume != "auto":
        named = Path(resume).expanduser()
        for folder in (named, RUNS / named) if named.name == str(named) else (named,):
            if is_without_log(folder):
                return folder
        return log_path(named).parent
    if output:
        folder = Path(output).expanduser()
        return folder if (folder / LOG_NAME).is_file() or is_without_log(folder) else None
    return _newest_unfinished(RUNS)


def _newest_unfinished(folder: Path) -> Path | None:
    found = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            run = folder / entry.name
            with contextlib.suppress(OSError):  # it is no run, or one of somebody else
                if entry.is_dir(follow_symlinks=False) and checkpoints_in(run):
                    found.append((_written(run), run))
    for _, run in sorted(found, reverse=True):
        with contextlib.suppress(RankwiseError):  # its log cannot be read
            if not _is_done(run):
                return run
    return None


def _written(run: Path) -> float:
    """Return when a run was written last: its log, or where that is gone, its newest checkpoint. Raises OSError."""
    log = run / LOG_NAME
    return (log if log.is_file() else checkpoints_in(run)[0]).stat().st_mtime


def known_config(values: Any, header: Record | None = None) -> RunConfig | None:
    """Return the configuration of an earlier job; None if it is none that this version knows.

    ``header``: of its log, which tells what versions have decided that had less options.
    """
    if not isinstance(values, dict) or not values.keys() <= OPTIONS.keys():
        return None
    if not isinstance(values.get("hidden"), list):
        return None
    before = {name: one.before for name, one in OPTIONS.items() if one.before is not None}
    if header is not None and values.get("loss") == "auto" and _is_older(values, header):
        values = {**values, "loss": _loss_of(header)}
    before["split_seed"] = values.get("seed", 0)  # --seed decided, before the split had a seed of its own
    with contextlib.suppress(RankwiseError):
        return from_dict(RunConfig, {**before, **values, "resume": ""})
    return None


def _is_older(values: Any, header: Record) -> bool:
    """Say whether a run's version decided otherwise what to train: by type, or several targets always as numbers."""
    data = header.get("data")
    several = isinstance(data, dict) and data.get("targets") != 1
    return "standardize_target" not in values or ("split_seed" not in values and several)


def _loss_of(header: Record) -> str:
    """Return the loss that a run was trained with which chose it by itself."""
    data = header.get("data")
    return "mse" if isinstance(data, dict) and data.get("classes") is None else "cross-entropy"


def saved_options(folder: Path) -> dict[str, Any]:
    """Return the options of a run that its next job takes over: those that do not belong to its last job alone.

    Raises RankwiseError.
    """
    run = read_run(folder / LOG_NAME)
    config = known_config(run.config, run.header)
    if config is None:
        raise RankwiseError(f"resume: the log of {folder} holds no configuration that this version knows")
    return {name: value for name, value in asdict(config).items() if OPTIONS[name].on_resume != "own"}


OF_THE_START = (
    "data", "target", "header", "index_column", "standardize", "standardize_target", "test_fraction",
    "validation_fraction", "test_data", "validation_data", "split_seed", "group", "time", "weight", "class_weight",
    "seed", "model", "hidden", "activation", "loss", "dtype",
)  # fmt: skip
"""Options that a run takes over from the one it starts from, unless others are given: what is trained on which rows."""


def start_file(source: str) -> Path:
    """Return the file of parameters that ``--from`` names: a file, or a run's model if it is done, else its folder.

    In a folder the newest whole checkpoint is to be taken. Raises RankwiseError.
    """
    path = Path(source).expanduser()
    if path.is_file() and path.name != LOG_NAME:
        return path
    if not path.exists() and path.name == str(path) and (RUNS / path).is_dir():
        path = RUNS / path
    folder = path.parent if path.is_file() else path
    if not folder.is_dir():
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            _refuse_other(path)
        raise RankwiseError(
            f"from: no run and no file {source}; give a run folder (they are under runs/), a checkpoint-*.npz or a "
            f"{MODEL_NAME}"
        )
    try:
        has_checkpoints, has_model = bool(checkpoints_in(folder)), (folder / MODEL_NAME).is_file()
    except OSError as error:
        raise RankwiseError(f"from: {folder} cannot be read ({error.strerror})") from error
    if not has_checkpoints and not has_model:
        raise RankwiseError(f"from: {folder} holds neither a checkpoint nor a {MODEL_NAME}; give another run or file")
    done = False
    with contextlib.suppress(RankwiseError):
        done = _is_done(folder)
    return folder / MODEL_NAME if has_model and (done or not has_checkpoints) else folder


def _refuse_other(path: Path) -> None:
    """Raise RankwiseError for what is neither a folder nor a regular file; FileNotFoundError if there is nothing."""
    try:
        require_regular(path)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise RankwiseError(f"from: {path} cannot be read ({error.strerror})") from error


def _is_done(folder: Path) -> bool:
    """Say whether a run came to its end; one that has lost its log, if its model is there. Raises RankwiseError."""
    if is_without_log(folder):
        return (folder / MODEL_NAME).is_file()
    return read_run(folder / LOG_NAME).done


def start_options(source: str) -> dict[str, Any]:
    """Return the options that a run takes over from the one it starts from; none if that has no log here.

    Raises RankwiseError.
    """
    path = start_file(source)
    log = (path if path.is_dir() else path.parent) / LOG_NAME
    config = None
    if log.is_file():
        with contextlib.suppress(RankwiseError):  # the parameters are all that is needed
            run = read_run(log)
            config = known_config(run.config, run.header)
    return {} if config is None else {name: getattr(config, name) for name in OF_THE_START}
