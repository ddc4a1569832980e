"""The folder of a run: made for a new one, and cleared of what an earlier job left."""

import contextlib
import os
import re
from pathlib import Path

from common.errors import RankwiseError
from common.run_files import CONFIG_NAME, FAILURE_NAME, LOG_NAME, OUTPUT_NAMES, RUNS, new_run
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
    if folder.absolute().parent == RUNS.absolute():
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


def tidy(folder: Path) -> None:
    """Put away what an earlier job left: its failure message, and files it was writing when it ended."""
    if (folder / FAILURE_NAME).exists():
        put_failure_aside(folder)
    for pattern in (".checkpoint-*.npz.*", "progress-*", "stack-*.txt", "death-*.json"):
        for left in folder.glob(pattern):
            with contextlib.suppress(OSError):
                left.unlink()
