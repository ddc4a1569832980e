"""Verdict ``shared-core``: affinity masks put ranks on the same cores, though their host has a core for each."""

from common.ranges import FEW, named_ranks, ranges
from ps.findings.verdict import Verdict, first_hosts
from ps.logfile.header import confined, hosts
from ps.logfile.records import Record


def shared_core(header: Record) -> Verdict | None:
    """Look for crowded masks on the hosts that have a core for each rank."""
    found = [
        (host.name, [host.ranks[i] for i in members], cores)
        for host in hosts(header)
        if len(host.ranks) <= len(host.cores)
        for members, cores in confined(host.masks)
    ]
    if not found:
        return None
    texts = [
        f"{named_ranks(ranks)} may only run on core{'s' * (len(cores) > 1)} {_listed(cores)} of {host}"
        for host, ranks, cores in found
    ]
    return Verdict(
        code="shared-core",
        ranks=sorted(rank for _, ranks, _ in found for rank in ranks),
        text=f"{first_hosts(texts)}, fewer cores than ranks, though that host has a core for each of its ranks",
        remedy="bind every rank to a core of its own (mpirun -bind-to core, srun --cpu-bind=cores) and start without "
        "taskset",
        evidence={"groups": [{"host": host, "ranks": ranks, "cores": cores} for host, ranks, cores in found]},
    )


def _listed(cores: list[int]) -> str:
    return ranges(cores) if len(cores) > FEW else ", ".join(map(str, cores))
