"""The files of a run folder: their names, and the notes on how a job or a rank ended; standard library only."""

import contextlib
import errno
import json
import os
import re
import time
from pathlib import Path
from typing import Any

from common.errors import RankwiseError

RUNS = Path("runs")
MOST_IN_A_SECOND = 1000
"""Runs of one name."""
LOG_NAME = "coordinator.msgpack"
CONFIG_NAME = "config.toml"
FAILURE_NAME = "failure.txt"
"""The message that a job ended with, left by the rank that failed or by a watchdog."""
PROGRESS_NAME = "progress"
"""What the name begins with of the file by which watchdogs of several nodes share what they see."""
MODEL_NAME = "model.npz"
OUTPUT_NAMES = (MODEL_NAME, "model_parameters.txt", "sync_times.txt", "contributions.txt")
CHECKPOINT_NAME = re.compile(r"checkpoint-(\d{1,18})\.npz")
UNFINISHED_CHECKPOINT = re.compile(rf"\.{CHECKPOINT_NAME.pattern}\.(?:\d+|[0-9a-f]{{16}}\.part)")
"""The temporary file of a job that was killed while it wrote a checkpoint."""


def log_path(run: Path) -> Path:
    """Return the log of a run given as its folder, that folder's name under runs/, or the log itself.

    Raises RankwiseError if there is none.
    """
    if not run.exists() and (RUNS / run.name).exists() and run.name == str(run):
        run = RUNS / run
    path = run / LOG_NAME if run.is_dir() else run
    if not path.is_file():
        if is_without_log(path.parent):
            raise RankwiseError(
                f"no log at {path}, but checkpoints: training with --resume {path.parent} continues from the newest, "
                "with another log"
            )
        raise RankwiseError(f"no log at {path}; give a run folder (they are under runs/) or a coordinator.msgpack")
    return path


def is_without_log(folder: Path) -> bool:
    """Say whether a folder is that of a run whose log is gone, but not its checkpoints."""
    try:
        return not os.path.lexists(folder / LOG_NAME) and bool(checkpoints_in(folder))
    except OSError:
        return False


def new_run(name: str) -> Path:
    """Make the folder of a new run, ``runs/<time>-<name>``, with a number where that is taken. Raises OSError.

    Jobs that start in the same second may look at the same time: the one whose ``mkdir`` succeeds has the folder.
    """
    RUNS.mkdir(parents=True, exist_ok=True)
    stem = RUNS / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"
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
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := CHECKPOINT_NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found, reverse=True)]


def write_failure_once(folder: Path, message: str = "") -> bool:
    """Write the message that a job ends with, unless there is one; return whether to print it too.

    Without a message the file is reserved, for a watchdog that has yet to find out the cause: of several ranks that
    die, the first one seen is named.
    """
    try:
        with (folder / FAILURE_NAME).open("x", encoding="utf-8") as file:
            file.write(f"{message}\n" if message else "")
    except FileExistsError:
        return False
    except OSError:
        return True
    return True


def leave_death_note(folder: Path, event: dict[str, Any]) -> bool:
    """Leave the event of a rank's death for the ranks that continue without it; return whether it could be left."""
    path = folder / f"death-{event['rank']}.json"
    try:
        unfinished = path.with_name(f".{path.name}")
        unfinished.write_text(json.dumps(event), encoding="utf-8")
        unfinished.replace(path)
    except OSError:
        return False
    return True


def death_notes(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Return the events of deaths that are not in the log yet, each with its file, the first death first."""
    found = []
    for path in folder.glob("death-*.json"):
        with contextlib.suppress(OSError, ValueError):
            found.append((path, json.loads(path.read_text(encoding="utf-8"))))
    return sorted(found, key=lambda note: float(note[1]["noticed"]))
