"""The section on what each rank contributed to the training."""

from collections.abc import Callable
from typing import Any

import numpy as np

from common.wording import about
from ps.logfile.records import Record
from ps.reader.report import charts
from ps.reader.report.charts import Chart, PageTable, Section, axis
from ps.reader.report.data import RunData
from ps.reader.report.figures import column_means
from ps.reader.report.learning import is_known
from ps.reader.report.rank_map import rank_map
from ps.reader.report.shares import MEANS, running, share
from ps.text.contributions import sampled
from ps.text.formatting import number, percent

IN_PERCENT = {"tickformat": "~%"}

Draw = Callable[..., list[dict[str, Any]]]
"""Draws (epochs, ranks) values: ``rank_lines`` or ``rank_stack``."""


def contribution(data: RunData) -> Section:
    """Return the charts of who contributed what to the update, and of how many ranks were of use."""
    left_out = len(data.header["model"]["parameters"]) - len(data.names)
    note = f"The first {len(data.names)} parameters can be chosen; {left_out} more are in the log."
    shown = [share(data), *([_share_map(data)] if data.ranks > charts.MANY_RANKS else [])]
    shown += [_norm_ratio(data), _cosine(data)]
    shown += [_effective_ranks(data)] if is_known(data, "effective_ranks") else []
    shown += [_noise_scale(data)] if is_known(data, "noise_scale") else []
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
    return rank_map(data, "Share of every rank", summary, values, "equal shares", middle=1)


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
    last = float(values[np.isfinite(values)][-1])
    return Chart(
        "Gradient noise scale",
        f"The noise scale was last about {about(last)} rows, a step has {number(rows)}. Batches above the "
        "noise scale gain little (estimate).",
        [[charts.line("noise scale", epochs, values), charts.level("rows a step", epochs, rows)]],
        charts.over_epochs(data, charts.scaled("rows", values, np.array([rows]), rangemode="tozero")),
        charts.epoch_table(data, "Gradient noise scale", {"rows": values}),
    )


def _contribution_table(data: RunData, record: Record) -> PageTable:
    """Return share and norm ratio by rank and parameter in one epoch; of many ranks, those with the least share."""
    shares, kinds = record["share_all"], (("share", "share"), ("norm_ratio", "norm ratio"))
    order = sorted(range(len(shares)), key=lambda r: (shares[r] is None, shares[r] or 0.0))
    chosen = sorted(order[: data.most_ranks])
    more = f", the {len(chosen)} ranks with the smallest share" if len(chosen) < len(shares) else ""
    columns = [(f"{what}, all", record[f"{key}_all"]) for key, what in kinds]
    columns += [(f"{what}, {charts.clip(name)}", record[key][name]) for name in data.names for key, what in kinds]
    rows = [[str(r), *(percent(values[r]) for _, values in columns)] for r in chosen]
    return PageTable(f"Contribution in epoch {record['epoch']}{more}", ["rank", *(title for title, _ in columns)], rows)
