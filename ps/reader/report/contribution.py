"""Charts of who contributed what to the update, and of how many ranks were of use."""

import numpy as np

from ps.logfile.records import Record
from ps.reader.report.data import RunData
from ps.reader.report.figures import (
    MANY_RANKS,
    ONLY,
    Chart,
    Section,
    Table,
    axis,
    clip,
    column_means,
    heat_map,
    level,
    line,
    rank_axis,
    rank_lines,
    rank_stack,
)
from ps.reader.report.over_epochs import epoch_table, layout, rank_names, rank_table
from ps.text.numbers import number, percent

ALL = "all parameters"
MOST_TABLE_RANKS = 32


def contribution(data: RunData) -> Section:
    """Return the charts of what the ranks contributed."""
    section = Section("Contribution", _left_out(data))
    section.charts.append(_share(data))
    if data.ranks > MANY_RANKS:
        section.charts.append(_share_map(data))
    section.charts += [_norm_ratio(data), _cosine(data)]
    if np.isfinite(data.series("effective_ranks")).any():
        section.charts.append(_effective_ranks(data))
    if np.isfinite(data.series("noise_scale")).any():
        section.charts.append(_noise_scale(data))
    section.tables = [_contribution_table(data, data.first)]
    if data.n_epochs > 1:
        section.tables.append(_contribution_table(data, data.view.last))
    return section


def _left_out(data: RunData) -> list[str]:
    left_out = len(data.header["model"]["parameters"]) - len(data.names)
    return (
        [f"The first {len(data.names)} parameters can be chosen; {left_out} more are in the log."] if left_out else []
    )


def _labels(data: RunData) -> list[str]:
    """Return what can be chosen; names that are equal as far as they are shown get a number."""
    names = [ALL, *(clip(name) for name in data.names)]
    return [name if names.index(name) == i else f"{name} ({i})" for i, name in enumerate(names)]


def _share(data: RunData) -> Chart:
    epochs, values, names = data.series("epoch"), data.series("share"), rank_names(data)
    choices = {name: rank_stack(names, epochs, values[:, i], value=".2%") for i, name in enumerate(_labels(data))}
    return Chart(
        "Share of the update by rank",
        f"{_extremes(data, 'share_all', 'share of the update')} Equal shares would be {data.equal_shares}. "
        "The shares of an epoch add up to 100 %; a share below 0 pulls against the update.",
        choices,
        layout(data, axis("share", tickformat="~%"), barmode="relative"),
        rank_table(data, "Share of the update, all parameters", values[:, 0], percent),
        "parameter",
    )


def _extremes(data: RunData, key: str, what: str) -> str:
    """Say who had the least and the most in the first and the last epoch."""
    texts = []
    for record in (data.first, data.view.last)[: 2 if data.n_epochs > 1 else 1]:
        known = [(value, rank) for rank, value in enumerate(record[key]) if value is not None]
        if known:
            (low, lowest), (high, highest) = min(known), max(known)
            texts.append(
                f"In epoch {record['epoch']} the smallest {what} was rank {lowest}'s, {percent(low)}, and the largest "
                f"rank {highest}'s, {percent(high)}."
            )
    return " ".join(texts) or f"The {what} is undefined."


def _share_map(data: RunData) -> Chart:
    epochs, values = data.series("epoch"), data.series("share")[:, 0]
    values = values * data.series("world")[:, None]
    means = column_means(values)
    unknown = int(np.isnan(means).sum())
    more = f" {unknown} had no share in any of these epochs." if unknown else ""
    return Chart(
        "Share of every rank",
        f"Of {data.ranks} ranks, {int((means < 0).sum())} had a share below 0 on average and "
        f"{int((means < 0.5).sum())} less than half an equal share.{more}",
        {ONLY: [heat_map(epochs, values, "equal shares", colorscale="RdBu", zmid=1)]},
        layout(data, rank_axis(data.ranks)),
    )


def _norm_ratio(data: RunData) -> Chart:
    epochs, values, names = data.series("epoch"), data.series("norm_ratio"), rank_names(data)
    choices = {
        name: rank_lines(names, epochs, values[:, i], value=".2%", highest=True) for i, name in enumerate(_labels(data))
    }
    return Chart(
        "Norm ratio by rank",
        f"{_extremes(data, 'norm_ratio_all', 'norm ratio')} The norm ratio compares the length of a rank's gradient "
        "with that of the sum over the ranks; it does not see directions, and does not add up to 100 %.",
        choices,
        layout(data, axis("norm ratio", tickformat="~%")),
        rank_table(data, "Norm ratio, all parameters", values[:, 0], percent),
        "parameter",
    )


def _cosine(data: RunData) -> Chart:
    epochs, values = data.series("epoch"), data.series("cosine_all")
    below = int((values < 0).any(axis=0).sum())
    known = values[np.isfinite(values)]
    reach = f"from {known.min():.3f} to {known.max():.3f}" if len(known) else "undefined"
    return Chart(
        "Agreement with the global gradient",
        f"The cosine between a rank's gradient and the global one is {reach}; {below} of {data.ranks} ranks were below "
        "0 in an epoch. 1 is the same direction, below 0 the opposite side.",
        {ONLY: rank_lines(rank_names(data), epochs, values, value=".3f", highest=False)},
        layout(data, axis("cosine")),
        rank_table(data, "Cosine to the global gradient", values, number),
    )


def _effective_ranks(data: RunData) -> Chart:
    epochs, values = data.series("epoch"), data.series("effective_ranks")
    return Chart(
        "Effective number of ranks",
        f"The gradients were as diverse as those of {number(data.first['effective_ranks'], 3)} unrelated ranks in the "
        f"first epoch and {number(data.view.last['effective_ranks'], 3)} in the last, of {data.view.ranks} ranks. 1 "
        "means that all ranks found the same gradient.",
        {ONLY: [line("effective ranks", epochs, values), level("ranks", epochs, data.series("world"))]},
        layout(data, axis("ranks", rangemode="tozero")),
        epoch_table(data, "Effective number of ranks", {"effective ranks": values}, number),
    )


def _noise_scale(data: RunData) -> Chart:
    epochs, values = data.series("epoch"), data.series("noise_scale")
    rows = sum(data.view.last["rows"]) / max(data.view.last["steps"], 1)
    last = values[np.isfinite(values)][-1]
    return Chart(
        "Gradient noise scale",
        f"The noise scale was last about {number(float(last))} rows, a step has {number(rows)}. Beyond "
        "about as many rows a step as the noise scale, more ranks with as many rows each stop paying.",
        {ONLY: [line("noise scale", epochs, values), level("rows a step", epochs, rows)]},
        layout(data, axis("rows", type="log")),
        epoch_table(data, "Gradient noise scale", {"rows": values}, number),
    )


def _contribution_table(data: RunData, record: Record) -> Table:
    """Return share and norm ratio by rank and parameter in one epoch; of many ranks, those with the least share."""
    shares = record["share_all"]
    ranks = len(record["rows"])
    order = sorted(range(ranks), key=lambda r: (shares[r] is None, shares[r] or 0.0))
    chosen = sorted(order[:MOST_TABLE_RANKS])
    more = f", the {len(chosen)} ranks with the smallest share" if len(chosen) < ranks else ""
    pairs = [(record[f"{key}_all"], f"{what}, all") for key, what in (("share", "share"), ("norm_ratio", "norm ratio"))]
    for name in data.names:
        pairs += [
            (record["share"][name], f"share, {clip(name)}"),
            (record["norm_ratio"][name], f"norm ratio, {clip(name)}"),
        ]
    rows = [[str(r), *(percent(values[r]) for values, _ in pairs)] for r in chosen]
    return Table(f"Contribution in epoch {record['epoch']}{more}", ["rank", *(title for _, title in pairs)], rows)
