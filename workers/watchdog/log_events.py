"""Events appended to the log of a job whose rank 0 is gone."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LOCK_PAUSE_S = 0.1


def append_events(log: Path, events: Sequence[dict[str, Any]], until: float) -> bool:
    """Append those events that the log does not hold yet; return whether it holds all.

    Cuts off the record that rank 0 may have left unfinished. Its lock on the log goes with its process, which takes a
    moment; ``until``, on the clock of ``time.monotonic``, is when to give up. ``noticed``, a time, identifies an event.
    """
    # only here: the watchdog needs no library before
    from common.errors import LogError
    from ps.logfile.salvage import SalvageReader
    from ps.logfile.writer import RunLog

    try:
        if any(event["what"] in ("stall", "suspended", "death") for event in events):
            found = SalvageReader(log).records()  # as it is mended when it is opened
            there = {record["noticed"] for record in found if record["kind"] == "event" and "noticed" in record}
            events = [event for event in events if event["noticed"] not in there]
        while True:
            try:
                writer = RunLog(log, new=False)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    return False
                time.sleep(LOCK_PAUSE_S)
        for event in events if writer.seq else ():  # not before the header
            writer.append("event", **event)
        writer.close()
    except (OSError, LogError):
        return False
    return True
