"""Findings on how the training rows are spread over the ranks, from the record ``balance``."""

import math

from ps.findings.verdict import Verdict, named
from ps.logfile.records import Record

LEAST_LABEL_DISTANCE = 0.1
LEAST_TARGET_DISTANCE = 0.25
MIN_LABEL_Z = 5.0
MIN_TARGET_Z = 6.0
"""Deviations that chance does not reach, on any of thousands of ranks."""


def skewed_labels(balance: Record) -> Verdict | None:
    """Say which ranks have other labels than the whole, by more than chance and by more than a tenth of their rows."""
    distances = balance["label_distance"]
    ranks = _beyond(balance["label_z"], distances, MIN_LABEL_Z, LEAST_LABEL_DISTANCE)
    if not ranks:
        return None
    worst = max(ranks, key=lambda rank: distances[rank])
    return Verdict(
        code="skewed-labels",
        severity="warning",
        ranks=ranks,
        text=f"the labels of {named(ranks)} are not a random sample of all: on rank {worst} "
        f"{100 * distances[worst]:.0f} % of the rows would need another label (total variation distance; "
        f"{balance['label_z'][worst]:.3g} deviations from chance)",
        remedy="shuffle the rows (--rows shuffle), or their order in the file before they are cut into shards",
        evidence={key: [balance[key][rank] for rank in ranks] for key in ("rows", "label_distance", "label_z")},
    )


def skewed_targets(balance: Record) -> Verdict | None:
    """Say which ranks have targets of another mean than the whole, by more than chance and by a quarter deviation.

    One wild row alone puts the mean of its rank sqrt(P) standard errors off, so with many ranks it takes twice that.
    """
    distances = balance["target_distance"]
    least = max(MIN_TARGET_Z, 2 * math.sqrt(len(balance["rows"])))
    ranks = _beyond(balance["target_z"], distances, least, LEAST_TARGET_DISTANCE)
    if not ranks:
        return None
    worst = max(ranks, key=lambda rank: distances[rank])
    return Verdict(
        code="skewed-targets",
        severity="warning",
        ranks=ranks,
        text=f"the targets of {named(ranks)} are not a random sample of all: their mean on rank {worst} is "
        f"{distances[worst]:.3g} deviations off that of all rows ({balance['target_z'][worst]:.3g} standard errors)",
        remedy="shuffle the rows (--rows shuffle), or their order in the file before they are cut into shards",
        evidence={key: [balance[key][rank] for rank in ranks] for key in ("rows", "target_distance", "target_z")},
    )


def _beyond(
    z: list[float | None] | None, distances: list[float | None] | None, least_z: float, least_distance: float
) -> list[int]:
    """Return the ranks where both numbers are known and above their bounds."""
    return [
        rank
        for rank, (deviations, distance) in enumerate(zip(z or [], distances or [], strict=True))
        if deviations is not None and distance is not None and deviations > least_z and distance > least_distance
    ]
