"""Charts of where the time went."""

import numpy as np

from ps.reader.report.data import EFFICIENCIES, SECONDS, RunData
from ps.reader.report.figures import (
    ONLY,
    Chart,
    Section,
    Table,
    axis,
    band,
    bar,
    column_means,
    heat_map,
    label,
    level,
    line,
    quantiles,
    rank_axis,
)
from ps.reader.report.over_epochs import epoch_table, layout, rank_names
from ps.text.numbers import number, percent

MOST_BARS = 32
"""Ranks whose time is shown one by one."""


def timing(data: RunData) -> Section:
    """Return the charts of the time."""
    charts = [_split(data), _waiting(data), _sync(data)]
    if np.isfinite(data.series("parallel")).any():
        charts.append(_efficiency(data))
    return Section("Time", _parts(data), charts=charts)


def _parts(data: RunData) -> list[str]:
    n = data.summary.parts
    return [f"{n} epoch(s) were trained by several jobs; their times are those of the last one's part."] if n else []


def _split(data: RunData) -> Chart:
    names, more = rank_names(data), ""
    means = {key: data.mean_seconds(key) for key in data.parts}
    compute = means["compute_s"]
    chosen = list(range(data.ranks))
    labels = ["mean", *(str(r) for r in chosen)]
    if data.ranks > MOST_BARS:
        order = np.argsort(-compute, kind="stable").tolist()
        half = MOST_BARS // 2
        chosen = order[:half] + order[-half:]
        labels = ["mean", *(str(r) for r in chosen)]
        more = f" Shown are the mean, the {half} ranks that computed longest and the {half} that computed shortest."
    columns = {data.parts[key]: np.array([values.mean(), *values[chosen]]) for key, values in means.items()}
    slowest = int(compute.argmax())
    return Chart(
        "Time by rank",
        f"An epoch took {_shares(columns)} of {sum(v[0] for v in columns.values()):.4g} s on average. Longest computed "
        f"{names[slowest]}, {compute[slowest]:.4g} s an epoch, {compute[slowest] / max(np.median(compute), 1e-12):.2f} "
        f"times the median.{more}",
        {ONLY: [bar(name, [label(x) for x in labels], values, i) for i, (name, values) in enumerate(columns.items())]},
        {"barmode": "stack", "xaxis": axis("rank", type="category"), "yaxis": axis("seconds an epoch")},
        Table(
            "Mean seconds an epoch by rank",
            ["rank", *columns],
            [[x, *(f"{values[i]:.4g}" for values in columns.values())] for i, x in enumerate(labels)],
        ),
    )


def _shares(columns: dict[str, np.ndarray]) -> str:
    total = sum(values[0] for values in columns.values())
    shares = sorted(((values[0] / total, name) for name, values in columns.items()), reverse=True) if total > 0 else []
    return ", ".join(f"{percent(float(share))} {name}" for share, name in shares if share >= 0.001) or "no time"


def _waiting(data: RunData) -> Chart:
    epochs, values = data.series("epoch"), data.series("wait_s")
    means = data.mean_seconds("wait_s")
    names = rank_names(data)
    least, most = int(means.argmin()), int(means.argmax())
    return Chart(
        "Waiting for the last rank",
        f"Longest waited {names[most]}, {means[most]:.4g} s an epoch on average, shortest {names[least]}, "
        f"{means[least]:.4g} s. A rank that waits little while the others wait is the one that holds them up.",
        {ONLY: [heat_map(epochs, values, "s")]},
        layout(data, rank_axis(data.ranks)),
    )


def _sync(data: RunData) -> Chart:
    epochs, wait, transfer = (data.series(key) for key in ("epoch", "wait_s", "transfer_s"))
    columns = {"wait": column_means(wait.T), "transfer": column_means(transfer.T)}
    low, high = quantiles(wait + transfer, (0.0, 1.0))
    total = sum(data.mean_seconds(key).mean() for key in SECONDS)
    own = {name: float(data.mean_seconds(f"{name}_s").mean()) for name in columns}
    traces = band("wait + transfer, all ranks", epochs, low, high)
    traces += [line(name, epochs, values, i) for i, (name, values) in enumerate(columns.items())]
    return Chart(
        "Synchronization",
        f"On average over ranks and epochs, waiting took {own['wait']:.4g} s an epoch and transfer "
        f"{own['transfer']:.4g} s, together {percent(sum(own.values()) / total if total > 0 else None)} of the time.",
        {ONLY: traces},
        layout(data, axis("seconds an epoch", rangemode="tozero")),
        epoch_table(data, "Seconds an epoch, mean over the ranks", columns, number),
    )


def _efficiency(data: RunData) -> Chart:
    epochs = data.series("epoch")
    columns = {key.replace("_", " "): data.series(key) for key in EFFICIENCIES}
    last = data.view.last["efficiency"]
    traces = [line(name, epochs, values, i, value=".1%") for i, (name, values) in enumerate(columns.items())]
    return Chart(
        "Efficiency",
        f"In the last epoch load balance was {percent(last['load_balance'])}, communication efficiency "
        f"{percent(last['communication'])} and parallel efficiency, their product, {percent(last['parallel'])}. Below "
        "80 % it pays to look for the reason.",
        {ONLY: [*traces, level("80 %", epochs, 0.8)]},
        layout(data, axis("efficiency", tickformat="~%", rangemode="tozero")),
        epoch_table(data, "Efficiency", columns, percent),
    )
