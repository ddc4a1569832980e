"""A run as its readers see it: the parts of the log in bounded memory, and whether the job still lives."""

import itertools
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from common.host import boot_id, has_ended, host, process_start
from common.run_files import FAILURE_NAME, log_path
from ps.logfile.deduplicated import DeduplicatedReader
from ps.logfile.reader import Entry
from ps.logfile.records import GOING_ON, Record
from ps.logfile.schema import PROCESSES, Check
from ps.text.record_lines import verdict_line

KEPT = ("header", "verdict", "event", "balance", "end")
"""Kinds that a view decodes as it meets them; there are few records of each."""
MOST_NUMBERS = 6
"""Changes of the number of ranks that are told one by one."""
MOST_VERDICTS = 200
"""Findings that are kept, the first ones: each is said once, but a foreign log may hold any number."""
MOST_KINDS = 64
"""Kinds of events that are kept; there are a dozen."""
MOST_EVENTS = 20
"""Events of a kind that are kept, the last ones; of checkpoints only the last."""


@dataclass(slots=True)
class TrainingSession:
    """One of the jobs that a run was trained by, or the part of one between two changes of its ranks.

    ``header``: the facts that hold for it. ``seq``: number of the record that begins it, the header or the event
    ``began``. ``first``: the epoch it began at, behind ``step`` steps of it that were done. ``last``: the last epoch of
    it that counts; 0 for none. ``checkpoints``: how many it wrote. ``end``: its last record, if it had one.
    """

    header: Record
    seq: int
    began: Record = field(default_factory=dict)
    first: int = 1
    step: int = 0
    last: int = 0
    checkpoints: int = 0
    end: Record = field(default_factory=dict)


@dataclass(slots=True)
class RunView:
    """Header, findings and end of a run, and the last epoch, whose record may wait in ``latest`` to be decoded.

    ``header``: as of the job that was the last to go on with the run, but for when the first one began. ``counts``: how
    many events there were by kind. ``n_verdicts``: their number, of which the first are kept. ``superseded``: see
    DeduplicatedReader.
    """

    path: Path
    header: Record = field(default_factory=dict)
    verdicts: list[Record] = field(default_factory=list)
    n_verdicts: int = 0
    events: list[Record] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    jobs: list[TrainingSession] = field(default_factory=list)
    superseded: Counter[int] = field(default_factory=Counter)
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

    @property
    def ranks(self) -> str:
        """The number of ranks, and if it changed all of them in their order."""
        numbers = [str(n) for n, _ in itertools.groupby(job.header["world"] for job in self.jobs)]
        if len(numbers) > MOST_NUMBERS:
            numbers = [numbers[0], "...", *numbers[-2:]]
        return ", then ".join(numbers)

    def header_at(self, record: Record) -> Record:
        """Return the facts that hold for an epoch: those of the job that wrote it."""
        return next((job.header for job in reversed(self.jobs) if job.seq <= record["seq"]), self.header)

    def add(self, record: Record) -> None:
        """Keep a record where it belongs; kinds and events of later versions are ignored."""
        kind = record["kind"]
        if kind == "header":
            self.header = record
            self.jobs = [TrainingSession(record, record["seq"])]
        elif kind == "verdict":
            self.n_verdicts += 1
            if len(self.verdicts) < MOST_VERDICTS:
                self.verdicts.append(record)
        elif kind == "event":
            self._add_event(record)
        elif kind == "epoch":
            self.last = record
            self._count_epoch(record["epoch"])
        elif kind == "balance":
            self.balance = record
        elif kind == "end":
            self.end = record

    def take(self, entry: Entry) -> None:
        """Keep a record that is not decoded yet; of epochs only the last one will be, by ``settle``."""
        if entry.kind == "epoch":
            self.latest = entry
            self._count_epoch(_number(entry))
        elif entry.kind in KEPT:
            self.add(entry.record())

    def close(self, reader: DeduplicatedReader) -> None:
        """Decode the last epoch and note what the reader knows at the end of the log. Raises LogError."""
        self.settle()
        self.torn, self.offset, self.superseded = reader.torn, reader.offset, reader.superseded

    def _count_epoch(self, epoch: int) -> None:
        if self.jobs:
            self.jobs[-1].last = epoch

    def _add_event(self, record: Record) -> None:
        what = record["what"]
        if what not in self.counts and len(self.counts) >= MOST_KINDS:
            return
        most = 1 if what == "checkpoint" else MOST_EVENTS
        self.counts[what] += 1
        if self.counts[what] > most:
            oldest = next(i for i, event in enumerate(self.events) if event["what"] == what)
            del self.events[oldest]
        self.events.append(record)
        if not self.jobs:
            return
        if what == "checkpoint":
            self.jobs[-1].checkpoints += 1
        elif what in GOING_ON:
            self._go_on(record)

    def _go_on(self, record: Record) -> None:
        """Begin another job: an end before is none, and epochs from its first one on are not done yet."""
        self.jobs[-1].end, self.end = self.end, {}
        self.header = going_on(self.header, record)
        self.jobs.append(TrainingSession(self.header, record["seq"], record, record["epoch"], record["step"]))
        if self.latest is not None and _number(self.latest) >= record["epoch"]:
            self.latest = None
        if self.last and self.last["epoch"] >= record["epoch"]:
            self.last = {}

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
        if self.failure:  # ranks that the others went on without leave none
            return "died"
        if not self.header:
            return "empty"
        where = next((node["host"] for node in self.header["nodes"]), "an unknown host")
        if where == host():
            return "running" if alive(self.header) else "died"
        try:
            silent_s = time.time() - self.path.stat().st_mtime
        except OSError:
            return f"no end yet, on {where}"
        return f"no end yet; last written {silent_s:.0f} s ago, on {where}"


def _number(entry: Entry) -> int:
    return entry.epoch or int(entry.record()["epoch"])


def going_on(header: Record, event: Record) -> Record:
    """Return a run's header as it is after a ``resume`` or ``shrink`` event: with the facts of the new processes."""
    facts = {name: event[name] for name in PROCESSES if name in event}
    config = {**header["config"], "epochs": event.get("epochs", header["config"]["epochs"])}
    return {**header, "world": event["ranks"], **facts, "config": config}


def skim(run: Path, passed: Callable[[Entry], None]) -> RunView:
    """Read a whole log and decode little of it; ``passed`` gets every record that counts, undecoded. Raises LogError.

    The fields of epochs and of sampled steps are judged only where they are decoded.
    """
    view = RunView(log_path(run))
    reader = DeduplicatedReader(view.path, Check())
    for entry in reader.entries():
        view.take(entry)
        passed(entry)
    view.close(reader)
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


def verdict_lines(view: RunView) -> list[str]:
    """Return the findings as lines, and how many more there are."""
    more = view.n_verdicts - len(view.verdicts)
    return [verdict_line(record) for record in view.verdicts] + [f"{more} more verdicts are in the log"] * bool(more)


def death(view: RunView) -> str:
    """Say how a job died whose log has no end."""
    if view.failure:
        return f"The job died: {view.failure.splitlines()[-1]}"
    return "The job died without a word: its process is gone and the log has no end."


def alive(header: Record) -> bool:
    """Say whether the header's process runs on this host; another one may have its id by now."""
    pid = header["pid"]
    for noted, now in ((header.get("boot_id"), boot_id()), (header.get("pid_start"), process_start(pid))):
        if None not in (noted, now) and noted != now:
            return False
    if has_ended(pid):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
