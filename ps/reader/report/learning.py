"""Charts of loss and metric."""

import numpy as np

from ps.reader.report.data import RunData
from ps.reader.report.figures import ONLY, Chart, Section, axis, line
from ps.reader.report.over_epochs import epoch_table, layout
from ps.text.numbers import number
from ps.text.record_lines import metric


def learning(data: RunData) -> Section:
    """Return the charts of what was learnt."""
    charts = [_loss(data)]
    if np.isfinite(data.series("validation_metric")).any():
        charts.append(_metric(data))
    return Section("Learning", _thinned(data), charts=charts)


def _thinned(data: RunData) -> list[str]:
    stride = data.epochs.stride
    if stride == 1:
        return []
    return [f"Charts over epochs show one epoch in {stride}, the first and the last among them."]


def _loss(data: RunData) -> Chart:
    epochs, loss, validation = (data.series(key) for key in ("epoch", "loss", "validation_loss"))
    columns = {"training": loss}
    summary = f"The training loss went from {_change(data, 'loss')}"
    if np.isfinite(validation).any():
        columns["validation"] = validation
        summary += f", the validation loss from {_change(data, 'validation_loss')}"
    traces = [line(name, epochs, values, i) for i, (name, values) in enumerate(columns.items())]
    return Chart(
        "Loss",
        f"{summary}, over {data.n_epochs} epoch(s).",
        {ONLY: traces},
        layout(data, axis("loss")),
        epoch_table(data, "Loss", columns, number),
    )


def _change(data: RunData, key: str) -> str:
    return f"{number(data.first[key])} to {number(data.view.last[key])}"


def _metric(data: RunData) -> Chart:
    epochs, values = data.series("epoch"), data.series("validation_metric")
    name, accuracy = ("accuracy", True) if data.view.metric == "accuracy" else ("R2", False)
    best = int(np.nanargmax(values))
    first, last = (metric(data.view.metric, record["validation_metric"]) for record in (data.first, data.view.last))
    return Chart(
        f"Validation {name}",
        f"The validation {name} went from {first} to {last}; the best shown is "
        f"{metric(data.view.metric, float(values[best]))} in epoch {epochs[best]:.0f}.",
        {ONLY: [line(name, epochs, values, 2, value=".2%" if accuracy else ".4g")]},
        layout(data, axis(name, tickformat="~%" if accuracy else "")),
        epoch_table(data, f"Validation {name}", {name: values}, lambda v: metric(data.view.metric, v)),
    )
