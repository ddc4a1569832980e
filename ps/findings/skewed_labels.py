"""Verdict ``skewed-labels``: ranks have other labels than all ranks together, by the record ``balance``."""

from common.ranges import named_ranks
from ps.findings.verdict import Verdict
from ps.logfile.records import Record

LEAST_DISTANCE = 0.1
MIN_Z = 5.0
"""Deviations that chance does not reach, on any of thousands of ranks."""


def skewed_labels(balance: Record) -> Verdict | None:
    """Find ranks whose labels differ by more than chance explains, and in more than a tenth of their rows."""
    text = (
        "on rank {worst} {percent:.0f} % of the rows would need another label (total variation distance; {z:.3g} "
        "deviations from chance)"
    )
    return skewed(balance, "label", MIN_Z, LEAST_DISTANCE, text, code="skewed-labels")


def skewed(balance: Record, of: str, min_z: float, min_distance: float, text: str, *, code: str) -> Verdict | None:
    """Report the ranks whose z and distance are known and above their bounds.

    ``of``: ``label`` or ``target``. ``text``: what it says of the ``worst`` rank with its ``z`` and ``distance``.
    """
    z, distances = balance[f"{of}_z"] or [], balance[f"{of}_distance"] or []
    both = enumerate(zip(z, distances, strict=True))
    ranks = [rank for rank, known in both if None not in known and known[0] > min_z and known[1] > min_distance]
    if not ranks:
        return None
    worst = max(ranks, key=lambda rank: distances[rank])
    distance = distances[worst]
    shown = text.format(worst=worst, distance=distance, percent=100 * distance, z=z[worst])
    return Verdict(
        code=code,
        ranks=ranks,
        text=f"the {of}s of {named_ranks(ranks)} are not a random sample of all: {shown}",
        remedy="shuffle the rows (--rows shuffle), or their order in the file before they are cut into shards"
        if balance.get("of") != "first epoch"
        else "shuffle the rows in the file: one step an epoch deals them in their order, in turn to each rank",
        evidence={key: [balance[key][rank] for rank in ranks] for key in ("rows", f"{of}_distance", f"{of}_z")},
    )
