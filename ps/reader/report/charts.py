"""What sections of the page are made of: tables and charts, these as plotly's JavaScript library takes them."""

import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from common.flat import Array
from common.limits import DRAWN_SESSIONS, PAGE_LABEL
from common.wording import printable
from ps.reader.report.colours import GREY, MEANINGS, Style, colour, dash, faded, marker
from ps.reader.report.data import RunData
from ps.reader.report.figures import column_means, quantiles, spread
from ps.text.formatting import number

Trace = dict[str, Any]

MANY_RANKS = 16
"""Up to so many ranks are drawn one by one; of more, a band and the ones that stand out."""
MARKED_POINTS = 60
SPREAD = {0.0: "least", 0.1: "10 % below", 0.5: "median", 0.9: "90 % below", 1.0: "most"}
"""Quantiles that a table of many ranks holds."""
LOG_FROM = 30.0
"""A logarithmic axis is for values of which the largest is so many times the smallest."""
LABELLED_DECADES = 8
MOSTLY = 0.9
"""Such a share of the values must be above 0 for it."""

Text = Callable[[float | None], str]


@dataclass(frozen=True, slots=True)
class PageTable:
    """A table as texts.

    ``numbers``: all columns but the first are aligned to the right. ``marked``: how many rows, the first, stand out.
    """

    caption: str
    columns: list[str]
    rows: list[list[str]]
    numbers: bool = True
    marked: int = 0


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
    """A section of the page; ``lead``: the table that it begins with. The others are folded up unless ``open``."""

    title: str
    notes: list[str] = field(default_factory=list)
    lead: PageTable | None = None
    charts: list[Chart] = field(default_factory=list)
    tables: list[PageTable] = field(default_factory=list)
    open: bool = False


def clip(text: object, most: int = PAGE_LABEL) -> str:
    """Return a text of the log that is no longer than the page can show."""
    text = printable(str(text)[: most + 1])
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


def scaled(title: str, *columns: Array, **more: Any) -> dict[str, Any]:
    """Return an axis for these values: logarithmic where they are above 0 and span decades, so that all can be read.

    A few values of 0, such as losses that are rounded to it, do not prevent that; the title says that they are not
    there.
    """
    known = np.concatenate([values[np.isfinite(values)] for values in columns] or [np.zeros(0)])
    above = known[known > 0]
    if len(above) < MOSTLY * known.size or known.min(initial=0) < 0 or not above.size:
        return axis(title, **more)
    if above.max() <= LOG_FROM * above.min():
        return axis(title, **more)
    left_out = "" if len(above) == known.size else " (0 is not drawn)"
    decades = math.log10(above.max() / above.min())
    return axis(f"{title}{left_out}", **more, type="log", dtick=max(1, math.ceil(decades / LABELLED_DECADES)))


def line(name: str, x: Array, y: Array, style: Style = 0, *, width: float = 2, value: str = ".4g") -> Trace:
    """Return a line. ``value``: d3's format of hover labels."""
    return {
        "type": "scatter",
        "mode": "lines+markers" if np.isfinite(y).sum() <= MARKED_POINTS else "lines",
        "name": label(name),
        "x": x.tolist(),
        "y": compact(y),
        "line": {"color": colour(style), "dash": dash(style), "width": width},
        "marker": {"size": 5},
        "hovertemplate": f"%{{fullData.name}}: %{{y:{value}}}<extra>%{{x:.6~g}}</extra>",
    }


def level(name: str, x: Array, value: float | Array) -> Trace:
    """Return a dashed line to compare with: horizontal, or with a value for each of ``x``."""
    grey = {"color": GREY, "dash": "dash", "width": 1.5}
    return {**line(name, x, np.broadcast_to(value, len(x))), "mode": "lines", "line": grey}


def bar(name: str, x: list[Any], y: Array, style: Style, *, value: str = ".4g") -> Trace:
    """Return bars."""
    return {
        "type": "bar",
        "name": label(name),
        "x": x,
        "y": compact(y),
        "marker": marker(style),
        "hovertemplate": f"%{{fullData.name}}: %{{y:{value}}}<extra>%{{x}}</extra>",
    }


def bars(x: list[Any], columns: Mapping[str, Array], *, value: str = ".4g") -> list[Trace]:
    """Return bars for each column by its meaning, without those that are 0 everywhere."""
    return [bar(name, x, values, name, value=value) for name, values in columns.items() if is_there(values)]


def is_there(values: Array) -> bool:
    """Say whether there is anything to draw: what is 0 or undefined everywhere needs no legend either."""
    return bool(np.nan_to_num(values).any())


def band(name: str, x: Array, low: Array, high: Array, style: Style = "") -> list[Trace]:
    """Return the area between two lines, with one entry in the legend."""
    hidden = {"width": 0, "color": colour(style)}
    edge = {"type": "scatter", "mode": "lines", "x": x.tolist(), "line": hidden, "hoverinfo": "skip",
            "legendgroup": f"band {label(name)}"}  # fmt: skip
    filled = {"fill": "tonexty", "fillcolor": faded(colour(style)), "name": label(name)}
    return [
        {**edge, "y": compact(low), "showlegend": False, "name": label(f"{name}, lower edge")},
        {**edge, "y": compact(high), **filled},
    ]


def rank_lines(names: list[str], x: Array, values: Array, *, value: str, highest: bool = True) -> list[Trace]:
    """Return ``values``, (epochs, ranks), as a line a rank; of many ranks as the median, a band and the extreme ranks.

    ``highest``: whether the ranks that stand out are those with the highest or the lowest mean.
    """
    ranks = range(values.shape[1])
    if len(ranks) <= MANY_RANKS:
        return [line(names[r], x, values[:, r], r, value=value) for r in ranks if is_there(values[:, r])]
    means = column_means(values)
    order = np.argsort(np.where(np.isnan(means), -np.inf if highest else np.inf, means))
    low, middle, high = quantiles(values, (0.1, 0.5, 0.9))
    chosen = (order[::-1] if highest else order)[:4].tolist()
    return [
        *band("middle 80 % of ranks", x, low, high),
        line("median", x, middle, "", width=3, value=value),
        *(line(names[r], x, values[:, r], r, value=value) for r in chosen),
    ]


def rank_stack(names: list[str], x: Array, values: Array, *, value: str) -> list[Trace]:
    """Return signed ``values``, (epochs, ranks), as stacked bars, negative ones downwards.

    Of many ranks: those farthest from the median on average, and the sums of the others above and below 0.
    """
    ranks = values.shape[1]
    chosen, rest = list(range(ranks)), dict[str, Array]()
    if ranks > MANY_RANKS:
        means = np.nan_to_num(column_means(values))
        chosen = np.sort(np.argsort(-np.abs(means - np.median(means)), kind="stable")[:8]).tolist()
        others = np.delete(values, chosen, axis=1)
        known = np.where(np.isnan(others).all(axis=1, keepdims=True), np.nan, np.nan_to_num(others))
        rest["all others above 0"] = known.clip(min=0).sum(axis=1)
        rest["all others below 0"] = known.clip(max=0).sum(axis=1)
    shown = [bar(names[r], x.tolist(), values[:, r], r, value=value) for r in chosen if is_there(values[:, r])]
    return shown + bars(x.tolist(), rest, value=value)


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
    rule = {"color": GREY, "width": 1, "dash": "dot"}
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
    lines = [
        line(name, epochs, values, name if name in MEANINGS else i, value=value)
        for i, (name, values) in enumerate(columns.items())
        if is_there(values) or len(columns) == 1
    ]
    table = epoch_table(data, caption or title, columns, text)
    return Chart(title, summary, [[*under, *lines, *over]], over_epochs(data, y_axis), table)


def epoch_table(data: RunData, caption: str, columns: Mapping[str, Array], text: Text = number) -> PageTable:
    """Return values over epochs, (epochs,) each, as a short table."""
    epochs = data.series("epoch")
    chosen = spread(len(epochs))
    more = "" if len(chosen) == data.n_epochs else f", {len(chosen)} of {data.n_epochs} epochs"
    shown = {title: values[chosen] for title, values in columns.items()}
    return number_table(caption + more, "epoch", [f"{epochs[i]:.0f}" for i in chosen], shown, text)


def rank_table(data: RunData, caption: str, values: Array, text: Text = number) -> PageTable:
    """Return (epochs, ranks) values as a short table; of many ranks, how they are spread."""
    if data.ranks <= MANY_RANKS:
        return epoch_table(data, caption, {f"rank {r}": values[:, r] for r in range(data.ranks)}, text)
    spread_over = dict(zip(SPREAD.values(), quantiles(values, tuple(SPREAD)), strict=True))
    return epoch_table(data, f"{caption}, over all ranks", spread_over, text)
