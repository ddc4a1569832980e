"""The last words of a job: those of a rank, or of whoever saw it end; needs no library until it writes to a log."""

import contextlib
import json
import os
import re
from pathlib import Path
from typing import Any

from common.errors import RankwiseError


def write_failure_once(path: Path, message: str) -> bool:
    """Write the message that a job ends with, unless there is one; return whether to print it too."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(message + "\n")
    except FileExistsError:
        return False
    except OSError:
        return True
    return True


def reserve_failure(path: Path) -> bool:
    """Take the place of the message that a job ends with, unless it is taken; return whether to say one.

    For who must look into what it says first: of several that end, the first to be seen is named.
    """
    try:
        path.open("x").close()
    except FileExistsError:
        return False
    except OSError:
        return True
    return True


def say(message: str) -> None:
    """Print a message to stderr in one write, where there is still somebody to read it."""
    with contextlib.suppress(OSError):
        os.write(2, message.encode(errors="replace") + b"\n")


def leave_death_note(folder: Path, event: dict[str, Any]) -> bool:
    """Leave the event of a rank's death for who goes on without it; return whether it could be left."""
    path = folder / f"death-{event['rank']}.json"
    try:
        unfinished = path.with_name(f".{path.name}")
        unfinished.write_text(json.dumps(event), encoding="utf-8")
        unfinished.replace(path)
    except OSError:
        return False
    return True


def death_notes(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Return the events of deaths that wait to come to the log, each with its file, the first death first."""
    found = []
    for path in folder.glob("death-*.json"):
        with contextlib.suppress(OSError, ValueError):
            found.append((path, json.loads(path.read_text(encoding="utf-8"))))
    return sorted(found, key=lambda word: float(word[1]["noticed"]))


NAME = re.compile(r"checkpoint-(\d{1,18})\.npz")


TORN = re.compile(rf"\.{NAME.pattern}\.\d+")
"""The temporary file of a job that was killed while it wrote."""


def all_in(folder: Path) -> list[Path]:
    """Return a run's checkpoints, the newest first. Raises OSError."""
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found, reverse=True)]


RUNS = Path("runs")


LOG_NAME = "coordinator.msgpack"


FAILURE_NAME = "failure.txt"
"""What a rank that brings down the job leaves beside the log."""


def log_path(run: Path) -> Path:
    """Return the log of a run given as its folder, that folder's name under runs/, or the log itself.

    Raises RankwiseError if there is none.
    """
    if not run.exists() and (RUNS / run.name).exists() and run.name == str(run):
        run = RUNS / run
    path = run / LOG_NAME if run.is_dir() else run
    if not path.is_file():
        raise RankwiseError(f"no log at {path}; give a run folder (they are under runs/) or a coordinator.msgpack")
    return path


NAMES = ("model.npz", "model_parameters.txt", "sync_times.txt", "contributions.txt")


CONFIG_NAME = "config.toml"


PROGRESS_NAME = "progress"
