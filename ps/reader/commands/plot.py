"""``python -m ps.log plot``: PNG pictures of loss, sync time and each rank's contribution, drawn without a display."""

import warnings
from functools import partial
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import numpy as np
from cyclopts import Parameter

from common.errors import RankwiseError
from common.limits import DRAWN_EPOCHS, NUMBERS
from common.run_files import log_path
from ps.logfile.records import Record
from ps.reader.commands.cli import LATEST, Run, Salvage
from ps.reader.commands.plot_figures import COLOURS, LARGEST, Figures, Point
from ps.reader.console import write
from ps.reader.downsample import Downsampler
from ps.reader.output import make_folder, save, warn_of_left_out
from ps.reader.run_view import RunView, mean

ALL_RANKS = "a picture of every rank; otherwise of many those that stand out"
OUTPUT = "the folder to write to; the run folder if not given"


def plot(
    run: Run = LATEST,
    /,
    *,
    output: Annotated[Path | None, Parameter(alias="-o", help=OUTPUT)] = None,
    all_ranks: Annotated[bool, Parameter(help=ALL_RANKS)] = False,
    salvage: Salvage = False,
) -> int:
    """Write the pictures; return the exit code.

    Raises LogError, ConfigError, and RankwiseError without matplotlib or without an epoch.
    """
    points, names, view = Downsampler[Point](2), list[str](), RunView(log_path(run), salvage=salvage)
    for record in view.read("steps"):
        if record["kind"] == "epoch":
            if not points.count:
                names = list(view.header["model"]["parameters"])
                by_rank = (1 + min(len(names), len(COLOURS))) * len(record["rows"])
                points = Downsampler(max(2, min(DRAWN_EPOCHS, NUMBERS // by_rank)))
            points.add(point(record, names[: len(COLOURS)]))
    if not points.count:
        raise RankwiseError(f"{view.path}: no epoch in this log, so there is nothing to draw")
    folder = output or view.folder
    make_folder("output", folder)
    figures = Figures(view, names[: len(COLOURS)], points.kept(), points.stride, all_ranks=all_ranks)
    for name, figure in figures.all():
        save(folder / name, partial(_write_png, figure))
        write(f"{folder / name}")
    if 0 < len(figures.single) < figures.n_ranks:
        single = ", ".join(map(str, figures.single))
        write(
            f"Of {figures.n_ranks} ranks, those that stand out have a picture of their own: {single}. "
            "--all-ranks draws all."
        )
    if len(names) > len(COLOURS):
        write(f"Contributions are drawn of the first {len(COLOURS)} of {len(names)} parameters.")
    warn_of_left_out(view.torn, view.damage)
    return 0


def point(record: Record, names: list[str]) -> Point:
    """Return what is drawn of an epoch; shares of all parameters together and of those in ``names``."""
    figures = {
        "epoch": record["epoch"],
        "equal": 1 / len(record["rows"]),
        "loss": [record["loss"], record["validation_loss"], record["validation_metric"]],
        "sync": [mean(record["transfer_s"]), mean(record["wait_s"]), min(record["sync_s"]), max(record["sync_s"])],
        "shares": [record["share_all"], *(record["share"][name] for name in names)],
    }
    return {key: np.clip(np.array(value, np.float64), -LARGEST, LARGEST) for key, value in figures.items()}


def _write_png(figure: Any, file: BinaryIO) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about characters that the font lacks: boxes are drawn for them
        figure.savefig(file, format="png")
