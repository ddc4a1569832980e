"""What is added to the log of a job whose rank 0 is gone: events, and what rank 0 had not saved yet."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.run_files import death_notes

if TYPE_CHECKING:
    from ps.logfile.writer import RunLog

LOCK_PAUSE_S = 0.1
Addition = tuple[str, dict[str, Any]]
"""A record's kind and fields."""


def append_events(log: Path, events: Sequence[dict[str, Any]], until: float, copy: int = -1) -> bool:
    """Append those events that the log does not hold yet; return whether it holds all.

    Cuts off the record that rank 0 may have left unfinished. Its lock on the log goes with its process, which takes a
    moment; ``until``, on the clock of ``time.monotonic``, is when to give up. ``noticed``, a time, identifies an event.
    ``copy``: where rank 0 has left what it had yet to save, which is done here, with the lock on the log; -1: nothing.
    """
    # only here: the watchdog needs no library before
    from common.errors import LogError
    from ps.logfile.salvage import SalvageReader

    try:
        if any("noticed" in event for event in events):
            found = SalvageReader(log).records()  # as it is mended when it is opened
            there = {record["noticed"] for record in found if record["kind"] == "event" and "noticed" in record}
            events = [event for event in events if event.get("noticed") not in there]
        writer = _opened(log, until)
        if writer is None:
            return False
        if writer.seq:  # not before the header
            unsaved = list(_unsaved(log, copy)) if copy >= 0 else []
            told: list[Addition] = [("event", event) for event in events]
            for kind, fields in sorted(unsaved + told, key=lambda addition: addition[0] == "end"):  # which is the last
                writer.append(kind, **fields)
        writer.close()
    except (OSError, LogError):
        return False
    return True


def take_death_notes(folder: Path, events: list[dict[str, Any]]) -> None:
    """Take over the deaths that are not in the log yet, also of nodes whose watchdog is gone; remove their notes."""
    for path, event in death_notes(folder):
        with contextlib.suppress(OSError):  # another watchdog has taken it
            path.unlink()
            events.append(event)
    events.sort(key=lambda event: float(event["noticed"]))


def _opened(log: Path, until: float) -> "RunLog | None":
    """Open the log as soon as nobody holds it; None if that takes too long. Raises OSError and LogError."""
    from ps.logfile.writer import RunLog

    while True:
        try:
            return RunLog(log, new=False)
        except BlockingIOError:
            if time.monotonic() > until:
                return None
            time.sleep(LOCK_PAUSE_S)


def _unsaved(log: Path, copy: int) -> Iterator[Addition]:
    """Write the checkpoint that rank 0 held, and yield what it would have logged of that and of its stop.

    Nothing, if another job has taken over since. Raises LogError.
    """
    from common.errors import CheckpointError
    from ps.logfile.reader import LogReader
    from ps.logfile.records import CONTINUATIONS
    from workers.checkpoint.checkpoint_file import save
    from workers.checkpoint.held_copy import read_held

    snapshot, said = read_held(copy)
    since = [record for record in LogReader(log).records() if record["seq"] >= said.get("n_records", 0)]
    if not said or said.get("saved") or any(record.get("what") in CONTINUATIONS for record in since):
        return
    file = said.get("file", "")
    if snapshot is not None:
        try:
            file = save(log.parent, snapshot, said["keep"]).name
        except (OSError, CheckpointError, MemoryError) as error:
            yield "event", {"what": "checkpoint-failed", "reason": getattr(error, "strerror", None) or str(error)}
            return
    if not any(record.get("what") == "checkpoint" and record.get("file") == file for record in since):
        yield "event", {"what": "checkpoint", "file": file}
    stop = said.get("stop")
    if stop and not any(record.get("what") == "stop" for record in since):
        yield "event", {"what": "stop", **stop["event"]}
    if stop and not any(record["kind"] == "end" for record in since):
        yield "end", stop["end"]
