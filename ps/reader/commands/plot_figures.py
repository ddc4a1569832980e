"""The figures of ``python -m ps.log plot``: lines over the epochs, and a map of all ranks where these are many."""

import contextlib
import os
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from common.flat import Array
from common.limits import DRAWN_FILES, DRAWN_ROWS, DRAWN_SESSIONS
from common.module_file import lies_in_run_folder
from common.wording import count, printable
from ps.logfile.header import host_names
from ps.reader.output import library
from ps.reader.run_view import RunView
from ps.text.formatting import mode_name

FEW_POINTS = 40
"""Up to this many epochs, each has a marker."""
MANY_POINTS = 400
"""From this many epochs on, lines are moving medians and single epochs faint: noise would hide the lines."""
WINDOWS = 25
"""A moving median is of this fraction of the points."""
FAR = 8
"""If all values span more than this many times the range of 98 % of them, the axis shows only those."""
INCHES, DPI = (9.0, 4.5), 120
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#7f7f7f")
"""Okabe and Ito (2008), for colour-blind readers, without yellow and black, and two more."""
BLACK, GREY = "#222222", "#999999"
MANY_FOLD = 50
"""A loss that falls to less than this fraction is drawn on a logarithmic axis."""
STAND_OUT = 8
"""Where ranks are many, so many of them have a figure of their own."""
SMALLEST_SPAN = 0.1
"""Shares closer to an equal one than this do not get the darkest colours."""
FEW_HOSTS = 16
LARGEST = 1e30
"""Larger values are drawn as this one: they would overflow in the arithmetic of axes."""

Point = dict[str, Array]
"""What is drawn of an epoch, NaN where undefined; ``shares``: (1 + parameters, ranks), of all together first."""


class Figures:
    """The figures of a run, of which ``points`` are every ``stride``-th epoch and the last.

    ``names``: the parameters whose shares are drawn, at most as many as there are ``COLOURS``.
    """

    def __init__(
        self, view: RunView, names: list[str], points: list[Point], stride: int, *, all_ranks: bool = False
    ) -> None:
        """``all_ranks``: draw each of them, however many. Raises RankwiseError without matplotlib."""
        # matplotlib reads a matplotlibrc of the current folder, which may have it start LaTeX
        theirs = lies_in_run_folder(os.curdir)
        with library("plot", "report"), contextlib.chdir(os.sep) if theirs else contextlib.nullcontext():
            from matplotlib import colormaps, figure, ticker
        self._figure, self._ticker, self._colours = figure, ticker, colormaps["RdBu"]
        self.view, self.names = view, names
        self.epochs, self.equal, self.losses, self.times = (
            np.array([own[key] for own in points]) for key in ("epoch", "equal", "loss", "sync")
        )
        most = max(own["shares"].shape[1] for own in points)
        self.n_ranks = most
        self.shares = np.full((len(points), 1 + len(names), most), np.nan)
        for shares, own in zip(self.shares, points, strict=True):
            shares[:, : own["shares"].shape[1]] = own["shares"]
        self.many = 2 + most > DRAWN_FILES
        self.single = self._standing_out() if self.many and not all_ranks else list(range(most))
        """The ranks that have a figure of their own."""
        self.marker = "o" if len(points) <= FEW_POINTS else ""
        self.epoch_label = "epoch" if stride == 1 else f"epoch (one in {stride} drawn)"
        self.calm_label = self.epoch_label + ("; lines are moving medians" if len(points) >= MANY_POINTS else "")

    def all(self) -> Iterator[tuple[str, Any]]:
        """Yield the name of each file and its figure."""
        yield "loss_plot.png", self.loss()
        yield "sync_time_plot.png", self.sync_time()
        if self.many:
            yield "contribution_plot_all_ranks.png", self.contribution_map()
        limits = self.share_limits()
        for rank in self.single:
            yield f"contribution_plot_rank_{rank}.png", self.contribution(rank, limits)

    def _standing_out(self) -> list[int]:
        """Return the ranks whose share is furthest from an equal one over all epochs, half above it and half below."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a rank may have no share at all
            usual = np.nanmedian(self.shares[:, 0] / self.equal[:, None], axis=0)
        order = [int(rank) for rank in np.argsort(usual, kind="stable") if np.isfinite(usual[rank])]
        half = STAND_OUT // 2
        return sorted({*order[:half], *order[-half:]})

    def loss(self) -> Any:
        """Return training and validation loss, and below them the metric, if there are validation rows."""
        training, validation, metric = self.losses.T
        has_metric = bool(np.isfinite(metric).any())
        figure, axes = self._axes("Loss", 2 if has_metric else 1)
        lines = [("training, all ranks' rows", self._exact_line(axes[0], training, COLOURS[0]))]
        if np.isfinite(validation).any():
            lines.append(("validation", self._exact_line(axes[0], validation, COLOURS[1])))
        known = self.losses[:, :2][np.isfinite(self.losses[:, :2])]
        if known.max() > MANY_FOLD * known.min() > 0:
            axes[0].set_yscale("log")
        axes[0].set_ylabel(f"mean loss a row\n({_short(self.view.header['model']['loss'])})", parse_math=False)
        _legend(axes[0], lines)
        if has_metric:
            self._exact_line(axes[1], metric, COLOURS[1])
            accuracy = self.view.metric == "accuracy"
            axes[1].set_ylabel(f"validation\n{'accuracy (%)' if accuracy else 'R2 (1 is best)'}")
            if accuracy:
                self._in_percent(axes[1])
        return figure

    def sync_time(self) -> Any:
        """Return what synchronisation took in each epoch: the ranks' mean transfer and wait, stacked, and its range."""
        figure, (axes,) = self._axes("Time in synchronisation")
        _, high = _limits(self.times, 0.0)
        unit, scale = next(((u, s) for u, s in (("s", 1.0), ("ms", 1e3)) if high * s >= 2), ("\u00b5s", 1e6))
        transfer, wait, least, most = scale * self.times.T
        calm_transfer, calm_both = self._calm(transfer), self._calm(transfer + wait)
        fill = partial(axes.fill_between, alpha=0.5, linewidth=0)
        lines = [
            ("most of a rank", self._line(axes, most, GREY, linestyle="--")),
            ("mean of the ranks", self._line(axes, transfer + wait, BLACK, linewidth=2.2)),
            ("of it wait for the last rank", fill(self.epochs, calm_transfer, calm_both, color=COLOURS[1])),
            ("of it transfer", fill(self.epochs, 0.0, calm_transfer, color=COLOURS[0])),
            ("least of a rank", self._line(axes, least, GREY, linestyle=":")),
        ]
        self._limit(axes, most, (0.0, high * scale))
        axes.set_ylabel(f"wait and transfer ({unit} per epoch)")
        _legend(axes, lines)
        return figure

    def share_limits(self) -> tuple[float, float]:
        """Return limits for all ranks: they hold the shares of all parameters together, and 90 % of all values.

        The share of a single parameter goes far beyond them where its gradient almost vanishes.
        """
        known = self.shares[np.isfinite(self.shares)]
        usual = np.percentile(known, [5, 95]) if known.size else ()
        return _limits(self.shares[:, 0], 0.0, self.equal.min(), self.equal.max(), *usual)

    def contribution(self, rank: int, limits: tuple[float, float]) -> Any:
        """Return the signed share of the update by parameter; ``limits`` are those of all ranks' figures."""
        hosts = {rank: name for job in self.view.sessions for rank, name in host_names(job.header).items()}
        figure, (axes,) = self._axes(f"Contribution of rank {rank} on {hosts.get(rank, 'an unknown host')}")
        axes.axhline(0, color=BLACK, linewidth=0.8)
        every, *single = self.shares[:, :, rank].T
        style = {"color": GREY, "linestyle": "--", "linewidth": 1}
        if self.equal.min() == self.equal.max():
            equal = axes.axhline(self.equal[0], **style)
        else:  # it changes with the number of ranks
            equal = axes.plot(self.epochs, self.equal, drawstyle="steps-mid", **style)[0]
        lines = [("equal share", equal)]
        lines += [(name, self._line(axes, *own)) for name, *own in zip(self.names, single, COLOURS, strict=False)]
        lines.append(("all parameters", self._line(axes, every, BLACK, linewidth=2.2)))
        self._limit(axes, self.shares[:, :, rank], limits)
        axes.set_ylabel("signed share of the update (%),\nbelow 0 pulls against it")
        self._in_percent(axes)
        _legend(axes, lines)
        return figure

    def contribution_map(self) -> Any:
        """Return the share of every rank in every epoch as a colour; of very many ranks, that of some together.

        The colours span what 98 % of the values do; the others have the last colour, and the bar has pointed ends.
        """
        figure, (axes,) = self._axes("Contribution of all ranks")
        times = (self.shares[:, 0] / self.equal[:, None]).T
        ranks = len(times)
        each = -(-ranks // DRAWN_ROWS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a row may have no value
            rows = np.array([np.nanmean(times[start : start + each], axis=0) for start in range(0, ranks, each)])
        known = np.abs(rows[np.isfinite(rows)] - 1)
        span = max(float(np.percentile(known, 98)) if known.size else 0.0, SMALLEST_SPAN)
        edges = np.concatenate(
            [self.epochs[:1] - 0.5, (self.epochs[1:] + self.epochs[:-1]) / 2, self.epochs[-1:] + 0.5]
        )
        bounds = np.minimum(np.arange(len(rows) + 1) * each, ranks) - 0.5
        colours = {"cmap": self._colours, "vmin": 1 - span, "vmax": 1 + span}
        mesh = axes.pcolormesh(edges, bounds, np.ma.masked_invalid(rows), rasterized=True, **colours)
        axes.set_facecolor("#e8e8e8")  # no value
        axes.grid(visible=False)
        axes.margins(0)
        axes.invert_yaxis()
        axes.yaxis.set_major_locator(self._ticker.MaxNLocator(integer=True))
        axes.set_ylabel("rank" if each == 1 else f"rank (a row is the mean of {each})")
        bar = figure.colorbar(mesh, ax=axes, extend="both", pad=0.02)
        bar.set_label("share of the update, as a multiple of an equal one\n(below 0: pulls against it)")
        self._divide_by_host(axes, ranks)
        return figure

    def _divide_by_host(self, axes: Any, ranks: int) -> None:
        """Draw a line between hosts, and name them, as long as these are few."""
        hosts = host_names(self.view.sessions[-1].header)
        firsts = [rank for rank in range(ranks) if rank == 0 or hosts.get(rank) != hosts.get(rank - 1)]
        if not 1 < len(firsts) <= FEW_HOSTS:
            return
        for rank in firsts:
            if rank:
                axes.axhline(rank - 0.5, color=BLACK, linewidth=0.8)
            style = {"transform": axes.get_yaxis_transform(), "fontsize": 7, "va": "top", "parse_math": False}
            axes.text(0.005, rank - 0.5, _short(hosts.get(rank, "")), **style)

    def _axes(self, title: str, rows: int = 1) -> tuple[Any, list[Any]]:
        """Return a figure and its panels, one above the other, over the epochs."""
        figure = self._figure.Figure(figsize=INCHES, dpi=DPI, layout="constrained")
        panels = figure.subplots(rows, 1, sharex=True, squeeze=False, height_ratios=[2, 1][:rows])[:, 0]
        for axes in panels:
            axes.grid(color="#dddddd", linewidth=0.6)
            axes.set_axisbelow(True)
            axes.margins(x=0.02)
            axes.spines[["top", "right"]].set_visible(False)
        top = panels[0]
        for job in self.view.sessions[1:][-DRAWN_SESSIONS:]:  # a dotted line where another job continued the run
            for axes in panels:
                axes.axvline(job.first - 0.5, color=GREY, linewidth=0.8, linestyle=":")
            style = {"transform": top.get_xaxis_transform(), "fontsize": 7, "color": GREY, "va": "top"}
            top.text(job.first - 0.5, 1.0, f" {job.header['world']} ranks", **style)
        run = f"run {self.view.folder.resolve().name}, mode {mode_name(self.view.header)}, {self.view.ranks} ranks"
        top.set_title(_short(f"{title}: {run}", 200), loc="left", fontsize=10, parse_math=False)
        panels[-1].set_xlabel(self.epoch_label)
        panels[-1].xaxis.set_major_locator(self._ticker.MaxNLocator(integer=True))
        return figure, list(panels)

    def _in_percent(self, axes: Any) -> None:
        axes.yaxis.set_major_formatter(self._ticker.PercentFormatter(1.0, symbol=""))

    def _line(self, axes: Any, values: Array, colour: str, linewidth: float = 1.4, linestyle: str = "-") -> Any:
        """Draw a noisy series; of many points the moving median, and the points themselves faintly."""
        if len(values) >= MANY_POINTS:
            axes.plot(self.epochs, values, color=colour, linewidth=0.5, alpha=0.12, zorder=1)
        return self._exact_line(axes, self._calm(values), colour, linewidth=linewidth, linestyle=linestyle)

    def _exact_line(self, axes: Any, values: Array, colour: str, **style: Any) -> Any:
        return axes.plot(self.epochs, values, color=colour, marker=self.marker, markersize=3, **style)[0]

    def _calm(self, values: Array) -> Array:
        """Return the moving median of many points; few points as they are."""
        if len(values) < MANY_POINTS:
            return values
        half = len(values) // WINDOWS // 2
        windows = sliding_window_view(np.pad(values, half, constant_values=np.nan), 2 * half + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a window of nothing but NaN has no median
            return np.asarray(np.nanmedian(windows, axis=1))

    def _limit(self, axes: Any, values: Array, limits: tuple[float, float]) -> None:
        """Set the limits of noisy values, and say how many of them lie beyond."""
        axes.set_ylim(limits)
        beyond = int(((values < limits[0]) | (values > limits[1])).sum())
        axes.set_xlabel(f"{self.calm_label}; {count(beyond, 'value')} beyond the axis" if beyond else self.calm_label)


def _legend(axes: Any, lines: list[tuple[str, Any]]) -> None:
    """Name lines next to the axes. Names are any texts: matplotlib itself would leave out _x and typeset $x$."""
    drawn, place = [line for _, line in lines], {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
    legend = axes.legend(drawn, ["name"] * len(drawn), frameon=False, fontsize=9, **place)
    for entry, (name, _) in zip(legend.get_texts(), lines, strict=True):
        entry.set_parse_math(False)
        entry.set_text(_short(name))


def _short(text: str, most: int = 40) -> str:
    """Return a text of the log on one line that fits a picture."""
    text = printable(text[: most + 1]).replace("\n", " ")
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _limits(values: Array, *shown: float) -> tuple[float, float]:
    """Return limits that include ``shown`` and all values, or 98 % of these if the others lie far off."""
    known = values[np.isfinite(values)] if np.isfinite(values).any() else np.zeros(1)
    low, high = np.percentile(known, [1, 99])
    low, high = min(low, *shown), max(high, *shown)
    least, most = min(known.min(), *shown), max(known.max(), *shown)
    if most - least <= FAR * (high - low):
        low, high = least, most
    margin = 0.06 * (high - low) or 1.0
    return low - margin, high + margin
