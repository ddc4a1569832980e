"""``python -m ps.log plot``: PNG pictures of loss, sync time and each rank's contribution."""

import sys
from functools import partial
from pathlib import Path

from common.errors import ConfigError, RankwiseError
from ps.logfile.reader import Entry
from ps.reader.commands.plot_figures import COLOURS, Figures, Point, point, write_png
from ps.reader.downsample import MOST_RANKS, Downsampler
from ps.reader.output import save, tell_torn
from ps.reader.run_view import skim

MOST_POINTS = 2000


def plot(run: Path, output: Path | None) -> int:
    """Write the pictures to ``output``, the run folder if None; return the exit code.

    Raises LogError, ConfigError, and RankwiseError without matplotlib or without an epoch.
    """
    points, names = Downsampler[Point](MOST_POINTS), list[str]()

    def take(entry: Entry) -> None:
        if entry.kind == "header":
            names.extend(entry.record()["model"]["parameters"])
        elif entry.kind == "epoch":
            points.add(point(entry.record(), names[: len(COLOURS)], MOST_RANKS))

    view = skim(run, take)
    if not points.count:
        raise RankwiseError(f"{view.path}: no epoch in this log, so there is nothing to draw")
    folder = output or view.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"output: cannot make {folder} ({error.strerror})") from error
    for name, figure in Figures(view, names[: len(COLOURS)], points.kept(), points.stride).all():
        save(folder / name, partial(write_png, figure))
        sys.stdout.write(f"{folder / name}\n")
    ranks = max(job.header["world"] for job in view.jobs)
    for what, drawn, there in (("ranks", MOST_RANKS, ranks), ("parameters", len(COLOURS), len(names))):
        if there > drawn:
            sys.stdout.write(f"Contributions are drawn of the first {drawn} of {there} {what}.\n")
    tell_torn(view.torn)
    return 0
