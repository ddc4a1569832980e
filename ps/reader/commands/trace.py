"""``python -m ps.log trace``: the sampled steps as a Chrome trace, a timeline with one track a rank."""

import bisect
import heapq
import itertools
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.errors import RankwiseError
from common.limits import ITEMS, SLICES
from common.run_files import log_path
from ps.logfile.records import Record
from ps.reader.commands.cli import LATEST, Output, Run, Salvage
from ps.reader.downsample import Downsampler
from ps.reader.output import check, save, say_saved, warn_of_left_out
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


class Timeline:
    """What a trace shows of a log, in bounded memory.

    ``epochs``: number, begin and end of the training loop in microseconds since the run began, and loss.
    """

    def __init__(self, run: Path, *, salvage: bool = False) -> None:
        """Read the log, with ``salvage`` what is whole of it. Raises LogError, and RankwiseError without one."""
        self.steps: Downsampler[Step] = Downsampler(2)
        self.epochs: Downsampler[tuple[int, int, int, float]] = Downsampler(ITEMS)
        self.view = RunView(log_path(run), salvage=salvage)
        for record in self.view.read():
            if record["kind"] == "header":
                self.steps = Downsampler(max(2, SLICES // (len(PHASES) * record["world"])))
            elif record["kind"] == "steps":
                self._add_steps(record)

    def _add_steps(self, record: Record) -> None:
        begin = _microseconds(record["begin_s"])
        of_moments = (record["moments_us"][name] for name in MOMENTS)
        for number, *moments in zip(record["steps"], *of_moments, strict=False):
            self.steps.add(Step(record["seq"], record["epoch"], number, begin + np.array(moments, np.float64)))
        epoch = self.view.last
        if epoch.get("epoch") == record["epoch"]:
            self.epochs.add((record["epoch"], begin, begin + _microseconds(max(epoch["loop_s"])), epoch["loss"]))


def trace(run: Run = LATEST, /, *, output: Output = Path("trace.json"), salvage: Salvage = False) -> int:
    """Write the trace; return the exit code. Raises LogError, ConfigError, and RankwiseError without a sampled step."""
    check(output, log_path(run))
    timeline = Timeline(run, salvage=salvage)
    view, steps = timeline.view, timeline.steps
    n_steps = len(steps.kept())
    if not n_steps:
        raise RankwiseError(f"{view.path}: no sampled step in this log, so there is nothing to trace")
    save(output, lambda file: _write(file, timeline))
    sampled = f" (one in {steps.stride} of {steps.count:,})" if steps.stride > 1 else ""
    say_saved(output, f"{output}: {n_steps:,} sampled steps{sampled} of {view.ranks} ranks")
    warn_of_left_out(view.torn, view.damage)
    return 0


def _microseconds(seconds: float) -> int:
    return round(min(max(seconds * 1e6, 0), LATEST_US))


def _write(file: BinaryIO, timeline: Timeline) -> None:
    """Write complete JSON, an event a line, sorted by time except for late ones of a clock that is off."""
    header = timeline.view.header
    about = {"mode": mode_name(header), "ranks": header["world"]}
    file.write(f'{{"displayTimeUnit": "ms", "otherData": {json.dumps(about)}, "traceEvents": ['.encode())
    names, run, of_ranks = _tracks([job.header for job in timeline.view.sessions])
    streams = _epoch_events(timeline, run), _step_events(timeline, of_ranks)
    separator = "\n"
    for event in itertools.chain(names, heapq.merge(*streams, key=lambda event: int(event["ts"]))):
        file.write(f"{separator}{json.dumps(event)}".encode())
        separator = ",\n"
    file.write(b"\n]}\n")


def _tracks(headers: list[Record]) -> tuple[list[Event], Place, list[list[Place]]]:
    """Return names and order of the tracks, the place of the run as a whole, and places by job and rank.

    The groups are the run, and nodes with their ranks, of all jobs of a run: nodes of later jobs share the group of an
    earlier one with the same host. Of a host, a job may have several nodes.
    """
    groups: dict[tuple[str, int], int] = {}
    of_ranks: list[list[Place]] = []
    for header in headers:
        nodes, pids = Counter[str](), dict[int, int]()
        for node in header["nodes"]:
            host = node["host"]
            pids |= dict.fromkeys(node["ranks"], groups.setdefault((host, nodes[host]), len(groups) + 1))
            nodes[host] += 1
        of_ranks.append([{"pid": pids.get(rank, 1), "tid": rank + 1} for rank in range(header["world"])])
    run = {"pid": len(groups) + 1, "tid": max(map(len, of_ranks)) + 1}
    names: list[Event] = []
    titles = {run["pid"]: "run"} | {pid: f"node {host}" for (host, _), pid in groups.items()}
    for order, (pid, title) in enumerate(titles.items()):
        names += _named("process", {"pid": pid}, title, order)
    names += _named("thread", run, "epochs", 0)
    for rank, pid in sorted({(rank, own["pid"]) for places in of_ranks for rank, own in enumerate(places)}):
        names += _named("thread", {"pid": pid, "tid": rank + 1}, f"rank {rank}", rank)
    return names, run, of_ranks


def _named(what: str, place: Place, name: str, order: int) -> list[Event]:
    facts = {"name": {"name": name}, "sort_index": {"sort_index": order}}
    return [{"ph": "M", **place, "name": f"{what}_{key}", "args": values} for key, values in facts.items()]


def _epoch_events(timeline: Timeline, place: Place) -> Iterator[Event]:
    """Yield when each epoch's steps were done, and the loss at their end."""
    free = 0
    for epoch, begin_us, end_us, loss in timeline.epochs.kept():
        begin = max(begin_us, free)
        free = max(end_us, begin)
        if free > begin:
            yield _slice(place, f"epoch {epoch}", begin, free, epoch=epoch)
        yield {"ph": "C", **place, "name": "loss", "ts": free, "args": {"loss": loss}}


def _step_events(timeline: Timeline, of_jobs: list[list[Place]]) -> Iterator[Event]:
    """Yield the phases of the sampled steps, those of a step sorted by time.

    Clocks of several nodes agree only up to an error, so moments are put in order: no phase of a rank begins before
    the previous one has ended, and no wait ends after the rank has left.
    """
    sync = timeline.view.header["sync"]
    shared = sync.get("in_place", sync["mode"] in IN_PLACE)
    names = [p.replace("transfer", "transfer and summing") for p in PHASES] if shared else PHASES[:-1]
    if sync.get("divides_state"):  # updated slices are handed out
        names = [*names, "transfer"]
    last, left = MOMENTS.index("last"), MOMENTS.index("left")
    free = np.zeros(max(map(len, of_jobs)))
    begun = [job.seq for job in timeline.view.sessions]
    for step in timeline.steps.kept():
        places = of_jobs[bisect.bisect(begun, step.seq) - 1]
        ranks = len(places)
        if step.moments.shape[1] != ranks:  # of a job that is not kept
            continue
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
