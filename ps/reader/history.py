"""The jobs that a run was trained by: from which epoch to which, on how many ranks, and how each ended."""

import itertools

from common.limits import TABLE_ROWS
from ps.logfile.records import Record
from ps.reader.events import place
from ps.reader.run_view import RunView, TrainingSession
from ps.text.formatting import date_time

COLUMNS = ["job", "began", "from", "epochs that count", "ranks", "nodes", "checkpoints", "ended"]


def history_title(view: RunView) -> str:
    """Return the title of the table of jobs."""
    more = f", the last {TABLE_ROWS}" if len(view.sessions) > TABLE_ROWS else ""
    return f"Jobs of this run ({len(view.sessions)}{more})"


def history_rows(view: RunView) -> list[list[str]]:
    """Return a line for each of the last jobs, under ``COLUMNS``."""
    pairs = itertools.zip_longest(view.sessions, view.sessions[1:])
    lines = [
        [
            str(number),
            date_time((session.began or session.header)["t"]),
            place(session.began) if session.began else "the start",
            _epochs(session),
            str(session.header["world"]),
            str(len(session.header["nodes"])),
            str(session.checkpoints),
            _ended(view, session, later),
        ]
        for number, (session, later) in enumerate(pairs, 1)
    ]
    return lines[-TABLE_ROWS:]


def _epochs(session: TrainingSession) -> str:
    """Return the epochs that a job finished and no later one did again."""
    if session.last < session.first:
        return "none"
    return str(session.last) if session.last == session.first else f"{session.first} to {session.last}"


def _ended(view: RunView, session: TrainingSession, later: TrainingSession | None) -> str:
    if later is None:
        return view.state
    again = view.superseded[later.seq]
    more = f"; {again} epoch(s) done again" if again else ""
    if later.began["what"] == "shrink":
        return f"lost rank {', '.join(str(rank) for rank in later.began['dead'])}{more}"
    return (_end(session.end) if session.end else _death(view, session, later)) + more


def _death(view: RunView, session: TrainingSession, later: TrainingSession) -> str:
    """Say that a job died, and of which rank if the log says so."""
    deaths = [e for e in view.events if e["what"] == "death" and "rank" in e and session.seq < e["seq"] < later.seq]
    alive = session.began.get("alive")  # after a shrink come deaths of ranks without which it continued, too
    event = next((e for e in deaths if alive is None or e["rank"] in alive), None)
    return f"died, first rank {event['rank']} on {event.get('host')}" if event else "died"


def _end(end: Record) -> str:
    epoch, step = end.get("stopped_epoch"), end.get("stopped_step")
    return f"{end['status']} after epoch {epoch}, step {step}" if epoch is not None else str(end["status"])
