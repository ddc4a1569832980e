"""What rank 0 does after a death: it notes who died, and takes over the log if the coordinator was among them."""

import contextlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import EXIT_ERROR, EXIT_OK, EXIT_STOPPED
from common.ranges import ranks_on
from common.wording import count
from ps.coordinator.coordinator import Coordinator
from ps.logfile.records import Record
from ps.logfile.salvage import SalvageReader
from ps.text.terminal import say, warn
from workers.training.job import Job
from workers.training.log_start import appoint
from workers.training.membership import Membership

EXIT_CODES = {"ok": EXIT_OK, "stopped": EXIT_STOPPED}
LOCK_S = 10.0
"""How long to wait for the lock on the log of a process that has died."""


def membership_of(job: Job) -> Membership:
    """Return who takes part in a job that continues without the dead."""
    assert job.membership is not None
    return job.membership


def take_stock(job: Job, alive: list[int], facts: dict[str, Any]) -> list[Any]:
    """At rank 0: note what happened, as the coordinator, which this rank may not have been.

    Return the exit code and the epoch's decision, as far as they are known now. ``facts``: what the header would say.
    """
    state, membership = job.state, membership_of(job)
    if job.seat.coordinator is None:
        _take_over(job, facts)
    coordinator = job.seat.here()
    dead = [rank for rank in membership.ranks if rank not in alive]
    if state.code is None and dead:
        _note(job, dead, facts)
        job.collect_death_notes(0.0)
    coordinator.rebind(facts)
    return [state.code, state.decision]


def _note(job: Job, dead: list[int], facts: dict[str, Any]) -> None:
    """Write and print who died, and where the others continue: in an epoch, after so many steps of it."""
    state, membership = job.state, membership_of(job)
    before = len(membership.ranks)
    closed = state.decision is not None  # the epoch is in the log, and must come before the one to continue with
    epoch, step = (state.epoch + 1, 0) if closed else (state.epoch, state.before.steps)
    seconds = time.perf_counter() - membership.noticed
    membership.remove(dead)
    after, hosts = len(membership.ranks), [membership.hosts[rank] for rank in dead]
    job.seat.event(
        "shrink", dead=dead, hosts=hosts, alive=membership.ranks, epoch=epoch, step=step, ranks_before=before,
        ranks=after, seconds=seconds, **facts,
    )  # fmt: skip
    named = ranks_on(dead, hosts)
    last = state.over or epoch > job.config.epochs or (state.decision is not None and state.decision["stop"])
    where = "the final test" if last else f"epoch {epoch}, after step {step}"
    left = f"{count(after, 'rank')} at {where}"
    say(f"Continuing without {named}: {left}; recovered in {1000 * seconds:.0f} ms.")
    job.seat.here().display.open()


def _take_over(job: Job, facts: dict[str, Any]) -> None:
    """Become the coordinator in place of one that died, and learn from its log.

    What the log says goes to the job at once: a further rank may die before the others have received it.
    """
    state, membership, coordinator = job.state, membership_of(job), _open(job, facts)
    last, memory = _logged_job(coordinator.log.path), (state.decision or state.last)["memory"]
    # the time of a checkpoint may be days ago
    since_s = time.time() - max(memory.get("at", 0.0), membership.began)
    coordinator.recall({**memory, "elapsed_s": memory.get("elapsed_s", 0.0) + since_s}, last.epoch)
    if state.decision is None and last.epoch and last.epoch["epoch"] == state.epoch:  # nobody received it
        coordinator.noise.update(last.epoch)
        judged = coordinator.judge(last.epoch, reported=last.stopping)
        state.decision = {**judged, "diverged": False, "signalled": False, "memory": coordinator.memory()}
    if last.status:
        state.code = EXIT_CODES.get(last.status, EXIT_ERROR)
    membership.remove(last.dead, last.reported)


def _open(job: Job, facts: dict[str, Any]) -> Coordinator:
    """Continue the log, once the dead process's lock on it is gone."""
    folder = job.rank_status.folder
    assert folder is not None
    until = time.monotonic() + LOCK_S
    while time.monotonic() < until:
        with contextlib.suppress(BlockingIOError):
            return appoint(job, folder, facts, resumed=True)
        time.sleep(LOCK_S / 100)
    # on a network file system the lock of a node that is gone stays for a while; all who are left agree that it is dead
    warn(f"the log of {folder} is still locked {LOCK_S:.0f} s after its writer died; continuing without the lock")
    return appoint(job, folder, facts, resumed=True, lock=False)


@dataclass(slots=True)
class LoggedJob:
    """What the log says of this job.

    ``epoch``: the last one's record. ``stopping``: whether it says that training ends with that. ``status``: of its
    end, if it has been written. ``dead``: who left before. ``reported``: whose death it holds.
    """

    epoch: Record | None = None
    stopping: bool = False
    status: str = ""
    dead: set[int] = field(default_factory=set)
    reported: set[int] = field(default_factory=set)


def _logged_job(log: Path) -> LoggedJob:
    """Read what the log says of this job. Raises LogError."""
    last = LoggedJob()
    for record in SalvageReader(log).records():
        kind = record["kind"]
        what = record.get("what") if kind == "event" else ""
        last.status = str(record["status"]) if kind == "end" else ""
        if kind == "epoch":
            last.epoch, last.stopping = record, False
        elif what == "resume":
            last = LoggedJob()  # of what follows, nothing is there yet
        elif what == "shrink":
            last.dead.update(record["dead"])
        elif what == "death":
            last.reported.add(record["rank"])
        elif what == "early-stop":
            last.stopping = True
    return last
