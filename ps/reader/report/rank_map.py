"""A map of all ranks and epochs, whose colours one outlier does not rule."""

import math
from typing import Any

import numpy as np

from common.flat import Array
from common.limits import PAGE_CELLS
from ps.reader.report.charts import Chart, axis, compact, over_epochs, rank_table
from ps.reader.report.data import RunData
from ps.reader.report.figures import block_means
from ps.text.formatting import number

MOST = 0.95
"""The share of the cells whose colours differ, where the others are far beyond them."""
FAR = 2.0
"""How many times farther the farthest cell must be for that."""


def rank_map(
    data: RunData, title: str, summary: str, values: Array, unit: str, *, middle: float | None = None, **more: Any
) -> Chart:
    """Return (epochs, ranks) values as colours, rank 0 on top; of too many cells the means of blocks.

    ``middle``: the value in the middle of the colours, where they go both ways.
    """
    by_epoch, by_rank = (max(1, math.ceil(n / PAGE_CELLS)) for n in (values.size, data.ranks))
    cells = block_means(block_means(values, by_epoch).T, by_rank)
    limits, said = _limits(cells, middle, unit)
    trace = {
        "type": "heatmap",
        "x": block_means(data.series("epoch"), by_epoch).tolist(),
        "y": block_means(np.arange(data.ranks, dtype=float), by_rank).tolist(),
        "z": compact(cells),
        "colorscale": "Cividis" if middle is None else "RdBu",
        "colorbar": {"title": {"text": unit, "side": "right"}, "thickness": 12, "exponentformat": "e"},
        "hovertemplate": f"epoch %{{x}}, rank %{{y}}: %{{z:.4g}} {unit}<extra></extra>",
        **limits,
        **more,
    }
    ranks = axis("rank", autorange="reversed", tickformat="d", dtick=max(1, math.ceil(data.ranks / 16)))
    return Chart(
        title, f"{summary}{said}", [[trace]], over_epochs(data, ranks), rank_table(data, f"{title}, {unit}", values)
    )


def _limits(cells: Array, middle: float | None, unit: str) -> tuple[dict[str, float], str]:
    """Return the values at which the colours end, and a sentence where cells lie beyond them."""
    known = cells[np.isfinite(cells)]
    centre = 0.0 if middle is None else middle
    distance = np.abs(known - centre)
    if not known.size or not distance.max() > 0:
        return {}, ""
    end, farthest = float(np.quantile(distance, MOST)), float(distance.max())
    if farthest <= FAR * end or end <= 0:
        return {} if middle is None else {"zmin": centre - farthest, "zmax": centre + farthest}, ""
    low = 0.0 if middle is None else centre - end
    largest = known[int(distance.argmax())]
    return {"zmin": low, "zmax": centre + end}, (
        f" The colours end at {number(centre + end)} {unit}, so that a few large values do not rule them: "
        f"{100 * MOST:.0f} % of the cells are within, the farthest is {number(float(largest))} {unit}."
    )
