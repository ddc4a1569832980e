"""What sections of the page are made of: tables, and charts over the epochs of a run."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from common.flat import Array
from ps.reader.report.data import RunData
from ps.reader.report.traces import MANY_RANKS, PALETTE, Trace, axis, heat_map, line
from ps.text.numbers import number

MOST_TABLE_ROWS = 12
MOST_JOBS = 20
"""Jobs that are marked where they began, the last ones."""

Text = Callable[[float | None], str]


@dataclass(frozen=True, slots=True)
class Table:
    """A table as texts; ``numbers``: all columns but the first are aligned to the right."""

    caption: str
    columns: list[str]
    rows: list[list[str]]
    numbers: bool = True


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart with what it shows in words. ``choices``: names of its lists of traces, of which the reader takes one."""

    title: str
    summary: str
    traces: list[list[Trace]]
    layout: dict[str, Any]
    table: Table | None = None
    choices: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page with a heading; ``lead``: the table to begin with, the others are folded up."""

    title: str
    notes: list[str] = field(default_factory=list)
    lead: Table | None = None
    charts: list[Chart] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


def figures(caption: str, corner: str, names: Sequence[str], columns: Mapping[str, Any], text: Text = number) -> Table:
    """Return a table of figures, a row for each name; ``text`` makes a cell of a figure, None if it is undefined."""
    known = {
        title: [None if v is None or not np.isfinite(v) else float(v) for v in own] for title, own in columns.items()
    }
    return Table(
        caption, [corner, *known], [[name, *(text(own[i]) for own in known.values())] for i, name in enumerate(names)]
    )


def pairs(caption: str, values: dict[str, str]) -> Table:
    """Return a table of names and texts."""
    return Table(caption, ["", "value"], [[key, value] for key, value in values.items()], numbers=False)


def over_epochs(data: RunData, y_axis: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return the layout of a chart over epochs: with a thin line where another job continued the run."""
    epochs = data.series("epoch")
    few = {"dtick": 1} if epochs[-1] - epochs[0] < 10 else {}
    marks = [(job.first - 0.5, job.header["world"]) for job in data.view.jobs[1:][-MOST_JOBS:]]
    place = {"xref": "x", "yref": "paper"}
    rule = {"color": PALETTE[-1], "width": 1, "dash": "dot"}
    text = {"y": 1, "yanchor": "bottom", "xanchor": "left", "showarrow": False, "font": {"size": 10}}
    return {
        "xaxis": axis("epoch", tickformat=",d", **few),
        "yaxis": y_axis,
        "shapes": [{"type": "line", **place, "x0": x, "x1": x, "y0": 0, "y1": 1, "line": rule} for x, _ in marks],
        "annotations": [{**place, **text, "x": x, "text": f"{world} ranks"} for x, world in marks],
        **more,
    }


def lines(data: RunData, columns: Mapping[str, Array], value: str = ".4g") -> list[Trace]:
    """Return a line over the epochs for each column."""
    epochs = data.series("epoch")
    return [line(name, epochs, values, i, value=value) for i, (name, values) in enumerate(columns.items())]


def rank_map(data: RunData, title: str, summary: str, values: Array, unit: str, **more: Any) -> Chart:
    """Return a chart of (epochs, ranks) values as colours, rank 0 on top."""
    ranks = axis("rank", autorange="reversed", tickformat="d", dtick=max(1, math.ceil(data.ranks / 16)))
    traces = [heat_map(data.series("epoch"), values, unit, **more)]
    return Chart(title, summary, [traces], over_epochs(data, ranks))


def epoch_table(data: RunData, caption: str, columns: Mapping[str, Array], text: Text = number) -> Table:
    """Return values over epochs, (epochs,) each, as a short table."""
    epochs = data.series("epoch")
    chosen = spread(len(epochs))
    more = "" if len(chosen) == data.n_epochs else f", {len(chosen)} of {data.n_epochs} epochs"
    shown = {title: values[chosen] for title, values in columns.items()}
    return figures(caption + more, "epoch", [f"{epochs[i]:.0f}" for i in chosen], shown, text)


def rank_table(data: RunData, caption: str, values: Array, text: Text = number) -> Table | None:
    """Return (epochs, ranks) values as a short table; None for many ranks."""
    if data.ranks > MANY_RANKS:
        return None
    return epoch_table(data, caption, {f"rank {r}": values[:, r] for r in range(data.ranks)}, text)


def spread(n: int, most: int = MOST_TABLE_ROWS) -> list[int]:
    """Return at most so many of n positions, evenly spread, the first and the last among them."""
    return sorted({round(i * (n - 1) / (most - 1)) for i in range(most)}) if n > most else list(range(n))
