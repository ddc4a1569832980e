"""Verdict ``skewed-targets``: ranks have other targets than all ranks together, by the record ``balance``."""

import math

from ps.findings.skewed_labels import SHUFFLE, ranks_beyond
from ps.findings.verdict import Verdict, named
from ps.logfile.records import Record

LEAST_DISTANCE = 0.25
MIN_Z = 6.0
"""Standard errors that chance does not reach, on any of thousands of ranks."""


def skewed_targets(balance: Record) -> Verdict | None:
    """Find ranks whose mean target is off by more than chance explains, and by more than a quarter deviation.

    One wild row alone puts the mean of its rank sqrt(P) standard errors off, so with many ranks it takes twice that.
    """
    ranks = ranks_beyond(balance, "target", max(MIN_Z, 2 * math.sqrt(len(balance["rows"]))), LEAST_DISTANCE)
    if not ranks:
        return None
    z, distances = balance["target_z"], balance["target_distance"]
    worst = max(ranks, key=lambda rank: distances[rank])
    return Verdict(
        code="skewed-targets",
        ranks=ranks,
        text=f"the targets of {named(ranks)} are not a random sample of all: their mean on rank {worst} is "
        f"{distances[worst]:.3g} deviations off that of all rows ({z[worst]:.3g} standard errors)",
        remedy=SHUFFLE,
        evidence={key: [balance[key][rank] for rank in ranks] for key in ("rows", "target_distance", "target_z")},
    )
