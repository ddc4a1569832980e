"""A run as its readers see it: what its log holds in bounded memory, and whether its job still runs."""

import contextlib
import itertools
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from common import limits
from common.errors import LogError
from common.host import boot_id, has_ended, host, process_start
from common.run_files import FAILURE_NAME, checkpoints_in, read_failure
from common.wording import count
from ps.logfile.damage import Damage
from ps.logfile.deduplicated import DeduplicatedReader
from ps.logfile.records import CONTINUATIONS, Record
from ps.logfile.schema import PROCESSES, Check
from ps.reader.kept import Allowance
from ps.reader.output import damage_lines
from ps.text.formatting import verdict_line
from ps.text.run_facts import metric_name

UNREAD = f"{FAILURE_NAME} cannot be read"
"""In place of the message of a job that left one: that it did says enough."""


@dataclass(slots=True)
class TrainingSession:
    """One of the jobs that trained a run, or the part of one between two changes of its ranks.

    ``header``: the facts that hold for it. ``seq``: number of the record that begins it, the header or the event
    ``began``. ``first``: the epoch it began in. ``last``: the last epoch of it that counts; 0 for none.
    ``checkpoints``: how many it wrote. ``end``: its last record, if it had one.
    """

    header: Record
    seq: int
    began: Record = field(default_factory=dict)
    first: int = 1
    last: int = 0
    checkpoints: int = 0
    end: Record = field(default_factory=dict)


@dataclass(slots=True)
class RunView:
    """Header, findings, events and end of a run, and its last epoch.

    ``header``: as of the last job that continued the run, but for when the first one began. ``n_verdicts``: how many
    there are, of which the first are kept. ``counts``: how many events there are by kind, of which the last are kept.
    ``superseded``: see DeduplicatedReader. ``salvage``: whether to read what is whole of a damaged log; ``damage``:
    what was skipped then. ``sessions``: the first and the last ones; ``n_left_out``: how many others there were.
    """

    path: Path
    salvage: bool = False
    header: Record = field(default_factory=dict)
    verdicts: list[Record] = field(default_factory=list)
    n_verdicts: int = 0
    events: list[Record] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    sessions: list[TrainingSession] = field(default_factory=list)
    superseded: Counter[int] = field(default_factory=Counter)
    last: Record = field(default_factory=dict)
    balance: Record = field(default_factory=dict)
    end: Record = field(default_factory=dict)
    torn: int = 0
    offset: int = 0
    damage: Damage = field(default_factory=Damage)
    n_left_out: int = 0
    _verdict_room: Allowance = field(default_factory=Allowance)
    _event_room: Allowance = field(default_factory=Allowance)
    _session_room: Allowance = field(default_factory=Allowance)

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.path.parent

    @property
    def failure(self) -> str:
        """What the failing rank left in the run folder; empty if none did."""
        try:
            return read_failure(self.folder)
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except OSError as error:
            return f"{UNREAD} ({error.strerror})"

    @property
    def metric(self) -> str:
        """The name of the run's metric, from the header: only the end record has it."""
        return metric_name(self.header["data"]) if self.header else "r2"

    @property
    def ranks(self) -> str:
        """The number of ranks; if it changed, all of them in their order."""
        numbers = [str(n) for n, _ in itertools.groupby(session.header["world"] for session in self.sessions)]
        return ", then ".join(numbers if len(numbers) <= 6 else [numbers[0], "...", *numbers[-2:]])

    @property
    def state(self) -> str:
        """Done, stopped, failed, died, running, or what can be said from another host."""
        if self.end:
            return "done" if self.end["status"] == "ok" else str(self.end["status"])
        if self.failure:  # ranks without which the others continued leave none
            return "died"
        if not self.header:
            return "empty"
        where = next((node["host"] for node in self.header["nodes"]), "an unknown host")
        if where == host():
            return "running" if is_running(self.header) else "died"
        try:
            return f"no end yet; last written {time.time() - self.path.stat().st_mtime:,.0f} s ago on {where}"
        except OSError:
            return f"no end yet on {where}"

    @property
    def is_comparison(self) -> bool:
        """Whether it is no run, but a comparison of modes."""
        return self.header.get("purpose") == "comparison"

    def header_at(self, record: Record) -> Record:
        """Return the facts that hold for an epoch: those of the job that wrote it."""
        sessions = reversed(self.sessions)
        return next((session.header for session in sessions if session.seq <= record["seq"]), self.header)

    def read(self, *unchecked: str) -> Iterator[Record]:
        """Read the whole log; yield every record that counts, once it is in the view. Raises LogError.

        ``unchecked``: kinds of records that the caller makes nothing of.
        """
        reader = DeduplicatedReader(self.path, Check(*unchecked), salvage=self.salvage)
        for record in reader.records():
            self.add(record)
            yield record
        self.close(reader)
        if self.damage and not self.header:
            raise self._nothing_whole()

    def _nothing_whole(self) -> LogError:
        """Return the error that says why no record of a damaged log can be read, and what to do."""
        remedy = ""
        with contextlib.suppress(OSError):
            if checkpoints_in(self.folder):
                remedy = "; training with --resume continues from the newest checkpoint, with another log"
        return LogError(self.path, 0, f"no whole record in it ({self.damage.places[0].reason}){remedy}")

    def add(self, record: Record) -> None:
        """Keep a record where it belongs; kinds and events of later versions are ignored."""
        kind = record["kind"]
        if kind == "header":
            self.header = record
            self.sessions = [TrainingSession(record, record["seq"])]
        elif kind == "verdict":
            self.n_verdicts += 1
            if len(self.verdicts) < limits.FINDINGS and self._verdict_room.take(record):
                self.verdicts.append(record)
        elif kind == "event":
            self._add_event(record)
        elif kind == "epoch":
            self.last = record
            if self.sessions:
                self.sessions[-1].last = record["epoch"]
        elif kind == "balance":
            self.balance = record
        elif kind == "end":
            self.end = record

    def close(self, reader: DeduplicatedReader) -> None:
        """Note what the reader knows at the end of the log."""
        self.torn, self.offset, self.superseded = reader.torn, reader.offset, reader.superseded
        self.damage = reader.damage

    def _add_event(self, record: Record) -> None:
        what = record["what"]
        if what not in self.counts and len(self.counts) >= limits.FINDINGS:
            return
        self.counts[what] += 1
        if self.counts[what] > (1 if what == "checkpoint" else limits.EVENTS):
            self._drop_event(next((i for i, event in enumerate(self.events) if event["what"] == what), -1))
        self._keep_event(record)
        if self.sessions and what == "checkpoint":
            self.sessions[-1].checkpoints += 1
        elif self.sessions and what in CONTINUATIONS:
            self._continue(record)

    def _keep_event(self, event: Record) -> None:
        """Keep an event in the place of older ones, if there is no other room for it."""
        while not (fits := self._event_room.take(event)) and self.events:
            self._drop_event(0)
        if fits:
            self.events.append(event)

    def _drop_event(self, place: int) -> None:
        if place >= 0:
            self._event_room.give_back(self.events.pop(place))

    def _keep_session(self, session: TrainingSession) -> None:
        """Keep a session in the place of others after the first, if there are too many, or no other room for it."""
        full = len(self.sessions) >= limits.SESSIONS
        while full or not self._session_room.take(session.began):
            if len(self.sessions) < 2:
                raise LogError(self.path, 0, f"record {session.seq}, which continues the run, holds too much")
            self._session_room.give_back(self.sessions.pop(1).began)
            self.n_left_out += 1
            full = False
        self.sessions.append(session)

    def _continue(self, event: Record) -> None:
        """Begin another session: an end before it is none, and epochs from its first one on are not done yet."""
        self.sessions[-1].end, self.end = self.end, {}
        facts = {name: event[name] for name in PROCESSES if name in event}
        facts |= {name: event[name] for name in ("steps_per_epoch", "sync") if name in event}
        config = {**self.header["config"], **event.get("config", {})}
        config["epochs"] = event.get("epochs", config["epochs"])
        self.header = {**self.header, "world": event["ranks"], **facts, "config": config}
        self._keep_session(TrainingSession(self.header, event["seq"], event, event["epoch"]))
        if self.last and self.last["epoch"] >= event["epoch"]:
            self.last = {}


def is_running(header: Record) -> bool:
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
    return not has_ended(pid)


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
        sorted(range(world), key=lambda rank, values=record[key]: values[rank] or 0.0, reverse=most_first)
        for key in ("compute_s", "wait_s", "share_all")
        for most_first in (True, False)
    ]
    in_turn = dict.fromkeys(rank for place in zip(*orders, strict=True) for rank in place)
    return sorted(itertools.islice(in_turn, most))


def ending(view: RunView) -> str:
    """Say how a run ended or died; nothing if it may still run. A comparison has no epochs."""
    if not view.end:
        return death(view) if view.state == "died" else ""
    epochs = "" if view.is_comparison else f"{count(view.end['epochs'], 'epoch')}, "
    return f"End: {view.state} after {epochs}{view.end['wall_s']:.2f} s"


def verdict_lines(view: RunView) -> list[str]:
    """Return the findings as lines, and how many more there are."""
    more = view.n_verdicts - len(view.verdicts)
    lines = [verdict_line(record) for record in view.verdicts]
    return [*lines, f"{count(more, 'more verdict')} {'is' if more == 1 else 'are'} in the log"] if more else lines


def check_lines(view: RunView) -> list[str]:
    """Return what became of the checks that have no verdict, once the run has ended; logs of old versions say nothing.

    Nothing to report is only said where everything was judged.
    """
    reasons = view.end.get("not_judged")
    if reasons is None or view.is_comparison:
        return []
    if not reasons:
        return [] if view.n_verdicts else ["No verdict: none of the checks found anything."]
    codes: dict[str, list[str]] = {}
    for code, reason in reasons.items():
        codes.setdefault(reason, []).append(code)
    return ["Not judged: " + "; ".join(f"{', '.join(own)} ({reason})" for reason, own in codes.items()) + "."]


def death(view: RunView) -> str:
    """Say how a job died whose log has no end."""
    if view.failure:
        return f"The job died: {view.failure.splitlines()[-1]}"
    return "The job died and left no message: its process is gone and the log has no end."


def torn_lines(view: RunView) -> list[str]:
    """Say that the log ends in the middle of a record, and where it is damaged; nothing if neither is so."""
    return [
        f"The last {count(view.torn, 'byte')} of the log, from byte {view.offset:,} on, are a record that was not "
        "finished: the job was killed while writing, or writes it now. All records before it are whole."
    ] * bool(view.torn) + damage_lines(view.damage)
