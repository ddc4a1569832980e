"""``python -m ps.log compare``: several runs side by side."""

import math
import statistics
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ps.log import Record, reason
from ps.reader import console
from ps.reader.run import RunView, load, mean
from ps.reader.thin import Thin
from ps.text import metric, mode_name, number, percent

MOST_EPOCHS = 5000
"""Epochs of which figures are kept: of more, evenly spread ones."""
MEDIANS = ("sync", "wait", "transfer")


@dataclass(slots=True)
class Summary:
    """What is compared of one run, in memory that does not grow with its epochs.

    ``lows``: elapsed seconds and loss of the epochs whose loss was the least so far, thinned out where there are very
    many. ``parts``: epochs that were trained by several jobs.
    """

    view: RunView = field(default_factory=lambda: RunView(Path()))
    epochs: int = 0
    last_loss: float | None = None
    least_loss: float = math.inf
    lows: Thin[tuple[float, float]] = field(default_factory=lambda: Thin(MOST_EPOCHS))
    medians: Thin[dict[str, float]] = field(default_factory=lambda: Thin(MOST_EPOCHS))
    compute_s: float = 0.0
    sync_s: float = 0.0
    reduce_s: float = 0.0
    sent_bytes: int = 0
    parts: int = 0

    def add(self, record: Record) -> None:
        """Take an epoch in."""
        self.epochs += 1
        self.last_loss = record["loss"]
        if record["loss"] < self.least_loss:
            self.least_loss = record["loss"]
            self.lows.add((record["elapsed_s"], record["loss"]))
        self.medians.add({name: mean(record[f"{name}_median_s"]) for name in MEDIANS})
        self.compute_s += mean(record["compute_s"])
        self.sync_s += mean(record["sync_s"])
        self.reduce_s += mean(record["reduce_s"])
        self.sent_bytes += max(record["sent_bytes"])
        self.parts += record.get("before") is not None

    def time_to(self, loss: float) -> float | None:
        """Return the seconds until the training loss was at most ``loss``."""
        return next((elapsed_s for elapsed_s, own in self.lows.kept() if own <= loss), None)


def compare(runs: list[Path]) -> int:
    """Print the runs as columns; return the exit code. Raises LogError."""
    summaries = []
    for run in runs:
        summary = Summary()
        summary.view = load(run, summary.add)
        summaries.append(summary)
    known = [s.least_loss for s in summaries if s.epochs]
    goal = max(known) if known else float("nan")
    first = _parameters(summaries[0].view)
    columns = ["", *(str(s.view.folder) for s in summaries)]
    lines: list[list[str]] = [
        ["mode", *(mode_name(s.view.header) if s.view.header else "-" for s in summaries)],
        ["ranks", *(s.view.ranks or "-" for s in summaries)],
        *_jobs(summaries),
        ["state", *(s.view.state for s in summaries)],
        ["epochs", *(str(s.epochs) for s in summaries)],
        ["loss of the last epoch", *(number(s.last_loss, 6) for s in summaries)],
        ["its validation loss", *(number(s.view.last.get("validation_loss"), 6) for s in summaries)],
        ["its validation metric", *(metric(s.view.metric, s.view.last.get("validation_metric")) for s in summaries)],
        ["test metric of the saved model", *(metric(s.view.metric, s.view.end.get("test_metric")) for s in summaries)],
        [f"seconds to loss {goal:.4g}", *(number(s.time_to(goal)) for s in summaries)],
        *(
            [f"median {name} per step, us", *(_median_us([own[name] for own in s.medians.kept()]) for s in summaries)]
            for name in MEDIANS
        ),
        ["share of communication", *(_share(s) for s in summaries)],
        ["most bytes sent by a rank, MB", *(number(s.sent_bytes / 1e6) for s in summaries)],
        [
            "largest parameter difference to the first",
            *(_difference(first, _parameters(s.view)) for s in summaries),
        ],
    ]
    console.make().print(
        console.table("Runs side by side; medians are of steps, then of ranks and epochs", columns, lines)
    )
    return 0


def _jobs(summaries: list[Summary]) -> list[list[str]]:
    """Return lines on runs of several jobs; of an epoch that several share, times and bytes are the last one's."""
    if all(len(s.view.jobs) < 2 for s in summaries):
        return []
    return [
        ["jobs it was trained by", *(str(len(s.view.jobs)) for s in summaries)],
        ["epochs done again, not counted", *(str(sum(s.view.redone.values())) for s in summaries)],
        ["epochs whose times are of their last job only", *(str(s.parts) for s in summaries)],
    ]


def _median_us(values: list[float]) -> str:
    return number(1e6 * statistics.median(values)) if values else "-"


def _share(summary: Summary) -> str:
    total = summary.compute_s + summary.sync_s
    return percent((summary.sync_s + summary.reduce_s) / total) if total else "-"  # summing is part of compute


def _parameters(view: RunView) -> dict[str, np.ndarray]:
    """Return the saved parameters; none, and a warning if there is a file, where they cannot be read."""
    path = view.folder / "model.npz"
    if not view.header or not path.exists():
        return {}
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("not an npz file")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name].astype(float) for name in view.header["model"]["parameters"]}
    except Exception as error:  # of a dozen kinds, from NumPy, zipfile and zlib, depending on what is broken
        sys.stderr.write(f"rankwise: warning: {path} cannot be read as a model ({reason(error)})\n")
        return {}


def _difference(first: dict[str, np.ndarray], own: dict[str, np.ndarray]) -> str:
    if not first or not own:
        return "no model"
    if {k: v.shape for k, v in first.items()} != {k: v.shape for k, v in own.items()}:
        return "other shapes"
    with np.errstate(all="ignore"):  # a file may hold infinities
        return number(max(float(np.abs(first[k] - own[k]).max(initial=0)) for k in first), 3)
