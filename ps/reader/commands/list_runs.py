"""``python -m ps.log list``: the runs of a folder, a line each."""

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from common.errors import LogError, RankwiseError
from common.files import require_regular
from common.run_files import LOG_NAME, RUNS
from common.wording import count
from ps.logfile.records import Record
from ps.reader.commands.cli import Salvage
from ps.reader.console import WIDE, Paper
from ps.reader.run_view import UNREAD, RunView
from ps.text.formatting import date_time, metric, mode_name, named_metric, number
from ps.text.layout import Table

DROPPED = ("at epoch", "started", "wall s", "best loss", "ranks", "mode", "epochs")
"""Columns in the order in which they are left out, to fit the width; after these the best metric."""

Line = tuple[float, str, tuple[str, float | None], list[str], list[str]]
"""Of a run: when it began, its name, its metric's name and best value, and the cells before and after that."""


def list_runs(
    folder: Annotated[Path, Parameter(help="a folder of runs")] = RUNS,
    /,
    *,
    wide: Annotated[bool, Parameter(help=WIDE)] = False,
    salvage: Salvage = False,
) -> int:
    """Print the runs in a folder, newest first; return the exit code. Raises RankwiseError without such a folder."""
    try:
        runs = run_folders(folder)
    except OSError as error:
        raise RankwiseError(
            f"folder: cannot read {folder} ({error.strerror}); give a folder that holds run folders, such as runs"
        ) from error
    out = Paper(wide=wide)
    if not runs:
        out.print(f"No runs in {folder}: no folder in it holds a {LOG_NAME}.")
        return 0
    lines = sorted((_line(run, fault, salvage=salvage) for run, fault in runs), key=lambda line: line[0], reverse=True)
    names = {name for _, _, (name, _), _, _ in lines if name}
    (only,) = names if len(names) == 1 else [""]
    title = {"accuracy": "best accuracy %", "r2": "best R2", "": "best metric"}[only]
    rows = []
    for began, run, (name, value), before, after in lines:
        best = "-" if not name else named_metric(name, value) if not only else metric(name, value).removesuffix(" %")
        rows.append([run, date_time(began) if began else "-", *before, best, *after])
    columns = ["run", "started", "mode", "ranks", "epochs", title, "best loss", "at epoch", "wall s", "state"]
    out.table(Table(f"Runs in {folder}, newest first", columns, rows, (*DROPPED, title), ("mode", "state")))
    return 0


def run_folders(folder: Path) -> list[tuple[Path, str]]:
    """Return the run folders in a folder, each with the reason if it cannot be looked into. Raises OSError.

    One that a link like ``latest`` points to comes once. What holds no log is no run; memory is taken for runs only.
    """
    found: dict[tuple[int, int] | str, tuple[str, str]] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                if not entry.is_dir():
                    continue
                os.lstat(os.path.join(entry.path, LOG_NAME))
                place = entry.stat()
            except FileNotFoundError:
                continue
            except OSError as error:  # a folder of somebody else, a loop of links
                found[entry.name] = entry.name, f"cannot be read ({error.strerror})"
                continue
            key = place.st_dev, place.st_ino
            if not (entry.is_symlink() and key in found):
                found[key] = entry.name, ""
    return [(folder / name, fault) for name, fault in sorted(found.values())]


def _line(run: Path, fault: str, *, salvage: bool) -> Line:
    """Return a run's line; of a log that cannot be read it says why, which may be known already."""
    best: Record = {}
    try:
        require_regular(run / LOG_NAME)
        view = RunView(run / LOG_NAME, salvage=salvage)
        for record in view.read("steps"):
            if record["kind"] == "epoch" and (not best or _score(record) > _score(best)):
                best = record
        if view.header:
            name, before, after = _facts(view, best)
            after[-1] += f", {count(view.damage.n, 'damaged place')}" if view.damage else ""
            return view.header["t"], run.name, name, before, after
        state = "no record yet"
    except LogError as error:
        state = f"damaged: byte {error.offset}: {error.reason}"
        if isinstance(error.__cause__, OSError):
            state = f"{LOG_NAME} {error.reason}"
    except FileNotFoundError:
        state = "gone"
    except OSError as error:
        state = fault or f"{LOG_NAME} cannot be read ({error.strerror})"
    except (MemoryError, RecursionError) as error:  # a record made to do harm must not hide the other runs
        state = f"{LOG_NAME} cannot be read ({type(error).__name__})"
    try:
        written = (run / LOG_NAME).stat().st_mtime
    except OSError:
        written = 0.0
    return written, run.name, ("", None), ["-"] * 3, [*["-"] * 3, state]


def _score(record: Record) -> tuple[bool, float]:
    """Return by what epochs are compared: the validation loss, or the training loss where no rows validate."""
    validation = record["validation_loss"]
    return validation is not None, -(record["loss"] if validation is None else validation)


def _facts(view: RunView, best: Record) -> tuple[tuple[str, float | None], list[str], list[str]]:
    """Return the parts of a line after name and date."""
    header, end = view.header, view.end
    wall_s = end["wall_s"] if end else view.last.get("elapsed_s", 0.0)
    wall = f"{wall_s:.1f}" if wall_s else "-"
    if view.is_comparison:
        modes = ", ".join(header.get("comparison", {}).get("modes", []))
        return ("", None), [f"comparison: {modes}", str(header["world"]), "-"], ["-", "-", wall, view.state]
    done, metric_of, shown = end["epochs"] if end else view.last.get("epoch", 0), ("", None), ["-"] * 2
    if best:
        validated, score = _score(best)
        metric_of = (view.metric, best["validation_metric"]) if validated else ("", None)
        shown = [number(-score), str(best["epoch"])]
    epochs = f"{done}/{header['config']['epochs']}"
    unread = f": {view.failure}" if view.state == "died" and view.failure.startswith(UNREAD) else ""
    return metric_of, [mode_name(header), view.ranks, epochs], [*shown, wall, view.state + unread]
