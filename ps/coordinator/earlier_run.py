"""The run to resume: which it is, and what its log says of it."""

import contextlib
from pathlib import Path
from typing import Any

from common.errors import RankwiseError
from common.run_files import LOG_NAME, RUNS, checkpoints_in, log_path
from ps.logfile.reader import LogReader
from ps.logfile.records import Record


def find_run(resume: str, output: str) -> Path | None:
    """Return the folder of the run to resume.

    ``auto`` takes ``output``, or else the newest run under runs/ that has a checkpoint and is not done; None if there
    is none. Raises RankwiseError where a run is named that is not there.
    """
    if resume != "auto":
        return log_path(Path(resume).expanduser()).parent
    if output:
        folder = Path(output).expanduser()
        return folder if (folder / LOG_NAME).is_file() else None
    return _newest_unfinished(RUNS)


def _newest_unfinished(folder: Path) -> Path | None:
    try:
        runs = [
            run
            for run in folder.iterdir()
            if not run.is_symlink() and (run / LOG_NAME).is_file() and checkpoints_in(run)
        ]
        runs.sort(key=lambda run: (run / LOG_NAME).stat().st_mtime, reverse=True)
    except OSError:
        return None
    for run in runs:
        with contextlib.suppress(RankwiseError):  # its log cannot be read
            if not is_done(run / LOG_NAME):
                return run
    return None


def header_of(log: Path) -> Record:
    """Return the first record of a log. Raises RankwiseError."""
    for record in LogReader(log).records():
        return record
    raise RankwiseError(
        f"resume: {log} holds no record: the earlier job ended while it created the log, and nothing was trained; "
        f"start a new run, in the same folder once {log.name} and config.toml are removed"
    )


def last_config(log: Path) -> Any:
    """Return the configuration of the last job that wrote to a log. Raises RankwiseError."""
    config = header_of(log).get("config")
    for record in LogReader(log).records():
        if record["kind"] == "event" and record.get("what") == "resume":
            config = record.get("config", config)
    return config


def is_done(log: Path) -> bool:
    """Say whether a run came to its end. Raises LogError."""
    done = False
    for record in LogReader(log).records():
        if record["kind"] == "end":
            done = record.get("status") == "ok"
    return done
