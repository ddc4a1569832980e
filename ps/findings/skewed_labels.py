"""Verdict ``skewed-labels``: ranks have other labels than all ranks together, by the record ``balance``."""

from ps.findings.verdict import Verdict, named
from ps.logfile.records import Record

LEAST_DISTANCE = 0.1
MIN_Z = 5.0
"""Deviations that chance does not reach, on any of thousands of ranks."""
SHUFFLE = "shuffle the rows (--rows shuffle), or their order in the file before they are cut into shards"


def skewed_labels(balance: Record) -> Verdict | None:
    """Find ranks whose labels differ by more than chance explains, and in more than a tenth of their rows."""
    ranks = ranks_beyond(balance, "label", MIN_Z, LEAST_DISTANCE)
    if not ranks:
        return None
    z, distances = balance["label_z"], balance["label_distance"]
    worst = max(ranks, key=lambda rank: distances[rank])
    return Verdict(
        code="skewed-labels",
        ranks=ranks,
        text=f"the labels of {named(ranks)} are not a random sample of all: on rank {worst} "
        f"{100 * distances[worst]:.0f} % of the rows would need another label (total variation distance; "
        f"{z[worst]:.3g} deviations from chance)",
        remedy=SHUFFLE,
        evidence={key: [balance[key][rank] for rank in ranks] for key in ("rows", "label_distance", "label_z")},
    )


def ranks_beyond(balance: Record, of: str, min_z: float, min_distance: float) -> list[int]:
    """Return the ranks whose z and distance are known and above their bounds; ``of``: ``label`` or ``target``."""
    both = zip(balance[f"{of}_z"] or [], balance[f"{of}_distance"] or [], strict=True)
    return [
        rank for rank, known in enumerate(both) if None not in known and known[0] > min_z and known[1] > min_distance
    ]
