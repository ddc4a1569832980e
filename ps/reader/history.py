"""The jobs that a run was trained by: from which epoch to which, on how many ranks, and how each ended."""

import itertools
import time

from ps.logfile.records import Record
from ps.reader.events import place
from ps.reader.run_view import RunView, TrainingSession

MOST_JOBS = 40
"""Shown one by one; of more, the last."""
COLUMNS = ["job", "began", "from", "epochs that count", "ranks", "nodes", "checkpoints", "ended"]


def jobs_title(view: RunView) -> str:
    """Return the title of the table of jobs."""
    more = f", the last {MOST_JOBS}" if len(view.jobs) > MOST_JOBS else ""
    return f"Jobs of this run ({len(view.jobs)}{more})"


def job_rows(view: RunView) -> list[list[str]]:
    """Return a line for each job, under ``COLUMNS``."""
    followed = itertools.zip_longest(view.jobs, view.jobs[1:])
    lines = [_row(view, number, job, later) for number, (job, later) in enumerate(followed, 1)]
    return lines[-MOST_JOBS:]


def _row(view: RunView, number: int, job: TrainingSession, later: TrainingSession | None) -> list[str]:
    begun = job.began or job.header
    return [
        str(number),
        time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(begun["t"])),
        place(job.began) if job.began else "the start",
        _epochs(job),
        str(job.header["world"]),
        str(len(job.header["nodes"])),
        str(job.checkpoints),
        _ended(view, job, later),
    ]


def _epochs(job: TrainingSession) -> str:
    """Return the epochs that a job finished and no later one did again."""
    if job.last < job.first:
        return "none"
    return str(job.last) if job.last == job.first else f"{job.first} to {job.last}"


def _ended(view: RunView, job: TrainingSession, later: TrainingSession | None) -> str:
    if later is None:
        return view.state
    again = view.superseded[later.seq]
    more = f"; {again} epoch(s) done again" if again else ""
    if later.began["what"] == "shrink":
        return f"lost rank {', '.join(str(rank) for rank in later.began['dead'])}{more}"
    return (_end(job.end) if job.end else _death(view, job, later)) + more


def _death(view: RunView, job: TrainingSession, later: TrainingSession) -> str:
    """Say that a job died, and of which rank if the log tells."""
    told = [e for e in view.events if e["what"] == "death" and "rank" in e and job.seq < e["seq"] < later.seq]
    alive = (job.began or {}).get("alive")  # behind a shrink the log may still tell of those it went on without
    event = next((e for e in told if alive is None or e["rank"] in alive), {})
    return f"died, first rank {event.get('rank')} on {event.get('host')}" if event else "died"


def _end(end: Record) -> str:
    epoch, step = end.get("stopped_epoch"), end.get("stopped_step")
    return f"{end['status']} after epoch {epoch}, step {step}" if epoch is not None else str(end["status"])
