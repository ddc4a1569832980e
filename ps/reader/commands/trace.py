"""``python -m ps.log trace``: the sampled steps as a Chrome trace, a timeline with one row a rank."""

import heapq
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from common.errors import RankwiseError
from common.run_files import log_path
from ps.logfile.deduplicated import DeduplicatedReader
from ps.logfile.records import Record
from ps.logfile.schema import Check
from ps.reader.downsample import Downsampler
from ps.reader.output import save, tell_torn
from ps.reader.run_view import RunView
from ps.text.record_lines import mode_name

MOST_SLICES = 200_000
MOST_EPOCHS = 10_000
MOST_US = 2**53
"""More than any clock of ours shows, and exact as a float64."""
MOMENTS = ("input", "begin", "forward", "backward", "arrived", "last", "left", "measured", "updated", "end")
"""Of a ``steps`` record, in the order in which they come on a rank."""
PHASES = ("input", "forward", "backward", "measure", "wait", "transfer", "measure", "update", "wait")
"""What a rank does between one moment and the next."""
SHARED_MODES = ("shared", "factors")
"""Modes with the second wait: all slices of the one copy of the parameters must be updated. Their ranks sum the slices
themselves, before they have left the exchange."""
SUMMING = "transfer and summing"

Event = dict[str, Any]
Moments = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Step:
    """A sampled step; ``moments``: (moments, ranks), microseconds since the run began; ``job`` that did it, from 0."""

    job: int
    epoch: int
    number: int
    moments: Moments


@dataclass(frozen=True, slots=True)
class Span:
    """An epoch's training loop, in microseconds since the run began, and its loss."""

    epoch: int
    begin_us: int
    end_us: int
    loss: float


class Timeline:
    """What a trace shows of a log, in bounded memory."""

    def __init__(self, path: Path) -> None:
        self.view = RunView(path)
        self.steps: Downsampler[Step] = Downsampler(2)
        self.epochs: Downsampler[Span] = Downsampler(MOST_EPOCHS)
        self.n_steps = 0
        self._epoch: Record = {}

    def add(self, record: Record) -> None:
        """Take a record in; only header, epochs, sampled steps and changes of the ranks matter."""
        self.view.add(record)
        if record["kind"] == "header":
            self.steps = Downsampler(max(2, MOST_SLICES // (len(PHASES) * record["world"])))
        elif record["kind"] == "epoch":
            self._epoch = record
        elif record["kind"] == "steps":
            self._add_steps(record)

    def _add_steps(self, record: Record) -> None:
        begin = _microseconds(record["begin_s"])
        of_moments = (record["moments_us"][name] for name in MOMENTS)
        for number, *moments in zip(record["steps"], *of_moments, strict=False):
            self.steps.add(
                Step(len(self.view.jobs) - 1, record["epoch"], number, begin + np.array(moments, np.float64))
            )
            self.n_steps += 1
        if self._epoch.get("epoch") == record["epoch"]:
            end = begin + _microseconds(max(self._epoch["loop_s"]))
            self.epochs.add(Span(record["epoch"], begin, end, self._epoch["loss"]))


def trace(run: Path, output: Path) -> int:
    """Write the trace; return the exit code. Raises LogError, ConfigError, and RankwiseError without a sampled step."""
    reader = DeduplicatedReader(log_path(run), Check())
    timeline = Timeline(reader.path)
    for record in reader.records():
        timeline.add(record)
    n_steps = len(timeline.steps.kept())
    if not n_steps:
        raise RankwiseError(f"{reader.path}: no sampled step in this log, so there is nothing to trace")
    save(output, lambda file: _write(file, timeline), log=reader.path)
    thinned = f" (one in {timeline.steps.stride} of {timeline.n_steps:,})" if timeline.steps.stride > 1 else ""
    sys.stdout.write(f"{output}: {n_steps:,} sampled steps{thinned} of {timeline.view.ranks} ranks\n")
    tell_torn(reader.torn)
    return 0


def _microseconds(seconds: float) -> int:
    return round(min(max(seconds * 1e6, 0), MOST_US))


def _write(file: BinaryIO, timeline: Timeline) -> None:
    """Write complete JSON, an event a line, sorted by time but for what follows late on a clock that is off."""
    header = timeline.view.header
    about = {"mode": mode_name(header), "ranks": header["world"]}
    file.write(f'{{"displayTimeUnit": "ms", "otherData": {json.dumps(about)}, "traceEvents": ['.encode())
    rows = Rows([job.header for job in timeline.view.jobs])
    streams = _epoch_events(timeline, rows.run), _step_events(timeline, rows.of_ranks)
    timed = heapq.merge(*streams, key=lambda event: int(event["ts"]))
    separator = "\n"
    for events in (rows.names(), timed):
        for event in events:
            file.write(f"{separator}{json.dumps(event)}".encode())
            separator = ",\n"
    file.write(b"\n]}\n")


class Rows:
    """The rows of a trace in groups: the run as a whole, and nodes with their ranks, of all jobs of a run.

    Nodes of later jobs are those before with the same host. ``of_ranks``: by job and rank the numbers of group and row;
    ``run``: those of the run. They count from 1: process 0 and thread 0 stand for the idle task in some viewers.
    """

    def __init__(self, headers: list[Record]) -> None:
        self.hosts: dict[int, str] = {}
        self.of_ranks = [self._places(header) for header in headers]
        widest = max(header["world"] for header in headers)
        self.run = {"pid": len(self.hosts) + 1, "tid": widest + 1}

    def names(self) -> Iterator[Event]:
        """Yield the names of groups and rows, and their order."""
        groups = {self.run["pid"]: "run"} | {pid: f"node {host}" for pid, host in self.hosts.items()}
        for order, (pid, name) in enumerate(groups.items()):
            yield from _about("process", {"pid": pid}, name, order)
        yield from _about("thread", self.run, "epochs", 0)
        ranks = {(rank, place["pid"]): place for places in self.of_ranks for rank, place in enumerate(places)}
        for (rank, _), place in sorted(ranks.items(), key=lambda item: item[0]):
            yield from _about("thread", place, f"rank {rank}", rank)

    def _places(self, header: Record) -> list[dict[str, int]]:
        groups: dict[int, int] = {}
        free = dict(self.hosts)
        for node in header["nodes"]:
            pid = next((pid for pid, host in free.items() if host == node["host"]), len(self.hosts) + 1)
            free.pop(pid, None)
            self.hosts[pid] = node["host"]
            groups |= dict.fromkeys(node["ranks"], pid)
        return [{"pid": groups.get(rank, 1), "tid": rank + 1} for rank in range(header["world"])]


def _about(what: str, place: dict[str, int], name: str, order: int) -> Iterator[Event]:
    yield {"ph": "M", **place, "name": f"{what}_name", "args": {"name": name}}
    yield {"ph": "M", **place, "name": f"{what}_sort_index", "args": {"sort_index": order}}


def _epoch_events(timeline: Timeline, place: dict[str, int]) -> Iterator[Event]:
    """Yield when each epoch's steps were done, and the loss at their end."""
    free = 0
    for span in timeline.epochs.kept():
        begin = max(span.begin_us, free)
        free = max(span.end_us, begin)
        if free > begin:
            yield _slice(place, f"epoch {span.epoch}", begin, free, epoch=span.epoch)
        yield {"ph": "C", **place, "name": "loss", "ts": free, "args": {"loss": span.loss}}


def _step_events(timeline: Timeline, places: list[list[dict[str, int]]]) -> Iterator[Event]:
    """Yield the phases of the sampled steps, those of a step sorted by time.

    Clocks of several nodes agree only up to an error, so moments are put in order: no phase of a rank begins before
    the one before it has ended, and no wait ends after the rank has left.
    """
    shared = timeline.view.header["sync"]["mode"] in SHARED_MODES
    names = [SUMMING if phase == "transfer" else phase for phase in PHASES] if shared else PHASES[:-1]
    last, left = MOMENTS.index("last"), MOMENTS.index("left")
    free = np.zeros(max(map(len, places)))
    for step in timeline.steps.kept():
        ranks = len(places[step.job])
        moments = np.concatenate([free[None, :ranks], np.minimum(step.moments, MOST_US)])
        moments[last + 1] = np.minimum(moments[last + 1], moments[left + 1])
        moments = np.maximum.accumulate(moments)[1:]
        free[:ranks] = moments[-1]
        bounds = moments.astype(np.int64).T.tolist()
        slices = [(own[i], rank, i, own[i + 1]) for rank, own in enumerate(bounds) for i in range(len(names))]
        for begin, rank, i, end in sorted(slices):
            if end > begin:
                yield _slice(places[step.job][rank], names[i], begin, end, epoch=step.epoch, step=step.number)


def _slice(place: dict[str, int], name: str, begin: int, end: int, **about: int) -> Event:
    return {"ph": "X", **place, "name": name, "ts": begin, "dur": end - begin, "args": about}
