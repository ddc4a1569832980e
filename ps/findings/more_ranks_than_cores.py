"""Note ``more-ranks-than-cores``: ranks of a host share its cores, which changes times but no result."""

from common.wording import count
from ps.findings.verdict import Verdict, first_hosts
from ps.logfile.header import Host, hosts
from ps.logfile.records import Record


def more_ranks_than_cores(header: Record) -> Verdict | None:
    """Compare the ranks of each host with the cores they may use, where each computes with one thread."""
    machines = hosts(header)
    found = [host for host in machines if len(host.ranks) > len(host.cores) and max(host.threads) == 1]
    if not found:
        return None
    alone, first = len(machines) == 1, found[0]
    texts = [_count(host) + f" on {host.name}" * (not alone) for host in found]
    most = len(first.cores)
    speed = f"use -np {most}" if alone else f"start at most {count(most, 'rank')} on {first.name}"
    if not alone and len(found) > 1:
        speed = "start no more ranks on a host than it has cores"
    listed = [{"host": host.name, "ranks": host.ranks, "cores": len(host.cores)} for host in found]
    return Verdict(
        code="more-ranks-than-cores",
        severity="info",
        ranks=sorted(rank for host in found for rank in host.ranks),
        text=f"{first_hosts(texts)}: results are right, times are not meaningful",
        remedy=f"for speed {speed}",
        evidence={"hosts": listed},
    )


def _count(host: Host) -> str:
    n, cores = len(host.ranks), len(host.cores)
    return f"{count(n, 'rank')} share {count(cores, 'core')}"
