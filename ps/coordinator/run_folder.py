"""The folder of a run: made for a new one, and cleared of what an earlier job left."""

import contextlib
import re
import secrets
import tempfile
from pathlib import Path

from common.errors import RankwiseError
from common.run_files import CONFIG_NAME, FAILURE_NAME, LOG_NAME, OUTPUT_NAMES, RUNS, checkpoints_in, new_run
from ps.logfile.writer import RunLog
from ps.text.terminal import warn


def make_folder(output: str, name: str) -> Path:
    """Make the run folder, ``runs/<time>-<name>`` unless ``output`` names one, and point ``runs/latest`` to it.

    Raises RankwiseError if it cannot be written or holds a run already.
    """
    folder = Path(output).expanduser() if output else new_folder(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # it can be written
            pass
    except OSError as error:
        raise _unwritable(folder, error) from error
    in_the_way = [name for name in (CONFIG_NAME, FAILURE_NAME, *OUTPUT_NAMES) if (folder / name).exists()]
    in_the_way += [path.name for path in checkpoints_in(folder)[:1]]  # those of another run would be resumed from
    if (folder / LOG_NAME).exists():  # the last to look for: a job that has just taken the folder makes it first
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
    """Create the log of a run in its folder. Raises RankwiseError if another job was faster, and OSError."""
    try:
        return RunLog(folder / LOG_NAME, warn=warn)
    except FileExistsError as error:
        raise _taken(folder) from error


def _unwritable(folder: Path, error: OSError) -> RankwiseError:
    return RankwiseError(f"output: cannot write to {folder} ({error.strerror}); choose another --output")


def _taken(folder: Path) -> RankwiseError:
    return RankwiseError(f"output: {folder} holds a run already; choose another --output")


def _point_latest(folder: Path) -> None:
    """Let the link name the newest run. It is replaced in one step: whoever looks finds the old run or the new one."""
    link = folder.parent / "latest"
    temporary = folder.parent / f".latest-{secrets.token_hex(6)}"
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


NUMBERED = re.compile(r"failure-(\d{1,9})\.txt")


def put_failure_aside(folder: Path) -> None:
    """Give the message a job failed with a number, the next one free, so that a later job can leave its own.

    Raises OSError, also if there is none.
    """
    taken = [int(match[1]) for path in folder.iterdir() if (match := NUMBERED.fullmatch(path.name))]
    (folder / FAILURE_NAME).rename(folder / f"failure-{max(taken, default=0) + 1}.txt")


def tidy(folder: Path) -> None:
    """Put away what an earlier job left: its failure message, and files it was writing when it ended."""
    with contextlib.suppress(FileNotFoundError):
        put_failure_aside(folder)
    for pattern in (".checkpoint-*.npz.*", "progress-*", "stack-*.txt", "death-*.json"):
        for left in folder.glob(pattern):
            with contextlib.suppress(OSError):
                left.unlink()
