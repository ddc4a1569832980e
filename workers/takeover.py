"""What the coordinator does when ranks have died, which it becomes in the same log if the one before is among them."""

import time
from dataclasses import dataclass
from typing import Any

from common.errors import EXIT_ERROR, EXIT_OK, EXIT_STOPPED
from ps.console import say
from ps.coordinator import Coordinator
from ps.failure import death_path, take_word
from ps.log import LogReader, Record
from workers.job import Job
from workers.setup import appoint

EXIT_CODES = {"ok": EXIT_OK, "stopped": EXIT_STOPPED}
LOCK_S = 10.0
"""How long to wait for the lock on the log of a process that has died."""
WORD_S = 1.0
"""How long to wait for what the witnesses have seen of the dead."""


@dataclass(slots=True)
class Roll:
    """Who takes part. Ranks are numbered as at the job's start.

    ``ranks``: those alive as far as the log knows. ``hosts``: by that number. ``began``: when training began, as a Unix
    time. ``noticed``: when this rank learned of the last death, on the clock of ``time.perf_counter``.
    """

    ranks: list[int]
    hosts: list[str]
    began: float
    noticed: float = 0.0


def lead_on(job: Job, roll: Roll, alive: list[int], facts: dict[str, Any]) -> list[Any]:
    """At rank 0: note what happened, as the coordinator, which this rank may not have been.

    Return the exit code and the epoch's decision, as far as they are known now. ``facts``: what the header would say.
    """
    code, decision = job.code, job.decision
    if job.coordinator is None:
        code, decision, told = _take_over(job, facts, roll.began)
        roll.ranks = [rank for rank in roll.ranks if rank not in told]
    else:
        job.coordinator.recall({}, facts)
    dead = [rank for rank in roll.ranks if rank not in alive]
    if code is None and dead:
        closed = decision is not None  # the epoch is in the log, and must come before the one gone on with
        place = (job.epoch + 1, 0) if closed else (job.epoch, job.saving.before.steps)
        _note(job, roll, dead, place, facts)
    return [code, decision]


def _note(job: Job, roll: Roll, dead: list[int], place: tuple[int, int], facts: dict[str, Any]) -> None:
    """Write and print who died, and where the others go on: in an epoch, behind so many steps of it."""
    lead, before, (epoch, step) = job.lead(), len(roll.ranks), place
    seconds = time.perf_counter() - roll.noticed
    until = time.monotonic() + WORD_S
    for rank in dead:
        if event := take_word(lead.folder, rank, until):
            lead.event(**event)
            death_path(lead.folder, rank).unlink(missing_ok=True)
    roll.ranks = [rank for rank in roll.ranks if rank not in dead]
    after, hosts = len(roll.ranks), [roll.hosts[rank] for rank in dead]
    lead.event(
        "shrink", dead=dead, hosts=hosts, alive=roll.ranks, epoch=epoch, step=step, ranks_before=before, ranks=after,
        seconds=seconds, **facts,
    )  # fmt: skip
    named = ", ".join(f"{rank} on {name}" for rank, name in zip(dead, hosts, strict=True))
    where = "the final test" if job.over else f"epoch {epoch}, after step {step}"
    left = f"{after} rank{'s' * (after > 1)} at {where}"
    say(f"Going on without rank {named}: {left}; recovered in {1000 * seconds:.0f} ms.")


def _take_over(job: Job, facts: dict[str, Any], began: float) -> tuple[int | None, dict[str, Any] | None, set[int]]:
    """Become the coordinator in place of one that died; return what its log says: exit code, decision, other dead."""
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
