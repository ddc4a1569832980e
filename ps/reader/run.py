"""A run as its readers see it: the parts of the log in bounded memory, and whether the job still lives."""

import itertools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from common.host import boot_id, host, process_start
from ps.log import FAILURE_NAME, Entry, LogReader, Record, log_path
from ps.reader.schema import Check

KEPT = ("header", "verdict", "event", "balance", "end")
"""Kinds that a view decodes as it meets them; there are few records of each."""
HIDDEN = ("kind", "seq", "t", "crc", "what", "noticed", "stacks")
"""Fields of an event that its line leaves out."""


@dataclass(slots=True)
class RunView:
    """Header, findings and end of a run, and the last epoch, whose record may wait in ``latest`` to be decoded."""

    path: Path
    header: Record = field(default_factory=dict)
    verdicts: list[Record] = field(default_factory=list)
    events: list[Record] = field(default_factory=list)
    last: Record = field(default_factory=dict)
    balance: Record = field(default_factory=dict)
    end: Record = field(default_factory=dict)
    latest: Entry | None = None
    torn: int = 0
    offset: int = 0

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.path.parent

    @property
    def failure(self) -> str:
        """What the failing rank left behind; empty if none did."""
        try:
            return (self.folder / FAILURE_NAME).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""

    @property
    def metric(self) -> str:
        """The name of the run's metric, from the header: only the end record tells it."""
        return "accuracy" if self.header and self.header["data"]["classes"] is not None else "r2"

    def add(self, record: Record) -> None:
        """Keep a record where it belongs; kinds and events of later versions are ignored."""
        kind = record["kind"]
        if kind == "header":
            self.header = record
        elif kind == "verdict":
            self.verdicts.append(record)
        elif kind == "event":
            self.events.append(record)
        elif kind == "epoch":
            self.last = record
        elif kind == "balance":
            self.balance = record
        elif kind == "end":
            self.end = record

    def take(self, entry: Entry) -> None:
        """Keep a record that is not decoded yet; of epochs only the last one will be, by ``settle``."""
        if entry.kind == "epoch":
            self.latest = entry
        elif entry.kind in KEPT:
            self.add(entry.record())

    def settle(self) -> None:
        """Decode the last epoch that was taken. Raises LogError."""
        if self.latest is not None:
            self.last = self.latest.record()
            self.latest = None

    @property
    def state(self) -> str:
        """Done, stopped, failed, died, running, or what can be said from another host."""
        if self.end:
            return "done" if self.end["status"] == "ok" else str(self.end["status"])
        if self.failure:
            return "died"
        if not self.header:
            return "empty"
        where = next((node["host"] for node in self.header["nodes"]), "an unknown host")
        if where == host():
            return "running" if _alive(self.header) else "died"
        try:
            silent_s = time.time() - self.path.stat().st_mtime
        except OSError:
            return f"no end yet, on {where}"
        return f"no end yet; last written {silent_s:.0f} s ago, on {where}"


def _alive(header: Record) -> bool:
    """Say whether the header's process runs on this host; another one may have its id by now."""
    pid = header["pid"]
    for noted, now in ((header.get("boot_id"), boot_id()), (header.get("pid_start"), process_start(pid))):
        if None not in (noted, now) and noted != now:
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def skim(run: Path, passed: Callable[[Entry], None]) -> RunView:
    """Read a whole log and decode little of it; ``passed`` gets every record undecoded. Raises LogError.

    The fields of epochs and of sampled steps are judged only where they are decoded.
    """
    view = RunView(log_path(run))
    reader = LogReader(view.path, Check())
    for entry in reader.entries():
        view.take(entry)
        passed(entry)
    view.settle()
    view.torn, view.offset = reader.torn, reader.offset
    return view


def load(run: Path, on_epoch: Callable[[Record], None]) -> RunView:
    """Read a whole log; ``on_epoch`` gets every epoch record. Raises LogError."""
    return skim(run, lambda entry: on_epoch(entry.record()) if entry.kind == "epoch" else None)


def mean(values: list[float]) -> float:
    """Return the mean over the ranks."""
    return sum(values) / len(values)


def extremes(record: Record, most: int) -> list[int]:
    """Return the ranks to show of an epoch, in order: all of up to ``most``, else those that stand out.

    In turn the ranks with the most and the least compute, wait and share of the update.
    """
    world = len(record["rows"])
    if world <= most:
        return list(range(world))
    orders = [
        sorted(range(world), key=lambda rank, values=record[key]: values[rank] or 0.0, reverse=backwards)
        for key in ("compute_s", "wait_s", "share_all")
        for backwards in (True, False)
    ]
    in_turn = dict.fromkeys(rank for place in zip(*orders, strict=True) for rank in place)
    return sorted(itertools.islice(in_turn, most))


def end_line(record: Record) -> str:
    """Say how a run ended."""
    return f"End: {record['status']} after {record['epochs']} epoch(s) and {record['wall_s']:.2f} s"


def event_line(event: Record) -> str:
    """Return an event as one line: its message, or whatever it holds."""
    message = event.get("message")
    if isinstance(message, str):
        return f"Event {event['what']}: {message.splitlines()[0] if message else ''}"
    facts = ", ".join(f"{k} {v}" for k, v in event.items() if k not in HIDDEN)
    return f"Event {event['what']}: {facts}"


def death(view: RunView) -> str:
    """Say how a job died whose log has no end."""
    if view.failure:
        return f"The job died: {view.failure.splitlines()[-1]}"
    return "The job died without a word: its process is gone and the log has no end."
