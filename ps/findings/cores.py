"""Findings on the cores that the ranks of a host share, from the facts of a log's header."""

from ps.findings.verdict import Verdict, named
from ps.logfile.header import Host

SHOWN = 3
"""Hosts that a text names; the evidence has all."""


def oversubscribed_threads(machines: list[Host], set_by: str) -> Verdict | None:
    """Say so if the ranks of a host have more BLAS threads together than cores they may use there.

    ``set_by``: who set the threads, ``rankwise`` or the user's variable.
    """
    found = [host for host in machines if host.oversubscribed]
    if not found:
        return None
    first = found[0]
    n, cores = len(first.ranks), len(first.cores)
    if n > cores:
        remedy = f"start at most {cores} rank{'s' * (cores > 1)} on {first.name}, with one BLAS thread each, "
        remedy += "or let them use more cores if it has more (mpirun -bind-to none, no taskset)"
    else:
        variable = "OMP_NUM_THREADS" if set_by == "rankwise" else set_by
        remedy = f"unset {variable}, so that rankwise shares out the cores, or set it to at most {cores // n}"
    return Verdict(
        code="oversubscribed-threads",
        severity="warning",
        ranks=sorted(rank for host in found for rank in host.ranks),
        text=f"{_some([_crowd(host) for host in found])}: they take turns on the cores, so while one computes others "
        "stand still",
        remedy=remedy,
        evidence={
            "hosts": [
                {"host": host.name, "ranks": host.ranks, "threads": sum(host.threads), "cores": len(host.cores)}
                for host in found
            ]
        },
    )


def _crowd(host: Host) -> str:
    n, cores = len(host.ranks), len(host.cores)
    alike = set(host.threads)
    each = f"{host.threads[0]} thread{'s' * (host.threads[0] > 1)} x {n} rank{'s' * (n > 1)}"
    threads = each if len(alike) == 1 else f"{sum(host.threads)} threads of {n} ranks"
    return f"{threads} on {cores} core{'s' * (cores > 1)} of {host.name}"


def _some(texts: list[str]) -> str:
    more = len(texts) - SHOWN
    return ", ".join(texts[:SHOWN]) + (f" and on {more} more host{'s' * (more > 1)}" if more > 0 else "")


def shared_core(machines: list[Host]) -> Verdict | None:
    """Say so if affinity masks force ranks onto the same cores of a host that has one for each of them."""
    found = [
        (host.name, [host.ranks[i] for i in members], cores)
        for host in machines
        if len(host.ranks) <= len(host.cores)
        for members, cores in confined(host.masks)
    ]
    if not found:
        return None
    texts = [
        f"{named(ranks)} may only run on core{'s' * (len(cores) > 1)} {', '.join(map(str, cores))} of {host}"
        for host, ranks, cores in found
    ]
    return Verdict(
        code="shared-core",
        severity="warning",
        ranks=sorted(rank for _, ranks, _ in found for rank in ranks),
        text=f"{_some(texts)}, fewer cores than ranks, though that host has a core for each of its ranks",
        remedy="bind every rank to a core of its own (mpirun -bind-to core, srun --cpu-bind=cores) and start without "
        "taskset",
        evidence={"groups": [{"host": host, "ranks": ranks, "cores": cores} for host, ranks, cores in found]},
    )


def confined(masks: list[frozenset[int]]) -> list[tuple[list[int], list[int]]]:
    """Return (ranks, cores) of each group of ranks whose masks together have fewer cores than they are ranks.

    By Hall's theorem there is such a group just if not every rank can be given a core of its own; a search for
    augmenting paths (Kuhn 1955) that fails has visited it.
    """
    owner: dict[int, int] = {}
    held: dict[int, int] = {}
    groups: dict[tuple[int, ...], set[int]] = {}
    for start in range(len(masks)):
        reached_from: dict[int, int] = {}
        queue = [start]
        for rank in queue:  # which grows
            new = [core for core in masks[rank] if core not in reached_from]
            reached_from.update(dict.fromkeys(new, rank))
            free = next((core for core in new if core not in owner), None)
            if free is not None:
                _hand_on(free, start, reached_from, owner, held)
                break
            queue.extend(owner[core] for core in new)
        else:
            groups.setdefault(tuple(sorted(reached_from)), set()).update(queue)
    return [(sorted(ranks), list(cores)) for cores, ranks in groups.items()]


def _hand_on(free: int, start: int, reached_from: dict[int, int], owner: dict[int, int], held: dict[int, int]) -> None:
    """Give the free core to the rank that reached it, the one that had to the rank before it, back to ``start``."""
    core: int | None = free
    while core is not None:
        rank = reached_from[core]
        before = None if rank == start else held[rank]
        owner[core], held[rank] = rank, core
        core = before
