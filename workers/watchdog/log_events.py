"""TODO."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

LOCK_PAUSE_S = 0.1


def append_events(log: Path, events: Sequence[dict[str, Any]], patient: Callable[[], bool]) -> bool:
    """Add events to the log of a job whose rank 0 is gone, but for those that are there; return whether they are.

    The tail that rank 0 may have left unfinished is cut off. Its lock on the log goes with its process, which takes a
    moment; ``patient`` says how long to try. ``noticed``, a time, tells an event from others.
    """
    from common.errors import LogError
    from ps.logfile.reader import read
    from ps.logfile.writer import RunLog

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
