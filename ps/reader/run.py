"""A run as its readers see it: the parts of the log in bounded memory, and whether the job still lives."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from common.host import host
from ps.log import FAILURE_NAME, LogReader, Record, log_path


@dataclass(slots=True)
class RunView:
    """Header, findings and end of a run; epochs are handed to a callback one by one, only the last is kept."""

    path: Path
    header: Record = field(default_factory=dict)
    verdicts: list[Record] = field(default_factory=list)
    events: list[Record] = field(default_factory=list)
    last: Record = field(default_factory=dict)
    end: Record = field(default_factory=dict)
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
        elif kind == "end":
            self.end = record

    @property
    def state(self) -> str:
        """Done, stopped, failed, died, running, or what can be said from another host."""
        if self.end:
            return {"ok": "done"}.get(self.end["status"], str(self.end["status"]))
        if self.failure:
            return "died"
        if not self.header:
            return "empty"
        where = self.header["nodes"][0]["host"]
        if where == host():
            return "running" if _alive(self.header["pid"]) else "died"
        return f"no end yet; last written {time.time() - self.path.stat().st_mtime:.0f} s ago, on {where}"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def load(run: Path, on_epoch: Callable[[Record], None] | None = None) -> RunView:
    """Read a whole log; ``on_epoch`` gets every epoch record. Raises LogError."""
    view = RunView(log_path(run))
    reader = LogReader(view.path)
    for record in reader.records():
        view.add(record)
        if record["kind"] == "epoch" and on_epoch:
            on_epoch(record)
    view.torn, view.offset = reader.torn, reader.offset
    return view


def mean(values: list[Any]) -> float:
    """Return the mean over the ranks that have a value."""
    known = [v for v in values if v is not None]
    return fmean(known) if known else float("nan")


def number(value: float | None, digits: int = 4) -> str:
    """Return a figure for a table; a dash for none."""
    return "-" if value is None else f"{value:.{digits}g}"


def percent(value: float | None) -> str:
    """Return a share for a table; a dash for none."""
    return "-" if value is None else f"{100 * value:.2f} %"


def metric(view: RunView, value: float | None) -> str:
    """Return the run's metric as people read it."""
    is_class = view.header.get("data", {}).get("classes") is not None
    return percent(value) if is_class else number(value)


def verdict_line(record: Record) -> str:
    """Return a finding as one line."""
    return f"Verdict ({record['severity']}): {record['text']}. Remedy: {record['remedy']}."


def death(view: RunView) -> str:
    """Say how a job died whose log has no end."""
    if view.failure:
        return f"The job died: {view.failure.splitlines()[-1]}"
    return "The job died without a word: its process is gone and the log has no end."
