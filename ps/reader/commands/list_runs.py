"""``python -m ps.log list``: the runs of a folder, a line each."""

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

from common.errors import LogError, RankwiseError
from common.run_files import LOG_NAME
from ps.logfile.reader import Entry
from ps.reader import console
from ps.reader.run_view import RunView, skim
from ps.text.numbers import number
from ps.text.record_lines import mode_name, named_metric

COLUMNS = ["run", "started", "mode", "ranks", "epochs", "best metric", "best loss", "at epoch", "wall s", "state"]


@dataclass(slots=True)
class Best:
    """The best epoch so far, by validation loss, or by training loss where no rows validate.

    A line of the list needs four numbers of each epoch, so no epoch is decoded whole.
    """

    epoch: int = 0
    loss: float = math.inf
    metric: float | None = None
    validated: bool = False
    last_epoch: int = 0
    elapsed_s: float = 0.0

    def add(self, entry: Entry) -> None:
        """Take the next record in, of whatever kind. Raises LogError."""
        if entry.kind != "epoch":
            return
        found = entry.pick("epoch", "elapsed_s", "loss", "validation_loss", "validation_metric")
        epoch, validation = found.get("epoch"), _figure(found.get("validation_loss"))
        loss = _figure(found.get("loss")) if validation is None else validation
        if type(epoch) is not int or loss is None:
            raise entry.error("epoch without a whole number and a loss")
        self.last_epoch, self.elapsed_s = epoch, _figure(found.get("elapsed_s")) or 0.0
        if (validation is not None, -loss) > (self.validated, -self.loss):
            self.epoch, self.loss, self.validated = epoch, loss, validation is not None
            self.metric = _figure(found.get("validation_metric"))


def _figure(value: object) -> float | None:
    return float(value) if type(value) in (int, float) and math.isfinite(value) else None  # type: ignore[arg-type]


def list_runs(folder: Path) -> int:
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
    table = console.table(f"Runs in {folder}, newest first", COLUMNS, [cells for _, cells in lines])
    table.columns[-1].justify = "left"
    out.print(table)
    return 0


def _runs(folder: Path) -> list[Path]:
    """Return the run folders in a folder; one that a link like ``latest`` points to comes once. Raises OSError."""
    found = [path for path in sorted(folder.iterdir()) if os.path.isfile(path / LOG_NAME)]
    by_place = {path.resolve(): path for path in sorted(found, key=Path.is_symlink, reverse=True)}
    return list(by_place.values())


def _line(run: Path) -> tuple[float, list[str]]:
    """Return when a run began, and its line; of a log that cannot be read it says why."""
    best = Best()
    try:
        view = skim(run, best.add)
    except LogError as error:
        return _without_facts(run, f"damaged: byte {error.offset}: {error.reason}")
    except RankwiseError:
        return _without_facts(run, "gone")
    if not view.header:
        return _without_facts(run, "no record yet")
    return view.header["t"], [run.name, _when(view.header["t"]), *_facts(view, best)]


def _without_facts(run: Path, state: str) -> tuple[float, list[str]]:
    try:
        written = (run / LOG_NAME).stat().st_mtime
    except OSError:
        written = 0.0
    return written, [run.name, _when(written), *["-"] * (len(COLUMNS) - 3), state]


def _when(t: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(t)) if t else "-"


def _facts(view: RunView, best: Best) -> list[str]:
    """Return the cells behind name and date."""
    header, end = view.header, view.end
    wall_s = end["wall_s"] if end else best.elapsed_s
    wall = f"{wall_s:.1f}" if wall_s else "-"
    if header.get("purpose") == "comparison":
        modes = ", ".join(header.get("comparison", {}).get("modes", []))
        return [f"comparison: {modes}", str(header["world"]), "-", "-", "-", "-", wall, view.state]
    done = end["epochs"] if end else best.last_epoch
    shown = [named_metric(view.metric, best.metric) if best.validated else "-", number(best.loss), str(best.epoch)]
    cells = [mode_name(header), view.ranks, f"{done}/{header['config']['epochs']}"]
    return [*cells, *(shown if best.epoch else ["-"] * 3), wall, view.state]
