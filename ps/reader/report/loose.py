"""The section on ranks that do not keep in step: how old gradients were, how far parameters drifted, who updated."""

import numpy as np

from common.flat import Array
from ps.reader.report import charts
from ps.reader.report.charts import Chart, PageTable, Section, axis
from ps.reader.report.data import LOOSE, RunData
from ps.text import loose as texts
from ps.text.formatting import number, percent

WHAT = {
    "staleness_mean": ("Staleness", "how many updates lay between a rank's parameters and its gradient's part in one"),
    "clock_gap": ("Steps ahead", "the most that a rank was ahead of the slowest"),
    "drift": ("Drift", "how far a rank's parameters were from the common ones, of their length"),
    "update_share": ("Share of the updates", "what of the epoch's updates was a rank's"),
}
"""By field: the chart's title, and what it shows."""


def has_any(data: RunData) -> bool:
    """Say whether a run has any of these figures."""
    return any(charts.is_there(data.series(key)) for key in LOOSE)


def loose(data: RunData) -> Section:
    """Return a chart for each figure that the log has, and the table of the last epoch."""
    shown = [_chart(data, key) for key in WHAT if charts.is_there(data.series(key))]
    columns = texts.columns(data.view.last)
    tables = []
    if columns:
        ranks = range(len(data.view.last["rows"]))
        lines = [[str(rank), *(cells[rank] for cells in columns.values())] for rank in ranks[: data.most_ranks]]
        tables = [PageTable(f"{texts.TITLE} in epoch {data.view.last['epoch']}", ["rank", *columns], lines)]
    counts = [f"{np.nansum(data.series(key)):,.0f} {key}" for key in ("late", "dropped") if _any(data.series(key))]
    notes = [f"In the epochs shown {' and '.join(counts)} gradients."] if counts else []
    return Section("Out of step", notes, charts=shown, tables=tables)


def _any(values: Array) -> bool:
    return bool(np.nansum(values) > 0)


def _chart(data: RunData, key: str) -> Chart:
    title, about = WHAT[key]
    values, text = data.series(key), percent if key in ("drift", "update_share") else number
    last = values[-1]
    known = np.flatnonzero(np.isfinite(last))
    said = ""
    if len(known):
        low, high = known[last[known].argmin()], known[last[known].argmax()]
        said = (
            f" In the last epoch least {data.rank_names[low]}, {text(float(last[low]))}, and most "
            f"{data.rank_names[high]}, {text(float(last[high]))}."
        )
    value = ".2%" if text is percent else ".4g"
    return Chart(
        title,
        f"{about[:1].upper()}{about[1:]}.{said}",
        [charts.rank_lines(data.rank_names, data.series("epoch"), values, value=value)],
        charts.over_epochs(data, axis(title.lower(), **({"tickformat": "~%"} if text is percent else {}))),
        charts.rank_table(data, title, values, text),
    )
