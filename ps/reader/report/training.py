"""The sections on a training run: what was learnt, what each rank contributed, and where the time went."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from common.flat import Array
from common.limits import PAGE_RANKS
from ps.logfile.records import Record
from ps.reader.report import charts
from ps.reader.report.charts import Chart, PageTable, Section, axis, column_means
from ps.reader.report.data import EFFICIENCIES, TIMES, RunData
from ps.reader.report.shares import MEANS, running, share
from ps.text.contributions import sampled
from ps.text.formatting import metric, number, percent

IN_PERCENT = {"tickformat": "~%"}

Draw = Callable[..., list[dict[str, Any]]]
"""Draws (epochs, ranks) values: ``rank_lines`` or ``rank_stack``."""


def learning(data: RunData) -> Section:
    """Return the charts of loss and metric."""
    stride = data.epochs.stride
    notes = [f"Charts over epochs show one epoch in {stride}, the first and the last among them."] if stride > 1 else []
    metrics = [_metric(data)] if _known(data, "validation_metric") else []
    return Section("Learning", notes, charts=[_loss(data), *metrics])


def _known(data: RunData, key: str) -> bool:
    return bool(np.isfinite(data.series(key)).any())


def _loss(data: RunData) -> Chart:
    columns, summary = {"training": data.series("loss")}, f"The training loss went from {_change(data, 'loss')}"
    if _known(data, "validation_loss"):
        columns["validation"] = data.series("validation_loss")
        summary += f", the validation loss from {_change(data, 'validation_loss')}"
    return charts.curves(data, "Loss", f"{summary}, over {data.n_epochs} epoch(s).", columns, axis("loss"))


def _change(data: RunData, key: str) -> str:
    return f"{number(data.first[key])} to {number(data.view.last[key])}"


def _metric(data: RunData) -> Chart:
    epochs, values = data.series("epoch"), data.series("validation_metric")
    accuracy = data.view.metric == "accuracy"
    name = "accuracy" if accuracy else "R2"
    best = int(np.nanargmax(values))
    text = partial(metric, data.view.metric)
    first, last = (text(record["validation_metric"]) for record in (data.first, data.view.last))
    return Chart(
        f"Validation {name}",
        f"The validation {name} went from {first} to {last}; the best shown is {text(float(values[best]))} in epoch "
        f"{epochs[best]:.0f}.",
        [[charts.line(name, epochs, values, 2, value=".2%" if accuracy else ".4g")]],
        charts.over_epochs(data, axis(name, tickformat="~%" if accuracy else "")),
        charts.epoch_table(data, f"Validation {name}", {name: values}, text),
    )


def contribution(data: RunData) -> Section:
    """Return the charts of who contributed what to the update, and of how many ranks were of use."""
    left_out = len(data.header["model"]["parameters"]) - len(data.names)
    note = f"The first {len(data.names)} parameters can be chosen; {left_out} more are in the log."
    shown = [share(data), *([_share_map(data)] if data.ranks > charts.MANY_RANKS else [])]
    shown += [_norm_ratio(data), _cosine(data)]
    shown += [_effective_ranks(data)] if _known(data, "effective_ranks") else []
    shown += [_noise_scale(data)] if _known(data, "noise_scale") else []
    tables = [_contribution_table(data, record) for record in _ends(data)]
    return Section("Contribution", [note] if left_out else [], charts=shown, tables=tables)


def _ends(data: RunData) -> list[Record]:
    """Return the records of the first and the last epoch."""
    return [data.first, data.view.last][: data.n_epochs]


def _by_parameter(data: RunData, key: str, what: str, about: str, draw: Draw, layout: dict[str, Any]) -> Chart:
    """Return a chart by rank of a figure of all parameters or of one; names that would look the same get a number."""
    texts, means = [], running(data.series(key))
    for record in _ends(data):
        known = [(value, rank) for rank, value in enumerate(record[f"{key}_all"]) if value is not None]
        if known:
            (low, lowest), (high, highest) = min(known), max(known)
            texts.append(
                f"In epoch {record['epoch']} the smallest {what} was rank {lowest}'s, {percent(low)}, and the largest "
                f"rank {highest}'s, {percent(high)}."
            )
    names = ["all parameters", *(charts.clip(name) for name in data.names)]
    return Chart(
        f"{what.capitalize()} by rank",
        " ".join([*(texts or [f"The {what} is undefined."]), about]),
        [draw(data.rank_names, data.series("epoch"), own, value=".2%") for own in means.swapaxes(0, 1)],
        layout,
        charts.rank_table(data, f"{what.capitalize()}, all parameters, {MEANS}", means[:, 0], percent),
        [name if names.index(name) == i else f"{name} ({i})" for i, name in enumerate(names)],
    )


def _share_map(data: RunData) -> Chart:
    values = data.series("share")[:, 0] * data.series("world")[:, None]
    means = column_means(values)
    unknown = int(np.isnan(means).sum())
    more = f" {unknown} had no share in any of these epochs." if unknown else ""
    summary = (
        f"Of {data.ranks} ranks, {(means < 0).sum()} had a share below 0 on average and {(means < 0.5).sum()} less "
        f"than half an equal share.{more}"
    )
    return charts.rank_map(data, "Share of every rank", summary, values, "equal shares", colorscale="RdBu", zmid=1)


def _norm_ratio(data: RunData) -> Chart:
    about = (
        "The norm ratio compares the length of a rank's gradient with that of the sum over the ranks; it does not see "
        f"directions, and does not add up to 100 %. It is {sampled(data.view.last)}; lines are {MEANS}."
    )
    layout = charts.over_epochs(data, axis("norm ratio", **IN_PERCENT))
    return _by_parameter(data, "norm_ratio", "norm ratio", about, charts.rank_lines, layout)


def _cosine(data: RunData) -> Chart:
    epochs, values = data.series("epoch"), data.series("cosine_all")
    below = (values < 0).any(axis=0).sum()
    known = values[np.isfinite(values)]
    reach = f"from {known.min():.3f} to {known.max():.3f}" if len(known) else "undefined"
    return Chart(
        "Agreement with the global gradient",
        f"The cosine between a rank's gradient and the global one is {reach}; {below} of {data.ranks} ranks were below "
        "0 in an epoch. 1 is the same direction, below 0 the opposite side. "
        f"It is {sampled(data.view.last)}; lines are {MEANS}.",
        [charts.rank_lines(data.rank_names, epochs, running(values), value=".3f", highest=False)],
        charts.over_epochs(data, axis("cosine")),
        charts.rank_table(data, f"Cosine to the global gradient, {MEANS}", running(values)),
    )


def _effective_ranks(data: RunData) -> Chart:
    low, high = data.series("effective_ranks_low"), data.series("effective_ranks_high")
    epochs, values = data.series("epoch"), data.series("effective_ranks")
    known = values[np.isfinite(values)].tolist()
    cancelled = len(values) - len(known)
    gaps = f" In {cancelled} of {len(values)} epochs shown they cancelled in part: a gap." if cancelled else ""
    return charts.curves(
        data,
        "Effective number of ranks",
        f"The gradients were as diverse as those of {number(known[0], 3)} unrelated ranks at first and "
        f"{number(known[-1], 3)} at last, of {data.view.ranks} ranks. 1 means that all ranks found the same gradient."
        f"{gaps}",
        {"effective ranks": values},
        axis("ranks", rangemode="tozero"),
        under=charts.band("95 % interval", epochs, low, high) if np.isfinite(low).any() else (),
        over=[charts.level("ranks", epochs, data.series("world"))],
    )


def _noise_scale(data: RunData) -> Chart:
    epochs, values = data.series("epoch"), data.series("noise_scale")
    rows = sum(data.view.last["rows"]) / max(data.view.last["steps"], 1)
    last = values[np.isfinite(values)][-1]
    return Chart(
        "Gradient noise scale",
        f"The noise scale was last about {number(float(last), 2)} rows, a step has {number(rows)}. Batches above the "
        "noise scale gain little (estimate).",
        [[charts.line("noise scale", epochs, values), charts.level("rows a step", epochs, rows)]],
        charts.over_epochs(data, axis("rows", type="log")),
        charts.epoch_table(data, "Gradient noise scale", {"rows": values}),
    )


def _contribution_table(data: RunData, record: Record) -> PageTable:
    """Return share and norm ratio by rank and parameter in one epoch; of many ranks, those with the least share."""
    shares, kinds = record["share_all"], (("share", "share"), ("norm_ratio", "norm ratio"))
    order = sorted(range(len(shares)), key=lambda r: (shares[r] is None, shares[r] or 0.0))
    chosen = sorted(order[:PAGE_RANKS])
    more = f", the {len(chosen)} ranks with the smallest share" if len(chosen) < len(shares) else ""
    columns = [(f"{what}, all", record[f"{key}_all"]) for key, what in kinds]
    columns += [(f"{what}, {charts.clip(name)}", record[key][name]) for name in data.names for key, what in kinds]
    rows = [[str(r), *(percent(values[r]) for _, values in columns)] for r in chosen]
    return PageTable(f"Contribution in epoch {record['epoch']}{more}", ["rank", *(title for title, _ in columns)], rows)


def timing(data: RunData) -> Section:
    """Return the charts of where the time went."""
    n = data.summary.shared_epochs
    notes = [f"{n} epoch(s) were trained by several jobs; their times are those of the last one's part."] if n else []
    efficiencies = [_efficiency(data)] if _known(data, "parallel") else []
    return Section("Time", notes, charts=[_split(data), _waiting(data), _sync(data), *efficiencies])


def _split(data: RunData) -> Chart:
    means = {key: data.mean_seconds[key] for key in data.times}
    compute, chosen, more = means["compute_s"], list(range(data.ranks)), ""
    if data.ranks > PAGE_RANKS:
        order, half = np.argsort(-compute, kind="stable").tolist(), PAGE_RANKS // 2
        chosen = order[:half] + order[-half:]
        more = f" Shown are the mean, the {half} ranks that computed longest and the {half} that computed shortest."
    labels = ["mean", *map(str, chosen)]
    columns = {data.times[key]: np.array([values.mean(), *values[chosen]]) for key, values in means.items()}
    slowest = int(compute.argmax())
    return Chart(
        "Time by rank",
        f"An epoch took {_shares(columns)} of {sum(v[0] for v in columns.values()):.4g} s on average. Longest computed "
        f"{data.rank_names[slowest]}, {compute[slowest]:.4g} s an epoch, "
        f"{compute[slowest] / max(np.median(compute), 1e-12):.2f} times the median.{more}",
        [[charts.bar(name, labels, values, i) for i, (name, values) in enumerate(columns.items())]],
        {"barmode": "stack", "xaxis": axis("rank", type="category"), "yaxis": axis("seconds an epoch")},
        charts.number_table("Mean seconds an epoch by rank", "rank", labels, columns),
    )


def _shares(columns: dict[str, Array]) -> str:
    total = sum(values[0] for values in columns.values())
    shares = sorted(((values[0] / total, name) for name, values in columns.items()), reverse=True) if total > 0 else []
    return ", ".join(f"{percent(float(share))} {name}" for share, name in shares if share >= 0.001) or "no time"


def _waiting(data: RunData) -> Chart:
    means = data.mean_seconds["wait_s"]
    least, most = int(means.argmin()), int(means.argmax())
    summary = (
        f"Longest waited {data.rank_names[most]}, {means[most]:.4g} s an epoch on average, shortest "
        f"{data.rank_names[least]}, {means[least]:.4g} s. A rank that waits little while the others wait is the one "
        "that holds them up."
    )
    return charts.rank_map(data, "Waiting for the last rank", summary, data.series("wait_s"), "s")


def _sync(data: RunData) -> Chart:
    wait, transfer = data.series("wait_s"), data.series("transfer_s")
    columns = {"wait": column_means(wait.T), "transfer": column_means(transfer.T)}
    low, high = charts.quantiles(wait + transfer, (0.0, 1.0))
    own = {name: float(data.mean_seconds[f"{name}_s"].mean()) for name in columns}
    total = sum(data.mean_seconds[key].mean() for key in TIMES)
    return charts.curves(
        data,
        "Synchronization",
        f"On average over ranks and epochs, waiting took {own['wait']:.4g} s an epoch and transfer "
        f"{own['transfer']:.4g} s, together {percent(sum(own.values()) / total if total > 0 else None)} of the time.",
        columns,
        axis("seconds an epoch", rangemode="tozero"),
        caption="Seconds an epoch, mean over the ranks",
        under=charts.band("wait + transfer, all ranks", data.series("epoch"), low, high),
    )


def _efficiency(data: RunData) -> Chart:
    last = data.view.last["efficiency"]
    return charts.curves(
        data,
        "Efficiency",
        f"In the last epoch load balance was {percent(last['load_balance'])}, communication efficiency "
        f"{percent(last['communication'])} and parallel efficiency, their product, {percent(last['parallel'])}. Below "
        "80 % it pays to look for the reason.",
        {key.replace("_", " "): data.series(key) for key in EFFICIENCIES},
        axis("efficiency", rangemode="tozero", **IN_PERCENT),
        text=percent,
        value=".1%",
        over=[charts.level("80 %", data.series("epoch"), 0.8)],
    )
