"""``python -m ps.log compare``: several runs side by side."""

import statistics
import sys
import zipfile
from pathlib import Path

import numpy as np

from ps.logfile.reader import reason
from ps.reader import console
from ps.reader.run_summary import MEDIANS, Summary
from ps.reader.run_view import RunView, load
from ps.text.numbers import number, percent
from ps.text.record_lines import metric, mode_name


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
        ["epochs done again, not counted", *(str(sum(s.view.superseded.values())) for s in summaries)],
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
