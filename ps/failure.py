"""The last words of a job: those of a rank, or of whoever saw it end; needs no library until it writes to a log."""

import contextlib
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

LOCK_PAUSE_S = 0.1


def claim(path: Path, message: str) -> bool:
    """Write the message that a job ends with, unless there is one; return whether to print it too."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(message + "\n")
    except FileExistsError:
        return False
    except OSError:
        return True
    return True


def reserve(path: Path) -> bool:
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


def leave_word(folder: Path, event: dict[str, Any]) -> bool:
    """Leave the event of a rank's death for who goes on without it; return whether it could be left."""
    path = folder / f"death-{event['rank']}.json"
    try:
        unfinished = path.with_name(f".{path.name}")
        unfinished.write_text(json.dumps(event), encoding="utf-8")
        unfinished.replace(path)
    except OSError:
        return False
    return True


def words(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Return the events of deaths that wait to come to the log, each with its file, the first death first."""
    found = []
    for path in folder.glob("death-*.json"):
        with contextlib.suppress(OSError, ValueError):
            found.append((path, json.loads(path.read_text(encoding="utf-8"))))
    return sorted(found, key=lambda word: float(word[1]["noticed"]))


def append_events(log: Path, events: Sequence[dict[str, Any]], patient: Callable[[], bool]) -> bool:
    """Add events to the log of a job whose rank 0 is gone, but for those that are there; return whether they are.

    The tail that rank 0 may have left unfinished is cut off. Its lock on the log goes with its process, which takes a
    moment; ``patient`` says how long to try. ``noticed``, a time, tells an event from others.
    """
    from common.errors import LogError
    from ps.log import read
    from ps.log_writer import RunLog

    try:
        if any(event["what"] in ("stall", "death") for event in events):
            there = {record["noticed"] for record in read(log) if record["kind"] == "event" and "noticed" in record}
            events = [event for event in events if event["noticed"] not in there]
        writer = None
        while writer is None:
            try:
                writer = RunLog(log, new=False)
            except BlockingIOError:
                if not patient():
                    return False
                time.sleep(LOCK_PAUSE_S)
        for event in events if writer.seq else ():  # not before the header
            writer.append("event", **event)
        writer.close()
    except (OSError, LogError):
        return False
    return True
