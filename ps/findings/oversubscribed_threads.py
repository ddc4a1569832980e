"""Verdict ``oversubscribed-threads``: the ranks of a host have more BLAS threads than cores."""

from common.wording import count
from ps.findings.verdict import Verdict, first_hosts
from ps.logfile.header import Host, hosts
from ps.logfile.records import Record


def oversubscribed_threads(header: Record) -> Verdict | None:
    """Compare the threads of each host's ranks with the cores they may use; ``more_ranks_than_cores`` has the ranks."""
    found = [host for host in hosts(header) if host.oversubscribed and max(host.threads) > 1]
    if not found:
        return None
    first = found[0]
    n, cores = len(first.ranks), len(first.cores)
    set_by = header["threads"]["set_by"]
    variable = "OMP_NUM_THREADS" if set_by == "rankwise" else set_by
    if n > cores:
        remedy = f"set {variable} to 1, and for speed start at most {count(cores, 'rank')} on {first.name}"
    else:
        remedy = f"unset {variable}, so that rankwise shares out the cores, or set it to at most {cores // n}"
    listed = [{"host": h.name, "ranks": h.ranks, "threads": sum(h.threads), "cores": len(h.cores)} for h in found]
    return Verdict(
        code="oversubscribed-threads",
        ranks=sorted(rank for host in found for rank in host.ranks),
        text=f"more BLAS threads than cores: {first_hosts([_count(host) for host in found])}; threads that wait for a "
        "core slow the others down",
        remedy=remedy,
        evidence={"hosts": listed},
    )


def _count(host: Host) -> str:
    n, cores, each = len(host.ranks), len(host.cores), host.threads[0]
    alike = len(set(host.threads)) == 1
    ranks = count(n, "rank")
    threads = f"{count(each, 'thread')} x {ranks}" if alike else f"{sum(host.threads)} threads of {ranks}"
    return f"{threads} on {count(cores, 'core')} of {host.name}"
