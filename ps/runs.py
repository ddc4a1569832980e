"""Folders of runs: which one to go on with, and what its log says of it."""

import contextlib
import re
from pathlib import Path
from typing import Any

from common.errors import RankwiseError
from ps.checkpoint import all_in
from ps.log import FAILURE_NAME, LOG_NAME, RUNS, LogReader, Record, log_path

NUMBERED = re.compile(r"failure-(\d{1,9})\.txt")


def put_failure_aside(folder: Path) -> None:
    """Give the message a job failed with a number, the next one free, so that a later job can leave its own.

    Raises OSError, also if there is none.
    """
    taken = [int(match[1]) for path in folder.iterdir() if (match := NUMBERED.fullmatch(path.name))]
    (folder / FAILURE_NAME).rename(folder / f"failure-{max(taken, default=0) + 1}.txt")


def header_of(log: Path) -> Record:
    """Return the first record of a log. Raises RankwiseError."""
    for record in LogReader(log).records():
        return record
    raise RankwiseError(
        f"resume: {log} holds no record, for the job before ended while it made the log, and nothing was trained; "
        f"start a new run, in the same folder once {log.name} and config.toml are removed"
    )


def last_config(log: Path) -> Any:
    """Return the configuration of the last job that wrote to a log. Raises RankwiseError."""
    config = header_of(log).get("config")
    for entry in LogReader(log).entries():
        if entry.kind == "event" and entry.record().get("what") == "resume":
            config = entry.record().get("config", config)
    return config


def is_done(log: Path) -> bool:
    """Say whether a run came to its end. Raises LogError."""
    done = False
    for entry in LogReader(log).entries():
        if entry.kind == "end":
            done = entry.record().get("status") == "ok"
    return done


def tidy(folder: Path) -> None:
    """Put away what an earlier job of the folder left: its last word, and files it was writing when it ended."""
    if (folder / FAILURE_NAME).exists():
        put_failure_aside(folder)
    for pattern in (".checkpoint-*.npz.*", "progress-*", "stack-*.txt", "death-*.json"):
        for left in folder.glob(pattern):
            with contextlib.suppress(OSError):
                left.unlink()


def find(resume: str, output: str) -> Path | None:
    """Return the folder of the run to go on with.

    ``auto`` takes ``output``, or else the newest run under runs/ that has a checkpoint and is not done; None if there
    is none. Raises RankwiseError where a run is named that is not there.
    """
    if resume != "auto":
        return log_path(Path(resume).expanduser()).parent
    if output:
        folder = Path(output).expanduser()
        return folder if (folder / LOG_NAME).is_file() else None
    return newest(RUNS)


def newest(folder: Path) -> Path | None:
    """Return the run written to last of those that can go on."""
    try:
        runs = [run for run in folder.iterdir() if not run.is_symlink() and (run / LOG_NAME).is_file() and all_in(run)]
        runs.sort(key=lambda run: (run / LOG_NAME).stat().st_mtime, reverse=True)
    except OSError:
        return None
    return next((run for run in runs if _can_go_on(run / LOG_NAME)), None)


def _can_go_on(log: Path) -> bool:
    try:
        return not is_done(log)
    except RankwiseError:
        return False
