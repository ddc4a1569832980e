"""What charts and tables over a run's epochs share."""

from collections.abc import Callable
from typing import Any

import numpy as np

from common.flat import Array
from ps.reader.report.data import RunData
from ps.reader.report.figures import MANY_RANKS, PALETTE, Table, epoch_axis, spread

MOST_MARKS = 20
"""Jobs that are marked where they began, the last ones."""


def layout(data: RunData, y_axis: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return the layout of a chart over epochs: with a thin line where another job went on with the run."""
    marks = [(job.first - 0.5, job.header["world"]) for job in data.view.jobs[1:][-MOST_MARKS:]]
    place = {"xref": "x", "yref": "paper"}
    rule = {"color": PALETTE[-1], "width": 1, "dash": "dot"}
    text = {"y": 1, "yanchor": "bottom", "xanchor": "left", "showarrow": False, "font": {"size": 10}}
    return {
        "xaxis": epoch_axis(data.series("epoch")),
        "yaxis": y_axis,
        "shapes": [{"type": "line", **place, "x0": x, "x1": x, "y0": 0, "y1": 1, "line": rule} for x, _ in marks],
        "annotations": [{**place, **text, "x": x, "text": f"{world} ranks"} for x, world in marks],
        **more,
    }


def epoch_table(data: RunData, title: str, columns: dict[str, Array], text: Callable[[float | None], str]) -> Table:
    """Return values over epochs, (epochs,) each, as a short table."""
    epochs = data.series("epoch")
    chosen = spread(len(epochs))
    more = "" if len(chosen) == data.n_epochs else f", {len(chosen)} of {data.n_epochs} epochs"
    rows = [
        [f"{epochs[i]:.0f}", *(text(float(v[i]) if np.isfinite(v[i]) else None) for v in columns.values())]
        for i in chosen
    ]
    return Table(title + more, ["epoch", *columns], rows)


def rank_table(data: RunData, title: str, values: Array, text: Callable[[float | None], str]) -> Table | None:
    """Return (epochs, ranks) values as a short table; None for many ranks."""
    if data.ranks > MANY_RANKS:
        return None
    return epoch_table(data, title, {f"rank {r}": values[:, r] for r in range(data.ranks)}, text)


def rank_names(data: RunData) -> list[str]:
    """Return what the ranks are called in a legend: with their host if there are several."""
    hosts = data.hosts
    several = len(set(hosts.values())) > 1
    return [f"rank {r}, {hosts[r]}" if several and r in hosts else f"rank {r}" for r in range(data.ranks)]
