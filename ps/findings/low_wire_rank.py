"""Verdict ``low-wire-rank``: matrices travel as factors of one column each."""

from ps.findings.verdict import Verdict
from ps.logfile.records import Record


def low_wire_rank(header: Record) -> Verdict | None:
    """Look at the options: a run with ``--wire powersgd --wire-rank 1`` may not train."""
    config = header["config"]
    if header["world"] < 2 or config.get("wire") != "powersgd" or config["wire_rank"] > 1:
        return None
    return Verdict(
        code="low-wire-rank",
        ranks=[],
        text="with --wire-rank 1 most of a gradient comes steps late, and training may fail that goes well at rank 4",
        remedy="give --wire-rank 4, or watch the loss beside that of --wire float32",
        evidence={"wire_rank": config["wire_rank"]},
    )
