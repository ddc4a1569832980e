"""What happened to a run: the jobs that trained it, from which epoch to which, and its events as lines."""

import itertools
from collections.abc import Callable

from common.limits import TABLE_ROWS
from common.ranges import SMALL, first_of, listed_ranks, named_hosts, signals
from common.wording import count
from ps.logfile.records import Record
from ps.reader.run_view import RunView, TrainingSession
from ps.text.formatting import date_time, number
from ps.text.layout import Table

DROPPED = ("checkpoints", "nodes", "began", "from", "ranks")
"""Columns in the order in which they are left out, to fit the width."""
COLUMNS = ["job", "began", "from", "epochs that count", "ranks", "nodes", "checkpoints", "ended"]
HIDDEN = ("kind", "seq", "t", "crc", "what", "noticed", "stacks")
"""Fields of an event that its line leaves out."""


def jobs_table(view: RunView) -> Table:
    """Return a table with a line for each of the last jobs."""
    more = f", the last {TABLE_ROWS}" if len(view.sessions) > TABLE_ROWS else ""
    lines = []
    for i, (job, later) in enumerate(itertools.zip_longest(view.sessions, view.sessions[1:]), 1 + view.n_left_out):
        began = _place(job.began) if job.began else "the start"
        counted = " to ".join(map(str, dict.fromkeys((job.first, job.last)))) if job.first <= job.last else "none"
        sizes = [str(n) for n in (job.header["world"], len(job.header["nodes"]), job.checkpoints)]
        at = date_time((job.began or job.header)["t"])
        lines.append([str(i), at, began, counted, *sizes, _ended(view, job, later)])
    return Table(
        f"Jobs of this run ({len(view.sessions) + view.n_left_out}{more})",
        COLUMNS,
        lines[-TABLE_ROWS:],
        DROPPED,
        ("from", "ended"),
    )


def _ended(view: RunView, job: TrainingSession, later: TrainingSession | None) -> str:
    if later is None:
        return view.state
    if later.began["what"] == "shrink":
        text = f"lost {_named(later.began['dead'])}"
    elif job.end:
        epoch, step = job.end.get("stopped_epoch"), job.end.get("stopped_step")
        text = ("done" if job.end["status"] == "ok" else str(job.end["status"])) + (
            "" if epoch is None else f" after epoch {epoch}, step {step}"
        )
    else:
        alive = job.began.get("alive")  # after a shrink come deaths of ranks without which it continued, too
        deaths = (e for e in view.events if e["what"] == "death" and "rank" in e and job.seq < e["seq"] < later.seq)
        first = next((e for e in deaths if alive is None or e["rank"] in alive), None)
        text = f"died, first rank {first['rank']} on {first.get('host')}" if first else "died"
    again = view.superseded[later.seq]
    return f"{text}; {count(again, 'epoch')} done again" if again else text


def event_lines(view: RunView) -> list[str]:
    """Return the events that a view kept, each with the stacks that came with it, and how many others there were."""
    lines, started = [], set[str]()
    for event in view.events:
        what, note = event["what"], ""
        left_out = view.counts[what] - sum(other["what"] == what for other in view.events)
        if left_out and what == "checkpoint":
            note = f" (the last of {left_out + 1})"
        elif left_out and what not in started:
            lines.append(f"Event {what}: {left_out} earlier ones are in the log")
        started.add(what)
        lines.append(event_line(event) + note)
        stacks = event.get("stacks")
        if isinstance(stacks, dict):
            lines += [f"Stack of rank {rank}:\n{stack}" for rank, stack in stacks.items()]
    return lines


def event_line(event: Record) -> str:
    """Return an event as one line: what it means, its message, or whatever it holds."""
    what, message = event["what"], event.get("message")
    if what in DESCRIPTIONS:
        text = DESCRIPTIONS[what](event)
    elif isinstance(message, str):
        text = message.splitlines()[0] if message else ""
    else:
        text = ", ".join(f"{k} {v}" for k, v in event.items() if k not in HIDDEN)
    return f"Event {what}: {text}".replace("\n", " ")


def _place(event: Record) -> str:
    """Return where training continued: the epoch, and how many steps of it were done."""
    return f"epoch {event['epoch']}" + (f" after {event['step']} of its steps" if event["step"] else "")


def _resume(event: Record) -> str:
    passed_over = "".join(f"; passed over: {text}" for text in event.get("passed_over", []))
    lost = event.get("unlogged") or []
    unlogged = f"; not in the log: epochs {lost[0]} to {lost[-1]}" if lost else ""
    before = f", {event['ranks_before']} before" if event["ranks_before"] != event["ranks"] else ""
    ranks, changes = count(event["ranks"], "rank"), _changes(event)
    return f"another job resumed at {_place(event)}, with {ranks}{before}{changes}{passed_over}{unlogged}"


def _changes(event: Record) -> str:
    """Return the options that changed, and whether the result is another for that."""
    changes = event.get("changes", [])
    if not changes:
        return ""
    text = ", ".join(f"{change['name']} {change.get('before')} -> {change.get('now')}" for change in changes)
    other = any(change["effect"] == "result" for change in changes)
    return f"; changed: {text}" + ", so that the result is another" * other


def _named(ranks: list[int]) -> str:
    """Return ``rank 0, 1``, or ``ranks 0-31`` of many."""
    return f"{'rank' if len(ranks) <= SMALL else 'ranks'} {listed_ranks(ranks)}"


def _shrink(event: Record) -> str:
    return (
        f"{_named(event['dead'])} on {named_hosts(event['hosts'])} died; {event['ranks']} of "
        f"{event['ranks_before']} ranks continued at {_place(event)}, {number(event['seconds'])} s later"
    )


def _skip(event: Record) -> str:
    where = ((f"rank {rank}: " if rank else "") + ", ".join(names) for rank, names in event["not_finite"].items())
    return f"epoch {event['epoch']}, step {event['step']} was left out; not finite: {first_of(where)}"


def _heal(event: Record) -> str:
    where = (f"rank {rank} in {', '.join(names)}" for rank, names in event["parameters"].items())
    return f"epoch {event['epoch']}, step {event['step']}: repaired from the majority: {first_of(where)}"


def _stop(event: Record) -> str:
    if not {"epoch", "step", "signals"} <= event.keys():  # of a comparison, which has no epochs
        return str(event.get("message", "all ranks stopped on request"))
    who = signals(event["signals"])
    return f"all ranks stopped on request after epoch {event['epoch']}, step {event['step']} ({who})"


DESCRIPTIONS: dict[str, Callable[[Record], str]] = {
    "resume": _resume,
    "shrink": _shrink,
    "checkpoint": lambda event: str(event["file"]),
    "skip": _skip,
    "heal": _heal,
    "stop": _stop,
}
"""By kind of event, how its fields read."""
