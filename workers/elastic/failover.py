"""What the coordinator does when ranks have died, which it becomes in the same log if the one before is among them."""

import contextlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import EXIT_ERROR, EXIT_OK, EXIT_STOPPED
from common.progress import ENDED, LOST, PAGE_BYTES, StatusRow
from common.run_files import PROGRESS_NAME, death_notes
from ps.coordinator.coordinator import Coordinator
from ps.logfile.reader import LogReader
from ps.logfile.records import Record
from ps.text.stdout import say, warn
from workers.training.job import Job
from workers.training.setup import appoint

EXIT_CODES = {"ok": EXIT_OK, "stopped": EXIT_STOPPED}
LOCK_S = 10.0
"""How long to wait for the lock on the log of a process that has died."""
LOOK_S = 0.01
"""Between two looks for what the witnesses have seen of the dead."""


@dataclass(slots=True)
class Membership:
    """Who takes part. Ranks are numbered as at the job's start.

    ``ranks``: those alive as far as the log knows. ``hosts``: by that number. ``began``: when training began, as a Unix
    time. ``noticed``: when this rank learned of the last death, on the clock of ``time.perf_counter``. ``told``: whose
    death is in the log as its witness saw it; only the coordinator knows.
    """

    ranks: list[int]
    hosts: list[str]
    began: float
    noticed: float = 0.0
    reported: set[int] = field(default_factory=set)

    def collect_death_notes(self, lead: Coordinator, wait_s: float) -> None:
        """Bring what the witnesses have seen of the dead to the log; wait so long for those who say nothing yet."""
        until = time.monotonic() + wait_s
        while True:
            for path, event in death_notes(lead.folder):
                if event["rank"] not in self.reported:  # else the coordinator before died between the two
                    lead.event(**event)
                self.reported.add(event["rank"])
                with contextlib.suppress(OSError):
                    path.unlink()
            silent = set(range(len(self.hosts))) - set(self.ranks) - self.reported
            if not silent or time.monotonic() > until:
                break
            time.sleep(LOOK_S)
        _bury(lead.folder, silent)


def _bury(folder: Path, ranks: set[int]) -> None:
    """Tell the witnesses of the dead whose own says nothing, perhaps because their node is gone as a whole."""
    for path in folder.glob(f"{PROGRESS_NAME}-*") if ranks else ():
        with contextlib.suppress(OSError), path.open("r+b", buffering=0) as file:
            for rank in ranks:
                os.pwrite(file.fileno(), StatusRow(over=LOST, state=ENDED).pack(), rank * PAGE_BYTES)


def lead_on(job: Job, membership: Membership, alive: list[int], facts: dict[str, Any]) -> list[Any]:
    """At rank 0: note what happened, as the coordinator, which this rank may not have been.

    Return the exit code and the epoch's decision, as far as they are known now. ``facts``: what the header would say.
    """
    if job.coordinator is None:
        _take_over(job, membership, facts)
    lead = job.lead()
    dead = [rank for rank in membership.ranks if rank not in alive]
    if job.code is None and dead:
        _note(job, membership, dead, facts)
        membership.collect_death_notes(lead, 0.0)
    lead.recall({}, facts)  # ranks have new numbers
    return [job.code, job.decision]


def _note(job: Job, membership: Membership, dead: list[int], facts: dict[str, Any]) -> None:
    """Write and print who died, and where the others go on: in an epoch, behind so many steps of it."""
    before = len(membership.ranks)
    closed = job.decision is not None  # the epoch is in the log, and must come before the one gone on with
    epoch, step = (job.epoch + 1, 0) if closed else (job.epoch, job.saving.before.steps)
    seconds = time.perf_counter() - membership.noticed
    membership.ranks = [rank for rank in membership.ranks if rank not in dead]
    after, hosts = len(membership.ranks), [membership.hosts[rank] for rank in dead]
    job.lead().event(
        "shrink", dead=dead, hosts=hosts, alive=membership.ranks, epoch=epoch, step=step, ranks_before=before,
        ranks=after, seconds=seconds, **facts,
    )  # fmt: skip
    named = ", ".join(f"{rank} on {name}" for rank, name in zip(dead, hosts, strict=True))
    last = job.over or epoch > job.config.epochs or (job.decision is not None and job.decision["stop"])
    where = "the final test" if last else f"epoch {epoch}, after step {step}"
    left = f"{after} rank{'s' * (after > 1)} at {where}"
    say(f"Going on without rank {named}: {left}; recovered in {1000 * seconds:.0f} ms.")


def _take_over(job: Job, membership: Membership, facts: dict[str, Any]) -> None:
    """Become the coordinator in place of one that died, and learn from its log.

    What the log says goes to the job at once: a further rank may die while the others are reported.
    """
    lead = _open(job)
    memory = (job.decision or job.last)["memory"]
    lead.recall(memory, facts)
    lead.started -= time.time() - max(memory.get("at", 0.0), membership.began)  # that of a checkpoint may be days old
    last = _last_words(lead)
    lead.last = record = last.epoch or {}
    if job.decision is None and record and record["epoch"] == job.epoch:  # nobody was told
        lead.noise.update(*(list(record[name].values()) for name in ("noise_trace", "noise_gradient_sq")))
        judged = lead.judge(record, told=last.stopping)
        job.decision = {**judged, "diverged": False, "signalled": False, "memory": lead.memory()}
    if last.status:
        job.code = EXIT_CODES.get(last.status, EXIT_ERROR)
    membership.ranks = [rank for rank in membership.ranks if rank not in last.dead]
    membership.reported = last.reported


def _open(job: Job) -> Coordinator:
    """Go on with the log, once the dead process's lock on it is gone."""
    folder = job.rank_status.folder
    assert folder is not None
    until = time.monotonic() + LOCK_S
    while time.monotonic() < until:
        with contextlib.suppress(BlockingIOError):
            return appoint(job, folder, resumed=True)
        time.sleep(LOCK_S / 100)
    # on a network file system the lock of a node that is gone stays for a while; all who are left agree that it is dead
    warn(f"the log of {folder} is still locked {LOCK_S:.0f} s after its writer died; going on without the lock")
    return appoint(job, folder, resumed=True, lock=False)


@dataclass(slots=True)
class LastWords:
    """What the log says of this job.

    ``epoch``: the last one's record. ``stopping``: whether it says that training ends with that. ``status``: of its
    end, if it has come to that. ``dead``: who left before. ``told``: whose death it tells of.
    """

    epoch: Record | None = None
    stopping: bool = False
    status: str = ""
    dead: set[int] = field(default_factory=set)
    reported: set[int] = field(default_factory=set)


def _last_words(lead: Coordinator) -> LastWords:
    last, epoch = LastWords(), None
    for entry in LogReader(lead.log.path).entries():
        event = entry.record() if entry.kind == "event" else {}
        what = event.get("what")
        last.status = str(entry.record()["status"]) if entry.kind == "end" else ""
        if entry.kind == "epoch":
            epoch, last.stopping = entry, False
        elif what == "resume":
            epoch, last = None, LastWords()  # of what follows, nothing is there yet
        elif what == "shrink":
            last.dead.update(event["dead"])
        elif what == "death":
            last.reported.add(event["rank"])
        elif what == "early-stop":
            last.stopping = True
    last.epoch = epoch.record() if epoch else None
    return last
