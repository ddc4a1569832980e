"""What sections of the page are made of: tables and charts, these as plotly's JavaScript library takes them."""

import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from common.flat import Array
from common.limits import DRAWN_SESSIONS, PAGE_CELLS, PAGE_LABEL, PAGE_ROWS
from ps.reader.report.data import RunData
from ps.text.formatting import number

Trace = dict[str, Any]

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#c46a9d", "#8a6d00", "#7f7f7f")
"""After Okabe and Ito (2008), distinct without red-green vision; each stands out from a white and a dark page."""
DASHES = ("solid", "dash", "dot", "dashdot")
PATTERNS = ("", "/", "x", ".")
MANY_RANKS = 16
"""Up to so many ranks are drawn one by one; of more, a band and the ones that stand out."""
MARKED_POINTS = 60

Text = Callable[[float | None], str]


@dataclass(frozen=True, slots=True)
class PageTable:
    """A table as texts; ``numbers``: all columns but the first are aligned to the right."""

    caption: str
    columns: list[str]
    rows: list[list[str]]
    numbers: bool = True


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart and a text on what it shows. ``choices``: names of its lists of traces; the reader chooses one."""

    title: str
    summary: str
    traces: list[list[Trace]]
    layout: dict[str, Any]
    table: PageTable | None = None
    choices: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the page; ``lead``: the table that it begins with, the others are folded up."""

    title: str
    notes: list[str] = field(default_factory=list)
    lead: PageTable | None = None
    charts: list[Chart] = field(default_factory=list)
    tables: list[PageTable] = field(default_factory=list)


def clip(text: object, most: int = PAGE_LABEL) -> str:
    """Return a text of the log that is no longer than the page can show."""
    text = str(text)
    return text if len(text) <= most else text[: most - 1] + "…"


def label(text: object) -> str:
    """Return a text of the log for a chart, escaped: plotly would take some of its HTML as markup."""
    return html.escape(clip(text), quote=False)


def compact(values: Array) -> Any:
    """Return an array as nested lists of four digits, undefined values None; they are most of a page's bytes."""
    if values.ndim > 1:
        return [compact(row) for row in values]
    return [float(f"{v:.4g}") if math.isfinite(v) else None for v in values.tolist()]


def axis(title: str, **more: Any) -> dict[str, Any]:
    """Return an axis with a title."""
    return {"title": {"text": title}, "automargin": True, **more}


def line(name: str, x: Array, y: Array, style: int = 0, *, width: float = 2, value: str = ".4g") -> Trace:
    """Return a line; every sixth has the same colour, but other dashes. ``value``: d3's format of hover labels."""
    dash = DASHES[style // len(PALETTE) % len(DASHES)]
    return {
        "type": "scatter",
        "mode": "lines+markers" if np.isfinite(y).sum() <= MARKED_POINTS else "lines",
        "name": label(name),
        "x": x.tolist(),
        "y": compact(y),
        "line": {"color": PALETTE[style % len(PALETTE)], "dash": dash, "width": width},
        "marker": {"size": 5},
        "hovertemplate": f"%{{fullData.name}}: %{{y:{value}}}<extra>%{{x:.6~g}}</extra>",
    }


def level(name: str, x: Array, value: float | Array) -> Trace:
    """Return a dashed line to compare with: horizontal, or with a value for each of ``x``."""
    grey = {"color": PALETTE[-1], "dash": "dash", "width": 1.5}
    return {**line(name, x, np.broadcast_to(value, len(x))), "mode": "lines", "line": grey}


def bar(name: str, x: list[Any], y: Array, style: int, *, value: str = ".4g") -> Trace:
    """Return bars; every sixth have the same colour, but another pattern."""
    shape = PATTERNS[style // len(PALETTE) % len(PATTERNS)]
    return {
        "type": "bar",
        "name": label(name),
        "x": x,
        "y": compact(y),
        "marker": {
            "color": PALETTE[style % len(PALETTE)],
            "pattern": {"shape": shape, "fillmode": "overlay", "fgopacity": 0.5, "size": 6},
            "line": {"width": 0},
        },
        "hovertemplate": f"%{{fullData.name}}: %{{y:{value}}}<extra>%{{x}}</extra>",
    }


def band(name: str, x: Array, low: Array, high: Array) -> list[Trace]:
    """Return the area between two lines, with one entry in the legend."""
    edge = {"type": "scatter", "mode": "lines", "x": x.tolist(), "line": {"width": 0}, "hoverinfo": "skip",
            "legendgroup": "band"}  # fmt: skip
    filled = {"fill": "tonexty", "fillcolor": "rgba(127,127,127,0.3)", "name": label(name)}
    return [
        {**edge, "y": compact(low), "showlegend": False, "name": label(f"{name}, lower edge")},
        {**edge, "y": compact(high), **filled},
    ]


def block_means(values: Array, size: int) -> Array:
    """Return the means of blocks of ``size`` along the first axis; the last block may be smaller."""
    starts = np.arange(0, len(values), size)
    counts = np.diff([*starts, len(values)])
    sums = np.add.reduceat(values, starts, axis=0)  # undefined if one is: a gap
    return np.asarray(sums / counts.reshape(-1, *[1] * (values.ndim - 1)))


def rank_lines(names: list[str], x: Array, values: Array, *, value: str, highest: bool = True) -> list[Trace]:
    """Return ``values``, (epochs, ranks), as a line a rank; of many ranks as the median, a band and the extreme ranks.

    ``highest``: whether the ranks that stand out are those with the highest or the lowest mean.
    """
    ranks = range(values.shape[1])
    if len(ranks) <= MANY_RANKS:
        return [line(names[r], x, values[:, r], r, value=value) for r in ranks]
    means = column_means(values)
    order = np.argsort(np.where(np.isnan(means), -np.inf if highest else np.inf, means))
    low, middle, high = quantiles(values, (0.1, 0.5, 0.9))
    chosen = (order[::-1] if highest else order)[:4].tolist()
    return [
        *band("middle 80 % of ranks", x, low, high),
        line("median", x, middle, 5, width=3, value=value),
        *(line(names[r], x, values[:, r], i, value=value) for i, r in enumerate(chosen)),
    ]


def rank_stack(names: list[str], x: Array, values: Array, *, value: str) -> list[Trace]:
    """Return signed ``values``, (epochs, ranks), as stacked bars, negative ones downwards.

    Of many ranks: those farthest from the median on average, and the sums of the others above and below 0.
    """
    ranks = values.shape[1]
    series = dict(zip(names, values.T, strict=True))
    if ranks > MANY_RANKS:
        means = np.nan_to_num(column_means(values))
        chosen = np.sort(np.argsort(-np.abs(means - np.median(means)), kind="stable")[:8])
        others = np.delete(values, chosen, axis=1)
        rest = np.where(np.isnan(others).all(axis=1, keepdims=True), np.nan, np.nan_to_num(others))
        series = {names[r]: values[:, r] for r in chosen.tolist()}
        series["all others above 0"] = rest.clip(min=0).sum(axis=1)
        series["all others below 0"] = rest.clip(max=0).sum(axis=1)
    return [bar(name, x.tolist(), own, i, value=value) for i, (name, own) in enumerate(series.items())]


def column_means(values: Array) -> Array:
    """Return the mean of the known values of each column; NaN if there are none."""
    known = np.isfinite(values)
    return np.asarray(np.where(known, values, 0).sum(axis=0) / known.sum(axis=0))


def quantiles(values: Array, levels: tuple[float, ...]) -> Array:
    """Return (levels, rows) quantiles of the known values of each row; NaN if there are none."""
    empty = np.asarray(np.isnan(values).all(axis=1))
    filled = np.where(empty[:, None], 0.0, values)
    return np.where(empty, np.nan, np.nanquantile(filled, levels, axis=1))


def number_table(
    caption: str, corner: str, names: Sequence[str], columns: Mapping[str, Array], text: Text = number
) -> PageTable:
    """Return a table of figures, a row for each name; ``text`` makes a cell of a figure, None if it is undefined."""
    cells = ([text(v if math.isfinite(v) else None) for v in values.tolist()] for values in columns.values())
    return PageTable(caption, [corner, *columns], [list(row) for row in zip(names, *cells, strict=True)])


def over_epochs(data: RunData, y_axis: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return the layout of a chart over epochs, with a dotted line where another job continued the run."""
    epochs = data.series("epoch")
    few = {"dtick": 1} if epochs[-1] - epochs[0] < 10 else {}
    changes = [(job.first - 0.5, job.header["world"]) for job in data.view.sessions[1:][-DRAWN_SESSIONS:]]
    place = {"xref": "x", "yref": "paper"}
    rule = {"color": PALETTE[-1], "width": 1, "dash": "dot"}
    text = {"y": 1, "yanchor": "bottom", "xanchor": "left", "showarrow": False, "font": {"size": 10}}
    return {
        "xaxis": axis("epoch", tickformat=",d", **few),
        "yaxis": y_axis,
        "shapes": [{"type": "line", **place, "x0": x, "x1": x, "y0": 0, "y1": 1, "line": rule} for x, _ in changes],
        "annotations": [{**place, **text, "x": x, "text": f"{world} ranks"} for x, world in changes],
        **more,
    }


def curves(
    data: RunData,
    title: str,
    summary: str,
    columns: Mapping[str, Array],
    y_axis: dict[str, Any],
    *,
    caption: str = "",
    text: Text = number,
    value: str = ".4g",
    under: Sequence[Trace] = (),
    over: Sequence[Trace] = (),
) -> Chart:
    """Return a chart with a line over the epochs for each column, between other traces, and their table."""
    epochs = data.series("epoch")
    lines = [line(name, epochs, values, i, value=value) for i, (name, values) in enumerate(columns.items())]
    table = epoch_table(data, caption or title, columns, text)
    return Chart(title, summary, [[*under, *lines, *over]], over_epochs(data, y_axis), table)


def rank_map(data: RunData, title: str, summary: str, values: Array, unit: str, **more: Any) -> Chart:
    """Return (epochs, ranks) values as colours, rank 0 on top; of too many cells the means of blocks."""
    by_epoch, by_rank = (max(1, math.ceil(n / PAGE_CELLS)) for n in (values.size, data.ranks))
    trace = {
        "type": "heatmap",
        "x": block_means(data.series("epoch"), by_epoch).tolist(),
        "y": block_means(np.arange(data.ranks, dtype=float), by_rank).tolist(),
        "z": compact(block_means(block_means(values, by_epoch).T, by_rank)),
        "colorscale": "Cividis",
        "colorbar": {"title": {"text": unit, "side": "right"}, "thickness": 12},
        "hovertemplate": f"epoch %{{x}}, rank %{{y}}: %{{z:.4g}} {unit}<extra></extra>",
        **more,
    }
    ranks = axis("rank", autorange="reversed", tickformat="d", dtick=max(1, math.ceil(data.ranks / 16)))
    return Chart(title, summary, [[trace]], over_epochs(data, ranks))


def epoch_table(data: RunData, caption: str, columns: Mapping[str, Array], text: Text = number) -> PageTable:
    """Return values over epochs, (epochs,) each, as a short table."""
    epochs = data.series("epoch")
    chosen = spread(len(epochs))
    more = "" if len(chosen) == data.n_epochs else f", {len(chosen)} of {data.n_epochs} epochs"
    shown = {title: values[chosen] for title, values in columns.items()}
    return number_table(caption + more, "epoch", [f"{epochs[i]:.0f}" for i in chosen], shown, text)


def rank_table(data: RunData, caption: str, values: Array, text: Text = number) -> PageTable | None:
    """Return (epochs, ranks) values as a short table; None for many ranks."""
    if data.ranks > MANY_RANKS:
        return None
    return epoch_table(data, caption, {f"rank {r}": values[:, r] for r in range(data.ranks)}, text)


def spread(n: int, most: int = PAGE_ROWS) -> list[int]:
    """Return at most ``most`` of n indices, evenly spread, the first and the last among them."""
    return sorted({round(i * (n - 1) / (most - 1)) for i in range(most)}) if n > most else list(range(n))
