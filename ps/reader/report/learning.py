"""The section on what was learnt: loss, metric, learning rate and the gradient's length over the epochs."""

from functools import partial

import numpy as np

from common.flat import Array
from common.wording import count
from ps.reader.report import charts
from ps.reader.report.charts import Chart, Section, axis, scaled
from ps.reader.report.data import RunData
from ps.text.formatting import metric, number


def learning(data: RunData) -> Section:
    """Return the charts."""
    stride = data.epochs.stride
    notes = [f"Charts over epochs show one epoch in {stride}, the first and the last among them."] if stride > 1 else []
    shown = [_loss(data)]
    shown += [_metric(data)] if is_known(data, "validation_metric") else []
    shown += [_loss_by_rank(data)] if data.ranks > 1 and is_known(data, "loss_by_rank") else []
    shown += [_gradient_norm(data)] if is_known(data, "gradient_norm") else []
    return Section("Learning", notes, charts=[*shown, _learning_rate(data)])


def is_known(data: RunData, key: str) -> bool:
    """Say whether any of the kept epochs has this figure."""
    return bool(np.isfinite(data.series(key)).any())


def _loss(data: RunData) -> Chart:
    columns, summary = {"training": data.series("loss")}, f"The training loss went from {_change(data, 'loss')}"
    if is_known(data, "validation_loss"):
        columns["validation"] = data.series("validation_loss")
        summary += f", the validation loss from {_change(data, 'validation_loss')}"
    summary += f", over {count(data.n_epochs, 'epoch')}."
    if len(columns) > 1:
        epochs, values = data.series("epoch"), columns["validation"]
        summary += f" The lowest validation loss shown is {number(float(np.nanmin(values)))}, of epoch "
        summary += f"{epochs[int(np.nanargmin(values))]:.0f}."
    return charts.curves(data, "Loss", summary, columns, scaled("loss", *columns.values()))


def _change(data: RunData, key: str) -> str:
    return f"{number(data.first.get(key))} to {number(data.view.last.get(key))}"


def _metric(data: RunData) -> Chart:
    epochs, values = data.series("epoch"), data.series("validation_metric")
    accuracy = data.view.metric == "accuracy"
    name = "accuracy" if accuracy else "R2"
    best = int(np.nanargmax(values))
    text = partial(metric, data.view.metric)
    first, last = (text(record.get("validation_metric")) for record in (data.first, data.view.last))
    return Chart(
        f"Validation {name}",
        f"The validation {name} went from {first} to {last}; the best shown is {text(float(values[best]))} in epoch "
        f"{epochs[best]:.0f}.",
        [[charts.line(name, epochs, values, "validation", value=".2%" if accuracy else ".4g")]],
        charts.over_epochs(data, axis(name, tickformat="~%" if accuracy else "")),
        charts.epoch_table(data, f"Validation {name}", {name: values}, text),
    )


def _loss_by_rank(data: RunData) -> Chart:
    values = data.series("loss_by_rank")
    texts = []
    for record in (data.first, data.view.last)[: data.n_epochs]:
        known = [(loss, rank) for rank, loss in enumerate(record.get("loss_by_rank", [])) if loss is not None]
        if known:
            (low, lowest), (high, highest) = min(known), max(known)
            texts.append(
                f"In epoch {record['epoch']} the least loss was rank {lowest}'s, {number(low)}, and the largest rank "
                f"{highest}'s, {number(high)}."
            )
    return Chart(
        "Loss by rank",
        " ".join([*texts, "Each is the mean over the rows that the rank trained on in that epoch."]),
        [charts.rank_lines(data.rank_names, data.series("epoch"), values, value=".4g")],
        charts.over_epochs(data, scaled("loss of own rows", values)),
        charts.rank_table(data, "Loss by rank", values),
    )


def _learning_rate(data: RunData) -> Chart:
    values = data.series("learning_rate")
    changed = bool(np.ptp(values) > 0)
    text = f"went from {_change(data, 'learning_rate')}" if changed else f"was {number(float(values[-1]))} throughout"
    about = f"The learning rate {text}; schedule {charts.clip(data.header['config'].get('schedule', 'unknown'))}."
    return charts.curves(data, "Learning rate", about, {"learning rate": values}, _from_zero("rate", values))


def _gradient_norm(data: RunData) -> Chart:
    epochs, values = data.series("epoch"), data.series("gradient_norm")
    clip = data.header["config"].get("clip", 0)
    over = [charts.level("clipped to", epochs, float(clip))] if clip else []
    return charts.curves(
        data,
        "Gradient norm",
        f"The length of the mean gradient of a step's rows went from {_change(data, 'gradient_norm')}; the largest "
        f"shown is {number(float(np.nanmax(values)))}. It was measured on sampled steps, before clipping.",
        {"gradient norm": values},
        scaled("norm", values),
        over=over,
    )


def _from_zero(title: str, values: Array) -> dict[str, object]:
    made = scaled(title, values)
    return made if made.get("type") else {**made, "rangemode": "tozero"}
