"""The files of a run folder: their names, and the notes on how a job or a rank ended; standard library only."""

import contextlib
import errno
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

from common.errors import RankwiseError
from common.files import create_new, open_own, read_small, require_regular, write_bytes
from common.start_words import ALL_STARTED, SUPERVISED

RUNS = Path("runs")
MOST_IN_A_SECOND = 1000
"""Runs of one name."""
LOG_NAME = "coordinator.msgpack"
DAMAGED_LOG_NAME = "coordinator-damaged-{}.msgpack"
"""Of a damaged log, kept beside the one that has taken its place, with a number."""
CONFIG_NAME = "config.toml"
FAILURE_NAME = "failure.txt"
"""The message that a job ended with, left by the rank that failed or by a watchdog."""
STARTING_NAME = ".starting"
"""Left by a supervisor before it starts a job; rank 0 takes it away when all ranks are there."""
PROGRESS_NAME = "progress"
"""What the name begins with of the file by which watchdogs of several nodes share what they see."""
MODEL_NAME = "model.npz"
SPLITS_NAME = "splits.npz"
TRANSFORMER_NAME = "prepare.skops"
OUTPUT_NAMES = (
    MODEL_NAME,
    SPLITS_NAME,
    TRANSFORMER_NAME,
    "model_parameters.txt",
    "sync_times.txt",
    "contributions.txt",
)
CHECKPOINT_NAME = re.compile(r"checkpoint-(\d{1,18})\.npz")
NOTE_NAME = re.compile(r"death-(\d{1,9})\.json")
"""Of the event of a rank's death, until it is in the log."""
_DAMAGED = DAMAGED_LOG_NAME.replace("{}", r"\d{1,9}")
_WRITTEN = "|".join([CHECKPOINT_NAME.pattern, _DAMAGED, *map(re.escape, (LOG_NAME, CONFIG_NAME, *OUTPUT_NAMES))])
UNFINISHED = re.compile(rf"\.(?:{_WRITTEN})\.(?:[1-9]\d{{0,6}}|[0-9a-f]{{16}}\.part)")
"""The temporary file of a job that was killed while it saved: see ``common/files.py``. Earlier versions took their
process's id."""
_OF_A_RANK = r"(?:stack-\d{1,9}\.txt|death-\d{1,9}\.json)"
WATCHED = re.compile(
    rf"progress-[0-9a-f]{{8}}|{_OF_A_RANK}|\.death-\d{{1,9}}\.json|\.{_OF_A_RANK}\.[0-9a-f]{{16}}\.part"
)
"""What watchdogs exchange, and their temporary files, also of earlier versions."""
LONGEST_MESSAGE = 1 << 16
"""Characters of a message that a job ends with; of a longer one the end, where the reason is."""


def log_path(run: Path) -> Path:
    """Return the log of a run given as its folder, that folder's name under runs/, or the log itself.

    Raises RankwiseError if there is none.
    """
    try:
        if run.name == str(run) and not run.exists() and (RUNS / run.name).exists():
            run = RUNS / run
        path = run / LOG_NAME if run.is_dir() else run
        require_regular(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        if is_without_log(path.parent):
            raise RankwiseError(
                f"no log at {path}, but checkpoints: training with --resume {path.parent} continues from the newest, "
                "with another log"
            ) from error
        raise RankwiseError(
            f"no log at {path}; give a run folder (they are under runs/) or a coordinator.msgpack"
        ) from error
    except OSError as error:
        raise RankwiseError(f"{error.filename or run}: cannot be read ({error.strerror})") from error
    return path


def is_without_log(folder: Path) -> bool:
    """Say whether a folder is that of a run whose log is gone, but not its checkpoints."""
    try:
        return not os.path.lexists(folder / LOG_NAME) and bool(checkpoints_in(folder))
    except OSError:
        return False


def new_run(name: str, runs: Path = RUNS) -> Path:
    """Make the folder of a new run, ``<time>-<name>`` under ``runs``, numbered where that is taken. Raises OSError.

    Jobs that start in the same second may look at the same time: the one whose ``mkdir`` succeeds has the folder.
    """
    runs.mkdir(parents=True, exist_ok=True)
    stem = runs / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"
    for number in range(1, MOST_IN_A_SECOND + 1):
        path = stem if number == 1 else stem.with_name(f"{stem.name}-{number}")
        try:
            path.mkdir(parents=True)  # a supervisor whose job did not start may have removed an empty runs/
        except FileExistsError:
            continue
        return path
    raise FileExistsError(errno.EEXIST, f"{MOST_IN_A_SECOND} runs of this name began in this second")


def checkpoints_in(folder: Path) -> list[Path]:
    """Return a run's checkpoints, the newest first. Raises OSError."""
    with os.scandir(folder) as entries:
        found = [(int(match[1]), entry.name) for entry in entries if (match := CHECKPOINT_NAME.fullmatch(entry.name))]
    return [folder / name for _, name in sorted(found, reverse=True)]


def write_failure_once(folder: Path, message: str = "") -> bool:
    """Write the message that a job ends with, unless there is one; return whether to print it too.

    Without a message the file is reserved, for a watchdog that has yet to find out the cause: of several ranks that
    die, the first one seen is named.
    """
    try:
        with create_new(folder / FAILURE_NAME) as file:
            file.write(_failure(message))
    except FileExistsError:
        return False
    except OSError:
        return True
    return True


def fill_failure(folder: Path, message: str) -> None:
    """Write the message into the file that was reserved for it. Raises OSError."""
    path = folder / FAILURE_NAME
    with open_own(path) if os.path.lexists(path) else create_new(path) as file:
        file.truncate(0)
        file.write(_failure(message))


def _failure(message: str) -> bytes:
    return f"{message[-LONGEST_MESSAGE:]}\n".encode(errors="backslashreplace") if message else b""


def read_failure(folder: Path) -> str:
    """Return the message that a job ended with; empty if it has only been reserved. Raises OSError."""
    return read_small(folder / FAILURE_NAME).decode("utf-8", "replace").strip()


def leave_death_note(folder: Path, event: dict[str, Any]) -> bool:
    """Leave the event of a rank's death for the ranks that continue without it; return whether it could be left."""
    try:
        write_bytes(folder / f"death-{event['rank']}.json", json.dumps(event).encode(), sync=False)
    except OSError:
        return False
    return True


def death_notes(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Return the events of deaths that are not in the log yet, each with its file, the first death first."""
    found = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for path in [folder / entry.name for entry in entries if NOTE_NAME.fullmatch(entry.name)]:
            with contextlib.suppress(OSError, ValueError, RecursionError):
                event = json.loads(read_small(path, own=True))
                if is_death(event):
                    found.append((path, event))
    return sorted(found, key=lambda note: float(note[1]["noticed"]))


def is_death(event: Any) -> bool:
    """Say whether a value is the event of a death, as a watchdog makes it."""
    kinds = {"what": str, "rank": int, "host": str, "epoch": int, "step": int, "phase": str, "message": str,
             "noticed": float}  # fmt: skip
    return isinstance(event, dict) and {name: type(value) for name, value in event.items()} == kinds


def note_start(output: str) -> None:
    """Tell a supervisor that all ranks have started: its file goes from the run folder, if it sees this folder.

    It takes the line out of what it passes on.
    """
    if output:
        with contextlib.suppress(OSError, RuntimeError):
            (Path(output).expanduser() / STARTING_NAME).unlink(missing_ok=True)
    if SUPERVISED in sys._xoptions:  # noqa: SLF001 - the documented way to them
        with contextlib.suppress(OSError):
            os.write(2, ALL_STARTED)
