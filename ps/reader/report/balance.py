"""The section on the rows that the ranks were dealt, and on how far these are from the rows of all ranks."""

import numpy as np

from common.flat import Array
from ps.logfile.records import Record
from ps.reader.report.charts import Chart, PageTable, Section, axis, bar, clip, number_table
from ps.reader.report.data import RunData
from ps.text.formatting import number, percent

LISTED_CLASSES = 20
DISTANCES = {"label_distance": "labels", "target_distance": "targets", "feature_distance": "features"}
COLUMNS = {key: f"distance of {name}" for key, name in DISTANCES.items()}
COLUMNS |= {"label_z": "z of labels", "target_z": "z of targets"}
DEALT = {
    "shard": "Each rank keeps these rows in all epochs.",
    "first epoch": "Rows are dealt anew in each epoch; these are those of the first.",
}
"""What the record says of the rows it counted."""
RANKS = axis("rank", type="category")


def balance(data: RunData) -> Section:
    """Return charts and a table of the ``balance`` record."""
    record, world = data.view.balance, len(data.view.balance["rows"])
    distances = {name: np.array(record[key], float) for key, name in DISTANCES.items() if record[key] is not None}
    farthest = np.max([np.nan_to_num(own) for own in distances.values()] or np.zeros((1, world)), axis=0)
    ranks = sorted(np.argsort(-farthest, kind="stable")[: data.most_ranks].tolist())
    notes = [DEALT.get(record["of"], f"These are the rows of: {clip(record['of'])}.")]
    if len(ranks) < world:
        notes.append(f"Shown are the {len(ranks)} of {world} ranks whose rows are farthest from all rows.")
    table = _table(record, ranks)
    charts = [_distances(distances, ranks, table)] if distances else []
    classes = {len(counts) for counts in record["labels"] or []}
    if len(classes) == 1 and 0 < max(classes) <= LISTED_CLASSES:
        charts.append(_labels(np.array(record["labels"], float), ranks, _names(data.header, max(classes))))
    return Section("Rows of the ranks", notes, charts=charts, tables=[] if distances else [table])


def _distances(distances: dict[str, Array], ranks: list[int], table: PageTable) -> Chart:
    texts = []
    for name, values in distances.items():
        if np.isfinite(values).any():
            worst = int(np.nanargmax(values))
            texts.append(f"Farthest in {name} is rank {worst}, at {values[worst]:.3g}.")
    return Chart(
        "Distance to the rows of all ranks",
        " ".join([*texts, "At 0 a rank's rows are like those of all ranks."]),
        [[bar(name, [*map(str, ranks)], values[ranks], i) for i, (name, values) in enumerate(distances.items())]],
        {"barmode": "group", "xaxis": RANKS, "yaxis": axis("distance")},
        table,
    )


def _names(header: Record, n: int) -> list[str]:
    """Return the classes as the data has them; logs of earlier versions have labels that are their numbers."""
    labels = [clip(label) for label in header["data"].get("labels") or []]
    return labels if len(set(labels)) == n else [*map(str, range(n))]


def _labels(counts: Array, ranks: list[int], classes: list[str]) -> Chart:
    """``counts``: (ranks, classes); ``classes``: their names."""
    rows = np.vstack([counts.sum(axis=0), counts[ranks]])
    shares = rows / np.maximum(rows.sum(axis=1, keepdims=True), 1)
    names = ["all", *map(str, ranks)]
    most, label = np.unravel_index(int(shares[1:].argmax()), shares[1:].shape)
    rank = ranks[int(most)]
    largest, everywhere = (percent(float(share)) for share in (shares[1:].max(), shares[0, label]))
    return Chart(
        "Labels by rank",
        f"The largest share of one class is {largest}, class {classes[label]} on rank {rank}; over all ranks that "
        f"class is {everywhere}.",
        [[bar(f"class {classes[c]}", names, own, c, value=".1%") for c, own in enumerate(shares.T)]],
        {"barmode": "stack", "xaxis": RANKS, "yaxis": axis("share of the rank's rows", tickformat="~%")},
        number_table(
            "Labels by rank", "rank", names, {f"class {classes[c]}": own for c, own in enumerate(shares.T)}, percent
        ),
    )


def _table(record: Record, ranks: list[int]) -> PageTable:
    known = {key: title for key, title in COLUMNS.items() if record[key] is not None}
    rows = [[str(r), f"{record['rows'][r]:,}", *(number(record[key][r]) for key in known)] for r in ranks]
    return PageTable("Rows of the ranks and their distance to all rows", ["rank", "rows", *known.values()], rows)
