"""The folder of a run: made for a new one, and cleared of what an earlier job left."""

import contextlib
import itertools
import os
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from common.errors import RankwiseError
from common.files import require_replaceable, told
from common.run_files import (
    CONFIG_NAME,
    FAILURE_NAME,
    LOG_NAME,
    OUTPUT_NAMES,
    RUNS,
    UNFINISHED,
    WATCHED,
    checkpoints_in,
    new_run,
)
from ps.logfile.lock import in_use
from ps.logfile.writer import RunLog
from ps.text.terminal import warn


def make_folder(output: str, name: str) -> Path:
    """Make the run folder, ``runs/<time>-<name>`` unless ``output`` names one, and point ``runs/latest`` to it.

    Raises RankwiseError if it cannot be written or holds a run already.
    """
    folder = Path(output).expanduser() if output else new_folder(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder), os.scandir(folder):  # it can be written, and read
            pass
    except OSError as error:
        raise _unwritable(folder, error) from error
    in_the_way = [name for name in (CONFIG_NAME, FAILURE_NAME, *OUTPUT_NAMES) if os.path.lexists(folder / name)]
    in_the_way += [path.name for path in checkpoints_in(folder)[:1]]  # those of another run would be resumed from
    if os.path.lexists(folder / LOG_NAME):  # last: a job that has just taken the folder makes it first
        raise _taken(folder)
    if in_the_way:
        raise RankwiseError(
            f"output: {folder} holds {', '.join(in_the_way)}, which the run would replace; choose another --output"
        )
    if folder.absolute().parent == RUNS.absolute():
        _point_latest(folder)
    return folder


def new_folder(name: str) -> Path:
    """Make a new folder, ``runs/<time>-<name>``. Raises RankwiseError."""
    try:
        return new_run(name)
    except OSError as error:
        raise _unwritable(RUNS, error) from error


def new_log(folder: Path) -> RunLog:
    """Create the log of a run in its folder. Raises RankwiseError, also if another job was faster."""
    try:
        return RunLog(folder / LOG_NAME, warn=warn)
    except FileExistsError as error:
        raise _taken(folder) from error
    except BlockingIOError as error:
        raise in_use(folder / LOG_NAME) from error
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> RankwiseError:
    uses = {"read": os.R_OK, "write to": os.W_OK, "enter": os.X_OK} if os.path.isdir(folder) else {}
    denied = [use for use, bit in uses.items() if not os.access(folder, bit)]
    what = " or ".join(denied) if isinstance(error, PermissionError) and denied else "write to"
    return RankwiseError(f"output: cannot {what} {folder} ({error.strerror}); choose another --output")


def cannot_begin(folder: Path, error: OSError, *, resumed: bool) -> RankwiseError:
    """Return the error of a job that cannot write the first files of its run."""
    if not resumed:
        return _unwritable(folder, error)
    return RankwiseError(f"resume: {told(error)}; make room in {folder} or make it writable, and resume again")


def _taken(folder: Path) -> RankwiseError:
    return RankwiseError(f"output: {folder} holds a run already; choose another --output")


def _point_latest(folder: Path) -> None:
    """Let the link name the newest run. It is replaced in one step: whoever looks finds the old run or the new one."""
    link = folder.parent / "latest"
    temporary = folder.parent / f".latest-{os.urandom(6).hex()}"
    _remove(folder.parent, _is_left_link)
    try:
        if link.exists() and not link.is_symlink():
            raise FileExistsError("there is a file or folder of that name")
        temporary.symlink_to(folder.name)
        try:
            temporary.replace(link)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        warn(f"{link} does not point to this run ({error})")


LATEST_LEFT = re.compile(r"\.latest-[0-9a-f]{12}")
LINK_LEFT_S = 3600.0
"""A link of that name that is older is none that another job is about to rename."""


def _is_left_link(entry: os.DirEntry[str]) -> bool:
    """Say whether a link is of a job that was killed before it could rename it."""
    if not (LATEST_LEFT.fullmatch(entry.name) and entry.is_symlink()):
        return False
    return entry.stat(follow_symlinks=False).st_mtime < time.time() - LINK_LEFT_S


NUMBERED = re.compile(r"failure-(\d{1,9})\.txt")


def put_failure_aside(folder: Path) -> None:
    """Give the message a job failed with a number, the next one free, so that a later job can leave its own.

    Raises OSError, also if there is none.
    """
    with os.scandir(folder) as entries:
        taken = [int(match[1]) for entry in entries if (match := NUMBERED.fullmatch(entry.name))]
    numbers = itertools.count(max(taken, default=0) + 1)
    free = next(path for n in numbers if not os.path.lexists(path := folder / f"failure-{n}.txt"))
    (folder / FAILURE_NAME).rename(free)


def require_writable(folder: Path) -> None:
    """Raise RankwiseError if a run that continues could not write its files in the end: something else has the name."""
    for name in (CONFIG_NAME, *OUTPUT_NAMES):
        try:
            require_replaceable(folder / name)
        except OSError as error:
            raise RankwiseError(
                f"resume: {folder / name} cannot be written ({error.strerror}); rename it, and resume again"
            ) from error


def tidy(folder: Path) -> None:
    """Put away what an earlier job's watchdogs left: its failure message, and what they exchanged."""
    with contextlib.suppress(FileNotFoundError):
        put_failure_aside(folder)
    _remove(folder, lambda entry: bool(WATCHED.fullmatch(entry.name)) and _is_file_or_link(entry))


def remove_unfinished(folder: Path) -> None:
    """Remove the files that earlier jobs had not finished when they were killed; only for who has locked the log."""
    _remove(folder, lambda entry: bool(UNFINISHED.fullmatch(entry.name)) and _is_file_or_link(entry))


def _is_file_or_link(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() or entry.is_file(follow_symlinks=False)


def _remove(folder: Path, is_left: Callable[[os.DirEntry[str]], bool]) -> None:
    """Remove files and links that were left in a folder, as far as that is possible."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if is_left(entry):
                    os.unlink(entry)
