"""Where ranks run: hosts, cores, who shares cores, quotas, and BLAS threads against cores."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from common.ranges import named_hosts, named_ranks, ranges
from common.wording import count, listed
from workers.diagnosis.facts import Facts, HostFacts, RankFacts, grouped
from workers.diagnosis.finding import NOTE, OK, WARN, Finding
from workers.diagnosis.remedies import bind

T = TypeVar("T")
MOST_GROUPS = 4
MANY = 10**9


def ranks_and_hosts(facts: Facts) -> Iterator[Finding]:
    """Say how many ranks run where."""
    n = len(facts.ranks)
    by_number = grouped((host.host, len(host.ranks)) for host in facts.hosts)
    where = listed(
        f"{ranks} on {'each of ' * (len(names) > 1)}{named_hosts(names)}" for ranks, names in by_number.items()
    )
    yield Finding(OK, f"{count(n, 'rank')} on {count(len(facts.hosts), 'host')}: {where}")
    for hosts in _machines(facts):
        if len(hosts) > 1:
            names = named_hosts(host.host for host in hosts)
            enough = _ranks_of(hosts) <= hosts[0].physical
            yield Finding(
                NOTE if enough else WARN,
                f"{names} are one machine: they share its {count(hosts[0].physical, 'core')} and its memory",
                "" if enough else f"Start at most {count(hosts[0].physical, 'rank')} there.",
            )


def _machines(facts: Facts) -> list[list[HostFacts]]:
    """Return the hosts, those together that are one machine."""
    return list(grouped((host, host.machine or host.host) for host in facts.hosts).values())


def _ranks_of(hosts: list[HostFacts]) -> int:
    return sum(len(host.ranks) for host in hosts)


def wait_for_cores(facts: Facts) -> bool:
    """Say whether more ranks than cores run somewhere."""
    return any(_ranks_of(hosts) > min(hosts[0].physical, hosts[0].quota or MANY) for hosts in _machines(facts))


def cores(facts: Facts) -> Iterator[Finding]:
    """Say how many cores the ranks of each host may use, and whether there are enough."""
    for names, (n_ranks, n_cores, physical, quota) in _alike(facts, lambda host: _numbers(facts, host)):
        threads = f" ({n_cores} hardware threads)" if n_cores > physical else ""
        text = f"{names}: {count(physical, 'core')}{threads} for {count(n_ranks, 'rank')}"
        fair = min(physical, quota or physical)
        crowded = n_ranks > fair
        why = f", but its control group allows {quota} at a time" if 0 < quota < physical else ""
        yield Finding(
            WARN if crowded else OK,
            f"{text}{why}{': ranks wait for cores' if crowded else ''}",
            f"Start at most {count(fair, 'rank')} on such a host: -np {fair}, or --ntasks-per-node={fair} with Slurm"
            f"{'; or give the container more: docker run --cpus=' + str(n_ranks) if quota and n_ranks > quota else ''}."
            if crowded
            else "",
        )


def _numbers(facts: Facts, host: HostFacts) -> tuple[int, int, int, int]:
    """Return of a host its ranks, hardware threads they may use, cores among these, and the quota."""
    return (
        len(host.ranks),
        len({core for rank in facts.of_host(host) for core in rank.cores}),
        host.physical,
        host.quota,
    )


def binding(facts: Facts) -> Iterator[Finding]:
    """Say which ranks are bound to cores of their own, which share some, and which may run on all."""
    if len(facts.ranks) == 1:
        yield Finding(OK, f"rank 0 may run on {count(len(facts.ranks[0].cores), 'hardware thread')}")
        return
    found: dict[tuple[str, str, str], list[str]] = {}
    for host in facts.hosts:
        state, text, remedy = _binding_of(facts, host)
        found.setdefault((state, text, remedy), []).append(host.host)
    for (state, text, remedy), names in found.items():
        yield Finding(state, f"{named_hosts(names)}: {text}", remedy, about=named_hosts(names))


def _binding_of(facts: Facts, host: HostFacts) -> tuple[str, str, str]:
    ranks = facts.of_host(host)
    masks = [set(rank.cores) for rank in ranks]
    together = set.union(*masks)
    if len(ranks) == 1:
        return OK, f"one rank, which may run on {count(len(together), 'hardware thread')}", ""
    sharing = shared_cores(ranks)
    if not sharing:
        return OK, f"each rank has cores of its own, {_each(masks)}", ""
    if all(mask == together for mask in masks):
        text = f"ranks are not bound: each may run on all {count(len(together), 'hardware thread')}"
        if len(ranks) <= host.physical:
            return NOTE, f"{text}, and the system may move them", bind(facts.vendor, facts.environment)
        return NOTE, text, ""  # more ranks than cores: binding would fix who waits for whom
    shown = "; ".join(f"{named_ranks(members)} on {ranges(sorted(cores))}" for members, cores in sharing[:MOST_GROUPS])
    more = f"; and {len(sharing) - MOST_GROUPS} more" if len(sharing) > MOST_GROUPS else ""
    enough = len(ranks) <= len(together)
    text = f"ranks share hardware threads{' though there are enough' if enough else ''}: {shown}{more}"
    return WARN if enough else NOTE, text, bind(facts.vendor, facts.environment) if enough else ""


def _each(masks: list[set[int]]) -> str:
    sizes = sorted({len(mask) for mask in masks})
    return " or ".join(count(size, "hardware thread") for size in sizes)


def shared_cores(ranks: list[RankFacts]) -> list[tuple[list[int], set[int]]]:
    """Return groups of ranks that share cores, with the cores that more than one of them may use."""
    users: dict[int, list[int]] = {}
    for rank in ranks:
        for core in rank.cores:
            users.setdefault(core, []).append(rank.rank)
    groups: dict[tuple[int, ...], set[int]] = {}
    for core, members in users.items():
        if len(members) > 1:
            groups.setdefault(tuple(sorted(members)), set()).add(core)
    return [(list(members), cores) for members, cores in groups.items()]


def threads(facts: Facts) -> Iterator[Finding]:
    """Say how many BLAS threads the ranks have, and whether together they are more than the cores."""
    for names, (most, least, by, n_ranks, physical) in _alike(facts, lambda host: _threads(facts, host)):
        number = count(most, "BLAS thread") if most == least else f"{least} to {most} BLAS threads"
        many = by and most > 1 and most * n_ranks > max(physical, n_ranks)
        fair = max(1, physical // n_ranks)
        sum_of = f": {most * n_ranks} on {count(physical, 'core')}" if many else ""
        who = f"set by {by}" if by else "as many as its share of the cores"
        yield Finding(
            WARN if many else OK,
            f"{names}: {number} a rank, {who}{sum_of}",
            f"unset {by}: ranks then share the cores; or export {by}={fair}" if many else "",
        )


def _threads(facts: Facts, host: HostFacts) -> tuple[int, int, str, int, int]:
    ranks = facts.of_host(host)
    numbers = [rank.threads for rank in ranks]
    return max(numbers), min(numbers), ranks[0].threads_by, len(ranks), host.physical


def _alike(facts: Facts, figures_of: Callable[[HostFacts], T]) -> Iterator[tuple[str, T]]:
    """Yield groups of hosts with equal figures: their names, and the figures."""
    for figures, names in grouped((host.host, figures_of(host)) for host in facts.hosts).items():
        yield named_hosts(names), figures
