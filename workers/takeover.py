"""Becoming the coordinator of a run whose coordinator has died, in the same log."""

import time
from typing import Any

from common.errors import EXIT_ERROR, EXIT_OK, EXIT_STOPPED
from ps.coordinator import Coordinator
from ps.log import LogReader, Record
from workers.job import Job
from workers.setup import appoint

EXIT_CODES = {"ok": EXIT_OK, "stopped": EXIT_STOPPED}
LOCK_S = 10.0
"""How long to wait for the lock on the log of a process that has died."""


def take_over(job: Job, facts: dict[str, Any], began: float) -> tuple[int | None, dict[str, Any] | None, set[int]]:
    """Become the coordinator in place of one that died; return what its log says: exit code, decision, who else died.

    ``facts``: what the header would say now. ``began``: when training began, as a Unix time.
    """
    lead = _open(job)
    memory = (job.decision or job.last)["memory"]
    lead.recall(memory, facts)
    lead.started -= time.time() - memory.get("at", began)
    record, status, dead = _last_words(lead)
    lead.last = record or {}
    code, decision = EXIT_CODES.get(status, EXIT_ERROR) if status else None, job.decision
    if decision is None and record is not None and record["epoch"] == job.epoch:  # nobody was told
        lead.noise.update(*(list(record[name].values()) for name in ("noise_trace", "noise_gradient_sq")))
        decision = {**lead.judge(record), "diverged": False, "signalled": False, "memory": lead.memory()}
    return code, decision, dead


def _open(job: Job) -> Coordinator:
    """Go on with the log, once the dead process's lock on it is gone."""
    assert job.position.folder is not None
    until = time.monotonic() + LOCK_S
    while True:
        try:
            return appoint(job, job.position.folder, resumed=True)
        except BlockingIOError:
            if time.monotonic() > until:
                raise
            time.sleep(LOCK_S / 100)


def _last_words(lead: Coordinator) -> tuple[Record | None, str, set[int]]:
    """Return the last epoch's record of this job, the status if the log has come to its end, and who left it before."""
    last, status, dead = None, "", set[int]()
    for entry in LogReader(lead.log.path).entries():
        if entry.kind == "epoch":
            last = entry
        elif entry.kind == "event" and entry.record()["what"] == "resume":
            last, dead = None, set()  # of what follows, nothing is there yet
        elif entry.kind == "event" and entry.record()["what"] == "shrink":
            dead.update(entry.record()["dead"])
        status = str(entry.record()["status"]) if entry.kind == "end" else ""
    return last.record() if last else None, status, dead
