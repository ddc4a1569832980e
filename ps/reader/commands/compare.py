"""``python -m ps.log compare``: several runs side by side."""

import os
import statistics
from typing import Annotated

import numpy as np
from cyclopts import Parameter

from common import memory
from common.arrays_file import NUMBERS, open_arrays
from common.errors import BrokenFileError
from common.flat import Array, blocks
from common.memory import MemoryLimitError
from common.run_files import MODEL_NAME, log_path
from ps.logfile.reader import reason
from ps.reader.commands.cli import OtherRun, Run, Salvage
from ps.reader.console import WIDE, Paper
from ps.reader.output import damage_lines
from ps.reader.run_summary import MEDIANS, Summary
from ps.reader.run_view import RunView
from ps.text import loose
from ps.text.formatting import metric, microseconds, mode_name, number, points
from ps.text.layout import Table, cells
from ps.text.terminal import warn

LONGEST_NAME = 20
"""Longer names of runs are listed above the table, and their columns numbered."""


def compare(
    first: Run,
    second: OtherRun,
    /,
    *more: OtherRun,
    wide: Annotated[bool, Parameter(help=WIDE, negative="", show_default=False)] = False,
    salvage: Salvage = False,
) -> int:
    """Print the runs as columns; return the exit code. Raises LogError."""
    views = [RunView(log_path(run), salvage=salvage) for run in (first, second, *more)]
    summaries = [Summary() for _ in views]
    for view, summary in zip(views, summaries, strict=True):
        for record in view.read("steps"):
            summary.add(record)
    goal = max((s.least_loss for s in summaries if s.epochs), default=float("nan"))
    jobs = [  # of an epoch that several share, times and bytes are the last one's
        ["jobs", *(str(len(v.sessions)) for v in views)],
        ["epochs done again", *(str(sum(v.superseded.values())) for v in views)],
        ["epochs shared by jobs", *(str(s.shared_epochs) for s in summaries)],
    ] * any(len(v.sessions) > 1 for v in views)
    lines = [
        ["mode", *(mode_name(v.header) if v.header else "-" for v in views)],
        ["ranks", *(v.ranks or "-" for v in views)],
        *jobs,
        ["state", *(v.state for v in views)],
        ["epochs", *(str(s.epochs) for s in summaries)],
        ["loss of the last epoch", *(number(v.last.get("loss"), 6) for v in views)],
        ["validation loss", *(number(v.last.get("validation_loss"), 6) for v in views)],
        ["validation metric", *(metric(v.metric, v.last.get("validation_metric")) for v in views)],
        ["test metric", *(metric(v.metric, v.end.get("test_metric")) for v in views)],
        [f"seconds to loss {goal:.4g}", *(number(s.time_to(goal)) for s in summaries)],
        *([f"median {name} per step, us", *(_median_us(s, name) for s in summaries)] for name in MEDIANS),
        ["communication, % of the time", *(_communication(s) for s in summaries)],
        *_loose_lines(views),
        ["most sent by a rank, MB", *(number(s.sent_bytes / 1e6) for s in summaries)],
        ["largest parameter difference from the first", *_differences(views)],
    ]
    title = "Runs side by side; medians are of steps, then of ranks and epochs"
    out, names = Paper(wide=wide), [str(view.folder) for view in views]
    if max(map(cells, names)) > LONGEST_NAME and not wide:
        out.print(*(f"Run {i}: {name}" for i, name in enumerate(names, 1)), "")
        names = [f"run {i}" for i in range(1, len(views) + 1)]
    for view in views:
        out.print(*(f"{view.folder}: {line}" for line in damage_lines(view.damage)))
    out.table(Table(title, ["", *names], lines, text=tuple(names), split=True))
    return 0


def _loose_lines(views: list[RunView]) -> list[list[str]]:
    """Return the line on ranks that do not keep in step, if any run has such."""
    texts = [loose.summary(view.last) for view in views]
    return [["out of step, last epoch", *(text or "-" for text in texts)]] if any(texts) else []


def _median_us(summary: Summary, name: str) -> str:
    values = [own[name] for own in summary.medians.kept()]
    return microseconds(statistics.median(values), 4) if values else "-"


def _communication(summary: Summary) -> str:
    total = summary.compute_s + summary.sync_s
    return points((summary.sync_s + summary.reduce_s) / total) if total else "-"  # summing is part of compute


def _differences(views: list[RunView]) -> list[str]:
    """Return how far the saved parameters of each run are from the first one's; two runs' are in memory at a time."""
    first = _parameters(views[0])
    return [_difference(first, _parameters(view) if i else first) for i, view in enumerate(views)]


def _parameters(view: RunView) -> dict[str, Array]:
    """Return the saved parameters; none, and a warning if there is a file, where they cannot be read."""
    path = view.folder / MODEL_NAME
    if not view.header or not os.path.lexists(path):
        return {}
    try:
        with open_arrays(path) as arrays:
            names = list(view.header["model"]["parameters"])
            memory.check(f"model {path}", 2 * arrays.n_bytes(*names))  # of two runs
            return {name: arrays.read(name, NUMBERS) for name in names}
    except (BrokenFileError, MemoryLimitError) as error:
        warn(f"{path} cannot be read as a model ({reason(error)})")
        return {}


def _difference(first: dict[str, Array], own: dict[str, Array]) -> str:
    if not first or not own:
        return "no model"
    if {k: v.shape for k, v in first.items()} != {k: v.shape for k, v in own.items()}:
        return "other shapes"
    with np.errstate(all="ignore"):  # a file may hold infinities
        return number(max(_largest(first[k].reshape(-1), own[k].reshape(-1)) for k in first), 3)


def _largest(one: Array, other: Array) -> float:
    """Return the largest difference of two vectors, in float64, a block of them at a time."""
    pairs = zip(blocks(one), blocks(other), strict=True)
    return max((float(np.abs(a.astype(float) - b.astype(float)).max()) for a, b in pairs), default=0.0)
