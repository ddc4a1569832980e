"""``python -m ps.log list``: the runs of a folder, a line each."""

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from common.errors import LogError, RankwiseError
from common.run_files import LOG_NAME, RUNS, log_path
from ps.logfile.records import Record
from ps.reader import console
from ps.reader.run_view import RunView
from ps.text.formatting import date_time, mode_name, named_metric, number

COLUMNS = ["run", "started", "mode", "ranks", "epochs", "best metric", "best loss", "at epoch", "wall s", "state"]


def list_runs(folder: Annotated[Path, Parameter(help="a folder of runs")] = RUNS, /) -> int:
    """Print the runs in a folder, newest first; return the exit code. Raises RankwiseError without such a folder."""
    try:
        runs = _runs(folder)
    except OSError as error:
        raise RankwiseError(
            f"folder: cannot read {folder} ({error.strerror}); give a folder that holds run folders, such as runs"
        ) from error
    out = console.make()
    if not runs:
        out.print(f"No runs in {folder}: no folder in it holds a {LOG_NAME}.")
        return 0
    lines = sorted((_line(run) for run in runs), key=lambda line: line[0], reverse=True)
    rows = [[name, date_time(began) if began else "-", *cells] for began, name, cells in lines]
    table = console.table(f"Runs in {folder}, newest first", COLUMNS, rows)
    table.columns[-1].justify = "left"
    out.print(table)
    return 0


def _runs(folder: Path) -> list[Path]:
    """Return the run folders in a folder; one that a link like ``latest`` points to comes once. Raises OSError."""
    found = [path for path in sorted(folder.iterdir()) if os.path.isfile(path / LOG_NAME)]
    return list({path.resolve(): path for path in sorted(found, key=Path.is_symlink, reverse=True)}.values())


def _line(run: Path) -> tuple[float, str, list[str]]:
    """Return when a run began, its name, and the other cells; of a log that cannot be read they say why."""
    best: Record = {}
    try:
        view = RunView(log_path(run))
        for record in view.read("steps"):
            if record["kind"] == "epoch" and (not best or _score(record) > _score(best)):
                best = record
        if view.header:
            return view.header["t"], run.name, _facts(view, best)
        state = "no record yet"
    except LogError as error:
        state = f"damaged: byte {error.offset}: {error.reason}"
    except RankwiseError:
        state = "gone"
    try:
        written = (run / LOG_NAME).stat().st_mtime
    except OSError:
        written = 0.0
    return written, run.name, [*["-"] * (len(COLUMNS) - 3), state]


def _score(record: Record) -> tuple[bool, float]:
    """Return by what epochs are compared: the validation loss, or the training loss where no rows validate."""
    validation = record["validation_loss"]
    return validation is not None, -(record["loss"] if validation is None else validation)


def _facts(view: RunView, best: Record) -> list[str]:
    """Return the cells after name and date."""
    header, end = view.header, view.end
    wall_s = end["wall_s"] if end else view.last.get("elapsed_s", 0.0)
    wall = f"{wall_s:.1f}" if wall_s else "-"
    if view.is_comparison:
        modes = ", ".join(header.get("comparison", {}).get("modes", []))
        return [f"comparison: {modes}", str(header["world"]), "-", "-", "-", "-", wall, view.state]
    done, shown = end["epochs"] if end else view.last.get("epoch", 0), ["-"] * 3
    if best:
        validated, score = _score(best)
        metric = named_metric(view.metric, best["validation_metric"]) if validated else "-"
        shown = [metric, number(-score), str(best["epoch"])]
    return [mode_name(header), view.ranks, f"{done}/{header['config']['epochs']}", *shown, wall, view.state]
