"""Verdict ``wire-within-host``: numbers are coded for ranks that share memory."""

from ps.findings.verdict import Verdict
from ps.logfile.records import Record

EXACT = "float32"


def wire_within_host(header: Record) -> Verdict | None:
    """Look for a shortened wire where no message leaves the host: there no coding gained (docs/loose.md)."""
    wire = header["config"].get("wire", EXACT)
    if wire == EXACT or header["world"] == 1 or len(header["nodes"]) > 1:
        return None
    mode = header["config"]["mode"]
    return Verdict(
        code="wire-within-host",
        ranks=[],
        text=f"all ranks are on one host, where copying a packet takes less time than coding it: --wire {wire} saves "
        "no time here, and rounds what is sent",
        remedy="leave --wire out" + ", or choose --mode shared or auto" * (mode == "ring"),
        evidence={"wire": wire, "mode": mode, "hosts": len(header["nodes"])},
    )
