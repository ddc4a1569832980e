"""``python -m ps.log plot``: PNG pictures of loss, sync time and each rank's contribution."""

import sys
from pathlib import Path

from common.errors import ConfigError, RankwiseError
from common.run_files import log_path
from ps.logfile.deduplicated import DeduplicatedReader
from ps.logfile.records import Record
from ps.logfile.schema import Check
from ps.reader.commands.plot_figures import COLOURS, Pictures
from ps.reader.commands.plot_points import Point
from ps.reader.downsample import MOST_RANKS, Downsampler
from ps.reader.output import save, tell_torn
from ps.reader.run_view import RunView

MOST_POINTS = 2000


def plot(run: Path, output: Path | None) -> int:
    """Write the pictures to ``output``, the run folder if None; return the exit code.

    Raises LogError, ConfigError, and RankwiseError without matplotlib or without an epoch.
    """
    points, names = Downsampler[Point](MOST_POINTS), list[str]()
    reader = DeduplicatedReader(log_path(run), Check())
    view = RunView(reader.path)
    for record in reader.records():
        view.add(record)
        if record["kind"] == "header":
            names = list(record["model"]["parameters"])[: len(COLOURS)]
        elif record["kind"] == "epoch":
            points.add(Point.of(record, names, MOST_RANKS))
    if not points.kept():
        raise RankwiseError(f"{view.path}: no epoch in this log, so there is nothing to draw")
    folder = output or view.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"output: cannot make {folder} ({error.strerror})") from error
    for name, picture in Pictures(view, names, points.kept(), points.stride).all():
        save(folder / name, picture)
        sys.stdout.write(f"{folder / name}\n")
    most = max(job.header["world"] for job in view.jobs)
    _tell_left_out(view.header, most)
    tell_torn(reader.torn)
    return 0


def _tell_left_out(header: Record, ranks: int) -> None:
    for what, drawn, there in (
        ("ranks", MOST_RANKS, ranks),
        ("parameters", len(COLOURS), len(header["model"]["parameters"])),
    ):
        if there > drawn:
            sys.stdout.write(f"Contributions are drawn of the first {drawn} of {there} {what}.\n")
