"""The events of a log as lines: what happened to a run while it trained."""

from collections.abc import Callable

from ps.logfile.records import Record
from ps.reader.run_view import RunView
from ps.text.formatting import number

HIDDEN = ("kind", "seq", "t", "crc", "what", "noticed", "stacks")
"""Fields of an event that its line leaves out."""


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
        return f"Event {what}: {DESCRIPTIONS[what](event)}"
    if isinstance(message, str):
        return f"Event {what}: {message.splitlines()[0] if message else ''}"
    facts = ", ".join(f"{k} {v}" for k, v in event.items() if k not in HIDDEN)
    return f"Event {what}: {facts}"


def place(event: Record) -> str:
    """Return where training continued: the epoch, and how many steps of it were done."""
    return f"epoch {event['epoch']}" + (f" after {event['step']} of its steps" if event["step"] else "")


def _resume(event: Record) -> str:
    passed_over = "".join(f"; passed over: {text}" for text in event.get("passed_over", []))
    before = f", {event['ranks_before']} before" if event["ranks_before"] != event["ranks"] else ""
    return f"another job resumed at {place(event)}, with {event['ranks']} rank(s){before}{passed_over}"


def _shrink(event: Record) -> str:
    dead = ", ".join(str(rank) for rank in event["dead"])
    return (
        f"rank {dead} on {', '.join(event['hosts'])} died; {event['ranks']} of {event['ranks_before']} ranks continued "
        f"at {place(event)}, {number(event['seconds'])} s later"
    )


def _skip(event: Record) -> str:
    where = ((f"rank {rank}: " if rank else "") + ", ".join(names) for rank, names in event["not_finite"].items())
    return f"epoch {event['epoch']}, step {event['step']} was left out; not finite: {'; '.join(where)}"


def _heal(event: Record) -> str:
    where = (f"rank {rank} in {', '.join(names)}" for rank, names in event["parameters"].items())
    return f"epoch {event['epoch']}, step {event['step']}: repaired from the majority: {'; '.join(where)}"


def _stop(event: Record) -> str:
    if not {"epoch", "step", "signals"} <= event.keys():  # of a comparison, which has no epochs
        return str(event.get("message", "all ranks stopped on request"))
    who = ", ".join(f"{name} on rank {rank}" for rank, name in event["signals"].items())
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
