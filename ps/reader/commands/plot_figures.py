"""The figures of ``ps.log plot``, drawn with matplotlib without a display."""

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, BinaryIO

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from common.errors import RankwiseError
from ps.logfile.header import host_names
from ps.reader.commands.plot_points import Point, Values, padded
from ps.reader.run_view import RunView
from ps.text.record_lines import mode_name

FEW_POINTS = 40
"""Up to so many epochs each has a marker."""
MANY_POINTS = 400
"""From so many on, noise would hide lines behind each other: moving medians are drawn, single epochs faintly."""
WINDOWS = 25
"""A moving median is of this part of the points."""
FAR = 8
"""A range more than so many times as wide as that of 98 % of its values is cut down to theirs."""
INCHES, DPI = (9.0, 4.5), 120
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#7f7f7f")
"""Okabe and Ito's, which colour-blind readers can tell apart, without yellow and black, and two more."""
BLACK, GREY = "#222222", "#999999"
SYNC_LINES = [
    "most of a rank",
    "mean of the ranks",
    "of it wait for the last rank",
    "of it transfer",
    "least of a rank",
]
MOST_JOBS = 20
"""Jobs of a run that are marked where they begin, the last ones."""
MANY_FOLD = 50
"""A loss that falls to less than this part is drawn on a logarithmic axis."""

Picture = Callable[[BinaryIO], None]


class Pictures:
    """The pictures of a run, of which ``points`` are every ``stride``-th epoch and the last.

    ``names``: the parameters whose shares are drawn, at most as many as there are ``COLOURS``.
    """

    def __init__(self, view: RunView, names: list[str], points: list[Point], stride: int) -> None:
        """Raises RankwiseError without matplotlib."""
        try:
            from matplotlib import ticker
            from matplotlib.figure import Figure
        except ImportError as error:
            raise RankwiseError(
                "plot: needs matplotlib, which is not installed; pip install 'rankwise[report]'"
            ) from error
        self._figure: Any = Figure
        self._ticker: Any = ticker
        self.view, self.names = view, names
        self.epochs = np.array([point.epoch for point in points], np.float64)
        self.losses = np.array([point.losses for point in points])
        self.times = np.array([point.times for point in points])
        self.shares = padded([point.shares for point in points])
        self.equal = np.array([1 / point.world for point in points])
        self.marker = "o" if len(points) <= FEW_POINTS else ""
        self.epoch_label = "epoch" if stride == 1 else f"epoch (one in {stride} drawn)"
        calmed = "; lines are moving medians" if len(points) >= MANY_POINTS else ""
        self.calm_label = self.epoch_label + calmed

    def all(self) -> Iterator[tuple[str, Picture]]:
        """Yield the name of each file and what writes it."""
        yield "loss_plot.png", partial(_write_png, self.loss())
        yield "sync_time_plot.png", partial(_write_png, self.sync_time())
        limits = self.share_limits()
        for rank in range(self.shares.shape[2]):
            yield f"contribution_plot_rank_{rank}.png", partial(_write_png, self.contribution(rank, limits))

    def loss(self) -> Any:
        """Return training and validation loss, and below them the metric, if there are validation rows."""
        has_metric = bool(np.isfinite(self.losses[:, 2]).any())
        figure, axes = self._axes(2 if has_metric else 1)
        self._title(axes[0], "Loss")
        lines = [self._exact_line(axes[0], self.losses[:, 0], COLOURS[0])]
        names = ["training, all ranks' rows"]
        if np.isfinite(self.losses[:, 1]).any():
            lines.append(self._exact_line(axes[0], self.losses[:, 1], COLOURS[1]))
            names.append("validation")
        known = self.losses[:, :2][np.isfinite(self.losses[:, :2])]
        if known.max() > MANY_FOLD * known.min() > 0:
            axes[0].set_yscale("log")
        axes[0].set_ylabel(f"mean loss a row\n({self.view.header['model']['loss']})", parse_math=False)
        _legend(axes[0], lines, names)
        if has_metric:
            self._exact_line(axes[1], self.losses[:, 2], COLOURS[1])
            accuracy = self.view.metric == "accuracy"
            axes[1].set_ylabel(f"validation\n{'accuracy (%)' if accuracy else 'R2 (1 is best)'}")
            if accuracy:
                axes[1].yaxis.set_major_formatter(self._ticker.PercentFormatter(1.0, symbol=""))
        return figure

    def sync_time(self) -> Any:
        """Return what synchronisation took in each epoch: the ranks' mean transfer and wait, stacked, and its range."""
        figure, (axes,) = self._axes(1)
        self._title(axes, "Time in synchronisation")
        _, high = _limits(self.times, 0.0)
        unit, scale = next(((u, s) for u, s in (("s", 1.0), ("ms", 1e3)) if high * s >= 2), ("\u00b5s", 1e6))
        transfer, wait, least, most = scale * self.times.T
        calm_transfer, calm_both = self._calm(transfer), self._calm(transfer + wait)
        lines = [
            self._line(axes, most, GREY, linestyle="--"),
            self._line(axes, transfer + wait, BLACK, linewidth=2.2),
            axes.fill_between(self.epochs, calm_transfer, calm_both, color=COLOURS[1], alpha=0.5, linewidth=0),
            axes.fill_between(self.epochs, 0, calm_transfer, color=COLOURS[0], alpha=0.5, linewidth=0),
            self._line(axes, least, GREY, linestyle=":"),
        ]
        self._limit(axes, most, (0.0, high * scale))
        axes.set_ylabel(f"wait and transfer ({unit} per epoch)")
        _legend(axes, lines, SYNC_LINES)
        return figure

    def share_limits(self) -> tuple[float, float]:
        """Return the axis of all ranks' contributions: made for the shares of all parameters together.

        That of a single one goes far beyond it where its gradient all but vanishes; 90 % of the values are shown.
        """
        known = self.shares[np.isfinite(self.shares)]
        usual = np.percentile(known, [5, 95]) if known.size else ()
        return _limits(self.shares[:, 0], 0.0, self.equal.min(), self.equal.max(), *usual)

    def contribution(self, rank: int, limits: tuple[float, float]) -> Any:
        """Return the signed share of the update by parameter; ``limits`` are those of all ranks' pictures."""
        figure, (axes,) = self._axes(1)
        self._title(axes, f"Contribution of rank {rank} on {self._host(rank)}")
        axes.axhline(0, color=BLACK, linewidth=0.8)
        lines = [self._equal_share(axes)]
        for i, values in enumerate(self.shares[:, 1:, rank].T):
            lines.append(self._line(axes, values, COLOURS[i]))
        lines.append(self._line(axes, self.shares[:, 0, rank], BLACK, linewidth=2.2))
        self._limit(axes, self.shares[:, :, rank], limits)
        axes.set_ylabel("signed share of the update (%),\nbelow 0 pulls against it")
        axes.yaxis.set_major_formatter(self._ticker.PercentFormatter(1.0, symbol=""))
        _legend(axes, lines, ["equal share", *self.names, "all parameters"])
        return figure

    def _host(self, rank: int) -> str:
        """Return where a rank was, in the last job that had it."""
        names = (host_names(job.header) for job in reversed(self.view.jobs))
        return next((own[rank] for own in names if rank in own), "an unknown host")

    def _equal_share(self, axes: Any) -> Any:
        """Draw the share of each rank if all had the same; it changes with their number."""
        style = {"color": GREY, "linestyle": "--", "linewidth": 1}
        if self.equal.min() == self.equal.max():
            return axes.axhline(self.equal[0], **style)
        return axes.plot(self.epochs, self.equal, drawstyle="steps-mid", **style)[0]

    def _mark_jobs(self, axes: Any, *, named: bool) -> None:
        """Draw a thin line where another job went on with the run."""
        for job in self.view.jobs[1:][-MOST_JOBS:]:
            axes.axvline(job.first - 0.5, color=GREY, linewidth=0.8, linestyle=":")
            if named:
                text, place = f" {job.header['world']} ranks", (job.first - 0.5, 1.0)
                axes.text(*place, text, transform=axes.get_xaxis_transform(), fontsize=7, color=GREY, va="top")

    def _axes(self, rows: int) -> tuple[Any, list[Any]]:
        """Return a figure of panels one above the other, over the epochs."""
        figure = self._figure(figsize=INCHES, dpi=DPI, layout="constrained")
        heights = [2, 1][:rows]
        panels = figure.subplots(rows, 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        for axes in panels:
            axes.grid(color="#dddddd", linewidth=0.6)
            axes.set_axisbelow(True)
            axes.margins(x=0.02)
            axes.spines[["top", "right"]].set_visible(False)
            self._mark_jobs(axes, named=axes is panels[0])
        panels[-1].set_xlabel(self.epoch_label)
        panels[-1].xaxis.set_major_locator(self._ticker.MaxNLocator(integer=True))
        return figure, list(panels)

    def _title(self, axes: Any, what: str) -> None:
        header = self.view.header
        of_run = f"run {self.view.folder.resolve().name}, mode {mode_name(header)}, {self.view.ranks} ranks"
        axes.set_title(f"{what}: {of_run}", loc="left", fontsize=10, parse_math=False)

    def _line(self, axes: Any, values: Values, colour: str, linewidth: float = 1.4, linestyle: str = "-") -> Any:
        """Draw a noisy series: of many points their moving median, and themselves faintly."""
        if len(values) >= MANY_POINTS:
            axes.plot(self.epochs, values, color=colour, linewidth=0.5, alpha=0.12, zorder=1)
        return self._exact_line(axes, self._calm(values), colour, linewidth=linewidth, linestyle=linestyle)

    def _exact_line(self, axes: Any, values: Values, colour: str, **style: Any) -> Any:
        return axes.plot(self.epochs, values, color=colour, marker=self.marker, markersize=3, **style)[0]

    def _calm(self, values: Values) -> Values:
        """Return the moving median of many points, and few as they are."""
        half = len(values) // WINDOWS // 2
        if len(values) < MANY_POINTS:
            return values
        windows = sliding_window_view(np.pad(values, half, constant_values=np.nan), 2 * half + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a window of nothing but NaN has no median
            return np.nanmedian(windows, axis=1)

    def _limit(self, axes: Any, values: Values, limits: tuple[float, float]) -> None:
        """Set the axis of noisy values, and say how many of them are not on it."""
        axes.set_ylim(limits)
        beyond = int(((values < limits[0]) | (values > limits[1])).sum())
        axes.set_xlabel(f"{self.calm_label}; {beyond} value(s) lie beyond the axis" if beyond else self.calm_label)


def _legend(axes: Any, lines: list[Any], names: list[str]) -> None:
    """Name lines beside the axes. Names are any texts: matplotlib itself would leave out _x and typeset $x$."""
    legend = axes.legend(
        lines, ["name"] * len(lines), loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9
    )
    for entry, name in zip(legend.get_texts(), names, strict=True):
        entry.set_parse_math(False)
        entry.set_text(name if len(name) <= 40 else f"{name[:37]}...")


def _limits(values: Values, *shown: float) -> tuple[float, float]:
    """Return an axis that shows ``shown`` and all values, or 98 % of these if the others lie far off."""
    known = values[np.isfinite(values)]
    if not known.size:
        known = np.zeros(1)
    low, high = np.percentile(known, [1, 99])
    low, high = min(low, *shown), max(high, *shown)
    least, most = min(known.min(), *shown), max(known.max(), *shown)
    if most - least <= FAR * (high - low):
        low, high = least, most
    margin = 0.06 * (high - low) or 1.0
    return low - margin, high + margin


def _write_png(figure: Any, file: BinaryIO) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on characters of names that the font lacks: boxes stand for them
        figure.savefig(file, format="png")
