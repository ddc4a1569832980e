"""``python -m ps.log trace``: the sampled steps as a Chrome trace, a timeline with one track a rank."""

import bisect
import heapq
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO, NamedTuple

import numpy as np
from cyclopts import Parameter
from numpy.typing import NDArray

from common.errors import RankwiseError
from common.limits import ITEMS, SLICES
from common.run_files import log_path
from ps.logfile.records import Record
from ps.reader.commands.cli import LATEST, Run
from ps.reader.downsample import Downsampler
from ps.reader.output import save, warn_of_torn
from ps.reader.run_view import RunView
from ps.text.formatting import mode_name

LATEST_US = 2**53
"""More than any clock of ours shows, and exact as a float64."""
MOMENTS = ("input", "begin", "forward", "backward", "arrived", "last", "left", "measured", "updated", "end")
"""Of a ``steps`` record, in the order in which they come on a rank."""
PHASES = ("input", "forward", "backward", "measure", "wait", "transfer", "measure", "update", "wait")
"""What a rank does between one moment and the next."""
IN_PLACE = ("shared", "factors")
"""Modes that sum slices in shared memory, before ranks leave the exchange, of logs that do not say it themselves.

They have the second wait: all slices of the one copy of the parameters must be updated."""

Event = dict[str, Any]
Place = dict[str, int]
"""The group (``pid``) and the track (``tid``) of an event. They count from 1: 0 is the idle task in some viewers."""


class Step(NamedTuple):
    """A sampled step; ``moments``: (moments, ranks), microseconds since the run began; ``seq``: of its record."""

    seq: int
    epoch: int
    number: int
    moments: NDArray[np.float64]


class Span(NamedTuple):
    """An epoch's training loop, in microseconds since the run began, and its loss."""

    epoch: int
    begin_us: int
    end_us: int
    loss: float


class Timeline:
    """What a trace shows of a log, in bounded memory."""

    def __init__(self, run: Path) -> None:
        """Read the log. Raises LogError, and RankwiseError without one."""
        self.steps: Downsampler[Step] = Downsampler(2)
        self.epochs: Downsampler[Span] = Downsampler(ITEMS)
        self._epoch: Record = {}
        self.view = RunView(log_path(run))
        for record in self.view.read():
            if record["kind"] == "header":
                self.steps = Downsampler(max(2, SLICES // (len(PHASES) * record["world"])))
            elif record["kind"] == "epoch":
                self._epoch = record
            elif record["kind"] == "steps":
                self._add_steps(record)

    def _add_steps(self, record: Record) -> None:
        begin = _microseconds(record["begin_s"])
        of_moments = (record["moments_us"][name] for name in MOMENTS)
        for number, *moments in zip(record["steps"], *of_moments, strict=False):
            self.steps.add(Step(record["seq"], record["epoch"], number, begin + np.array(moments, np.float64)))
        if self._epoch.get("epoch") == record["epoch"]:
            end = begin + _microseconds(max(self._epoch["loop_s"]))
            self.epochs.add(Span(record["epoch"], begin, end, self._epoch["loss"]))


def trace(run: Run = LATEST, /, *, output: Annotated[Path, Parameter(alias="-o")] = Path("trace.json")) -> int:
    """Write the trace; return the exit code. Raises LogError, ConfigError, and RankwiseError without a sampled step.

    Parameters
    ----------
    output
        the file to write
    """
    timeline = Timeline(run)
    view, steps = timeline.view, timeline.steps
    n_steps = len(steps.kept())
    if not n_steps:
        raise RankwiseError(f"{view.path}: no sampled step in this log, so there is nothing to trace")
    save(output, lambda file: _write(file, timeline), log=view.path)
    thinned = f" (one in {steps.stride} of {steps.count:,})" if steps.stride > 1 else ""
    sys.stdout.write(f"{output}: {n_steps:,} sampled steps{thinned} of {view.ranks} ranks\n")
    warn_of_torn(view.torn)
    return 0


def _microseconds(seconds: float) -> int:
    return round(min(max(seconds * 1e6, 0), LATEST_US))


def _write(file: BinaryIO, timeline: Timeline) -> None:
    """Write complete JSON, an event a line, sorted by time except for late ones of a clock that is off."""
    header = timeline.view.header
    about = {"mode": mode_name(header), "ranks": header["world"]}
    file.write(f'{{"displayTimeUnit": "ms", "otherData": {json.dumps(about)}, "traceEvents": ['.encode())
    tracks = Tracks([job.header for job in timeline.view.sessions])
    streams = _epoch_events(timeline, tracks.run), _step_events(timeline, tracks.of_ranks)
    separator = "\n"
    for events in (tracks.names(), heapq.merge(*streams, key=lambda event: int(event["ts"]))):
        for event in events:
            file.write(f"{separator}{json.dumps(event)}".encode())
            separator = ",\n"
    file.write(b"\n]}\n")


class Tracks:
    """The tracks of a trace in groups: the run as a whole, and nodes with their ranks, of all jobs of a run.

    Nodes of later jobs share the group of an earlier one with the same host. ``of_ranks``: places by job and rank.
    ``run``: the place of the run. ``groups``: numbers by host, of which a job may have several nodes.
    """

    def __init__(self, headers: list[Record]) -> None:
        self.groups: dict[tuple[str, int], int] = {}
        self.of_ranks = [self._places(header) for header in headers]
        self.run: Place = {"pid": len(self.groups) + 1, "tid": max(header["world"] for header in headers) + 1}

    def _places(self, header: Record) -> list[Place]:
        nodes, pids = Counter[str](), dict[int, int]()
        for node in header["nodes"]:
            host = node["host"]
            pid = self.groups.setdefault((host, nodes[host]), len(self.groups) + 1)
            nodes[host] += 1
            pids |= dict.fromkeys(node["ranks"], pid)
        return [{"pid": pids.get(rank, 1), "tid": rank + 1} for rank in range(header["world"])]

    def names(self) -> Iterator[Event]:
        """Yield the names of groups and tracks, and their order."""
        groups = {self.run["pid"]: "run"} | {pid: f"node {host}" for (host, _), pid in self.groups.items()}
        for order, (pid, name) in enumerate(groups.items()):
            yield from _named("process", {"pid": pid}, name, order)
        yield from _named("thread", self.run, "epochs", 0)
        for rank, pid in sorted({(rank, own["pid"]) for places in self.of_ranks for rank, own in enumerate(places)}):
            yield from _named("thread", {"pid": pid, "tid": rank + 1}, f"rank {rank}", rank)


def _named(what: str, place: Place, name: str, order: int) -> Iterator[Event]:
    yield {"ph": "M", **place, "name": f"{what}_name", "args": {"name": name}}
    yield {"ph": "M", **place, "name": f"{what}_sort_index", "args": {"sort_index": order}}


def _epoch_events(timeline: Timeline, place: Place) -> Iterator[Event]:
    """Yield when each epoch's steps were done, and the loss at their end."""
    free = 0
    for span in timeline.epochs.kept():
        begin = max(span.begin_us, free)
        free = max(span.end_us, begin)
        if free > begin:
            yield _slice(place, f"epoch {span.epoch}", begin, free, epoch=span.epoch)
        yield {"ph": "C", **place, "name": "loss", "ts": free, "args": {"loss": span.loss}}


def _step_events(timeline: Timeline, of_jobs: list[list[Place]]) -> Iterator[Event]:
    """Yield the phases of the sampled steps, those of a step sorted by time.

    Clocks of several nodes agree only up to an error, so moments are put in order: no phase of a rank begins before
    the previous one has ended, and no wait ends after the rank has left.
    """
    sync = timeline.view.header["sync"]
    shared = sync.get("in_place", sync["mode"] in IN_PLACE)
    names = [p.replace("transfer", "transfer and summing") for p in PHASES] if shared else PHASES[:-1]
    last, left = MOMENTS.index("last"), MOMENTS.index("left")
    free = np.zeros(max(map(len, of_jobs)))
    begun = [job.seq for job in timeline.view.sessions]
    for step in timeline.steps.kept():
        places = of_jobs[bisect.bisect(begun, step.seq) - 1]
        ranks = len(places)
        moments = np.concatenate([free[None, :ranks], np.minimum(step.moments, LATEST_US)])
        moments[last + 1] = np.minimum(moments[last + 1], moments[left + 1])
        moments = np.maximum.accumulate(moments)[1:]
        free[:ranks] = moments[-1]
        bounds = moments.astype(np.int64).T.tolist()
        slices = [(own[i], rank, i, own[i + 1]) for rank, own in enumerate(bounds) for i in range(len(names))]
        for begin, rank, i, end in sorted(slices):
            if end > begin:
                yield _slice(places[rank], names[i], begin, end, epoch=step.epoch, step=step.number)


def _slice(place: Place, name: str, begin: int, end: int, **about: int) -> Event:
    return {"ph": "X", **place, "name": name, "ts": begin, "dur": end - begin, "args": about}
