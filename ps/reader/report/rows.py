"""Charts of the rows that the ranks were dealt, and of how far these are from the rows of all ranks."""

import numpy as np

from common.flat import Array
from ps.logfile.records import Record
from ps.reader.report.data import RunData
from ps.reader.report.figures import ONLY, Chart, Section, Table, axis, bar, clip
from ps.text.numbers import number

MOST_BARS = 32
"""Ranks shown one by one; of more, those whose rows are farthest from all rows."""
MOST_CLASSES = 20
DISTANCES = {"label_distance": "labels", "target_distance": "targets", "feature_distance": "features"}
SCORES = {"label_z": "z of labels", "target_z": "z of targets"}


def balance(data: RunData) -> Section:
    """Return charts and a table of the ``balance`` record."""
    record = data.view.balance
    section = Section("Rows of the ranks", [f"Rows are dealt by: {clip(record['of'])}."])
    ranks = _farthest(record)
    world = len(record["rows"])
    if len(ranks) < world:
        section.notes.append(f"Shown are the {len(ranks)} of {world} ranks whose rows are farthest from all rows.")
    distances = {name: _numbers(record[key]) for key, name in DISTANCES.items() if record[key] is not None}
    if distances:
        section.charts.append(_distances(distances, ranks))
    classes = {len(counts) for counts in record["labels"] or []}
    if len(classes) == 1 and 0 < max(classes) <= MOST_CLASSES:
        section.charts.append(_labels(np.array(record["labels"], float), ranks))
    section.tables.append(_table(record, ranks))
    return section


def _numbers(values: list[float | None]) -> Array:
    return np.array(values, float)  # nil becomes NaN


def _farthest(record: Record) -> list[int]:
    known = [np.nan_to_num(_numbers(record[key])) for key in DISTANCES if record[key] is not None]
    largest = np.max(known, axis=0) if known else np.zeros(len(record["rows"]))
    return sorted(np.argsort(-largest, kind="stable")[:MOST_BARS].tolist())


def _distances(distances: dict[str, Array], ranks: list[int]) -> Chart:
    texts = []
    for name, values in distances.items():
        if np.isfinite(values).any():
            worst = int(np.nanargmax(values))
            texts.append(f"Farthest in {name} is rank {worst}, at {values[worst]:.3g}.")
    labels = [str(rank) for rank in ranks]
    return Chart(
        "Distance to the rows of all ranks",
        " ".join([*texts, "At 0 a rank's rows are like those of all ranks."]),
        {ONLY: [bar(name, labels, values[ranks], i) for i, (name, values) in enumerate(distances.items())]},
        {"barmode": "group", "xaxis": axis("rank", type="category"), "yaxis": axis("distance")},
    )


def _labels(counts: Array, ranks: list[int]) -> Chart:
    """``counts``: (ranks, classes)."""
    rows = np.vstack([counts.sum(axis=0), counts[ranks]])
    shares = rows / np.maximum(rows.sum(axis=1, keepdims=True), 1)
    labels = ["all", *(str(rank) for rank in ranks)]
    most, label = np.unravel_index(int(shares[1:].argmax()), shares[1:].shape)
    return Chart(
        "Labels by rank",
        f"The largest share of one class is {shares[1:].max():.1%}, class {label} on rank {ranks[int(most)]}; over all "
        f"ranks that class is {shares[0, label]:.1%}.",
        {ONLY: [bar(f"class {c}", labels, shares[:, c], c, value=".1%") for c in range(shares.shape[1])]},
        {
            "barmode": "stack",
            "xaxis": axis("rank", type="category"),
            "yaxis": axis("share of the rank's rows", tickformat="~%"),
        },
    )


def _table(record: Record, ranks: list[int]) -> Table:
    keys = {**{key: f"distance of {name}" for key, name in DISTANCES.items()}, **SCORES}
    known = {key: title for key, title in keys.items() if record[key] is not None}
    rows = [[str(r), f"{record['rows'][r]:,}", *(number(record[key][r]) for key in known)] for r in ranks]
    return Table("Rows of the ranks and their distance to all rows", ["rank", "rows", *known.values()], rows)
