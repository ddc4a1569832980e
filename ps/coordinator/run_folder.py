"""The folder of a new run."""

import contextlib
import os
import re
from pathlib import Path
from typing import Any

from common.errors import RankwiseError
from common.run_files import CONFIG_NAME, FAILURE_NAME, LOG_NAME, OUTPUT_NAMES, RUNS, checkpoints_in, log_path, new_run
from ps.logfile.reader import LogReader
from ps.logfile.records import Record
from ps.text.terminal import warn


def make_folder(output: str, mode: str, n_ranks: int) -> Path:
    """Make the run folder, ``runs/<time>-<mode>-<ranks>`` unless named, and point ``runs/latest`` to it.

    Raises RankwiseError if it cannot be written or holds a run already.
    """
    folder = Path(output).expanduser() if output else new_run(f"{mode}-{n_ranks}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise RankwiseError(f"output: cannot write to {folder} ({error.strerror}); choose another --output") from error
    if (folder / LOG_NAME).exists():
        raise RankwiseError(f"output: {folder} holds a run already; choose another --output")
    in_the_way = [name for name in (CONFIG_NAME, FAILURE_NAME, *OUTPUT_NAMES) if (folder / name).exists()]
    if in_the_way:
        raise RankwiseError(
            f"output: {folder} holds {', '.join(in_the_way)}, which the run would replace; choose another --output"
        )
    if folder.absolute().parent == Path("runs").absolute():
        _point_latest(folder)
    return folder


def _point_latest(folder: Path) -> None:
    link = folder.parent / "latest"
    temporary = folder.parent / f".latest-{os.getpid()}"
    try:
        if link.exists() and not link.is_symlink():
            raise FileExistsError("there is a file or folder of that name")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(folder.name)
        temporary.replace(link)
    except OSError as error:
        warn(f"{link} does not point to this run ({error})")


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


def tidy(folder: Path) -> None:
    """Put away what an earlier job left: its failure message, and files it was writing when it ended."""
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
        runs = [
            run
            for run in folder.iterdir()
            if not run.is_symlink() and (run / LOG_NAME).is_file() and checkpoints_in(run)
        ]
        runs.sort(key=lambda run: (run / LOG_NAME).stat().st_mtime, reverse=True)
    except OSError:
        return None
    return next((run for run in runs if _can_go_on(run / LOG_NAME)), None)


def _can_go_on(log: Path) -> bool:
    try:
        return not is_done(log)
    except RankwiseError:
        return False
