"""Where ranks run: hosts, cores, who shares cores, quotas, and BLAS threads against cores."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from common.ranges import named_hosts, named_ranks, ranges
from common.wording import count, listed
from workers import THREAD_VARIABLES
from workers.diagnosis.facts import Facts, HostFacts, RankFacts, cpu_list, grouped
from workers.diagnosis.finding import NOTE, OK, WARN, Finding
from workers.diagnosis.remedies import SRUN, bind, start

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
    for name, machines in grouped((host.machine, host.host) for host in facts.hosts).items():
        if len({*machines}) > 1:
            yield Finding(
                NOTE,
                f"{len({*machines})} hosts have the name {name}: messages cannot tell them apart",
                "Give each its own: hostnamectl set-hostname NAME, or docker run --hostname NAME.",
                about=name,
            )
    for hosts in _machines(facts):
        if len(hosts) > 1:
            yield _one_machine(facts, hosts)


def _one_machine(facts: Facts, hosts: list[HostFacts]) -> Finding:
    """Say that MPI takes a machine for several hosts: it has several names, or MPI does not know better."""
    names, room = named_hosts(host.host for host in hosts), hosts[0].physical
    if len({host.host for host in hosts}) == 1:
        return Finding(
            WARN,
            f"MPI takes {names} for {len(hosts):,} hosts: ranks there do not share memory",
            "Open MPI does so under some versions of srun; its own launcher knows better:",
            about=names,
            command=start(len(facts.ranks), ""),
        )
    enough = _ranks_of(hosts) <= room
    return Finding(
        NOTE if enough else WARN,
        f"{names} are one machine: they share its {count(room, 'core')} and its memory",
        "" if enough else f"Start at most {count(room, 'rank')} there, or take another machine.",
    )


def _machines(facts: Facts) -> list[list[HostFacts]]:
    """Return the hosts, those together that are one machine."""
    return list(grouped((host, host.machine or host.host) for host in facts.hosts).values())


def _ranks_of(hosts: list[HostFacts]) -> int:
    return sum(len(host.ranks) for host in hosts)


def wait_for_cores(facts: Facts) -> bool:
    """Say whether more ranks than cores run somewhere."""
    return any(_ranks_of(hosts) > _room(hosts[0]) for hosts in _machines(facts))


def cores(facts: Facts) -> Iterator[Finding]:
    """Say how many cores the ranks of each host may use, and whether there are enough."""
    for names, (n_ranks, n_cores, physical, quota, beyond) in _alike(facts, lambda host: _numbers(facts, host)):
        threads = f" ({n_cores} hardware threads)" if n_cores > physical else ""
        text = f"{names}: {count(physical, 'core')}{threads} for {count(n_ranks, 'rank')}"
        fair = min(physical, quota or physical)
        if n_ranks <= fair:
            limit = f", of which its control group allows {quota} at a time" if 0 < quota < physical else ""
            yield Finding(OK, f"{text}{limit}")
            continue
        if 0 < quota < physical:
            why = f", but its control group allows {quota} at a time: ranks wait for cores"
            remedy = f"Give the container more with docker run --cpus={n_ranks}, or start fewer ranks:"
        elif beyond:
            why = (
                f": ranks wait for cores, for they are bound to so few of the {count(beyond, 'hardware thread')} there"
            )
            remedy = "The launcher, the options of the job, or taskset has bound them so:"
        else:
            why, remedy = ": ranks wait for cores", f"Start at most {count(fair, 'rank')} on such a host:"
        yield Finding(WARN, f"{text}{why}", remedy, command=_fewer(facts, fair, beyond if not quota else 0))


def _fewer(facts: Facts, fair: int, beyond: int) -> str:
    """Return the line for the next start. ``fair``: ranks of a host that there are cores for."""
    if beyond and len(facts.hosts) == 1 and facts.launcher != SRUN:
        return f"taskset -c {cpu_list(facts.hosts[0].may_use)} {start(len(facts.ranks), facts.launcher)}"
    if facts.launcher == SRUN:
        return f"srun --ntasks-per-node={fair} python -m workers.run"
    return start(sum(min(len(host.ranks), _room(host)) for host in facts.hosts), facts.launcher)


def _room(host: HostFacts) -> int:
    return min(host.physical, host.quota or MANY)


def _numbers(facts: Facts, host: HostFacts) -> tuple[int, int, int, int, int]:
    """Return of a host its ranks, hardware threads they may use, cores among these, and the quota.

    Last comes how many threads they could use if nobody had bound them; 0 if these are all.
    """
    used = {core for rank in facts.of_host(host) for core in rank.cores}
    beyond = len(host.may_use) if set(host.may_use) - used else 0
    return len(host.ranks), len(used), host.physical, host.quota, beyond


def binding(facts: Facts) -> Iterator[Finding]:
    """Say which ranks are bound to cores of their own, which crowd on some, and which may run on all."""
    if len(facts.ranks) == 1:
        yield Finding(OK, f"rank 0 may run on {count(len(facts.ranks[0].cores), 'hardware thread')}")
        return
    command = bind(facts.vendor, len(facts.ranks), facts.launcher)
    found: dict[tuple[str, str], list[str]] = {}
    for host in facts.hosts:
        found.setdefault(_binding_of(facts, host), []).append(host.host)
    for (state, text), names in found.items():
        mend = command if state != OK else ""
        yield Finding(state, f"{named_hosts(names)}: {text}", about=named_hosts(names), command=mend)


def _binding_of(facts: Facts, host: HostFacts) -> tuple[str, str]:
    """Return state and text; where there are too few cores, ``cores`` says what to do."""
    ranks = facts.of_host(host)
    masks = [set(rank.cores) for rank in ranks]
    together = set.union(*masks)
    if len(ranks) == 1:
        return OK, f"one rank, which may run on {count(len(together), 'hardware thread')}"
    if len(ranks) > min(len(together), host.physical):
        return OK, f"ranks take turns on {count(len(together), 'hardware thread')}"
    if crowded := crowded_cores(ranks):
        shown = "; ".join(f"{named_ranks(members)} on {ranges(cores)}" for members, cores in crowded[:MOST_GROUPS])
        more = f"; and {len(crowded) - MOST_GROUPS} more" if len(crowded) > MOST_GROUPS else ""
        return WARN, f"ranks share hardware threads though there are enough: {shown}{more}"
    if sum(map(len, masks)) == len(together):
        return OK, f"each rank has cores of its own, {_each(masks)}"
    least, most = min(map(len, masks)), max(map(len, masks))
    number = count(most, "hardware thread") if least == most else f"{least} to {most} hardware threads"
    return NOTE, f"ranks are not bound to a core each: they may run on {number}, and the system may move them"


def _each(masks: list[set[int]]) -> str:
    sizes = sorted({len(mask) for mask in masks})
    return " or ".join(count(size, "hardware thread") for size in sizes)


def crowded_cores(ranks: list[RankFacts]) -> list[tuple[list[int], list[int]]]:
    """Return groups of ranks that are bound to fewer cores than they are, with these cores."""
    masks = {frozenset(rank.cores) for rank in ranks}
    inside = {mask: [rank.rank for rank in ranks if mask.issuperset(rank.cores)] for mask in masks}
    groups = [(members, sorted(mask)) for mask, members in inside.items() if len(members) > len(mask)]
    return sorted(groups)


def threads(facts: Facts) -> Iterator[Finding]:
    """Say how many BLAS threads the ranks have, and whether together they are more than the cores."""
    for names, (most, least, set_by, asked, n_ranks, fair) in _alike(facts, lambda host: _threads(facts, host)):
        number = count(most, "BLAS thread") if most == least else f"{least} to {most} BLAS threads"
        who = f"set by {' and '.join(set_by)}" if set_by else "as many as its share of the cores"
        text = f"{names}: {number} a rank, {who}"
        if asked > 1 and asked * n_ranks > max(fair, n_ranks):
            text = f"{text}: {asked * n_ranks} threads on {count(fair, 'core')}"
            unset = f"unset {' '.join(one.partition('=')[0] for one in set_by)}"
            yield Finding(WARN, text, "Ranks then share the cores:", command=unset)
        else:
            yield Finding(OK, text)


def _threads(facts: Facts, host: HostFacts) -> tuple[int, int, tuple[str, ...], int, int, int]:
    """Return most and fewest threads of a rank, the variables that set them, how many were asked for, ranks, cores.

    BLAS starts no more than there are cores, whatever is asked for; other libraries do.
    """
    ranks = facts.of_host(host)
    numbers = [rank.threads for rank in ranks]
    values = {name: ranks[0].choices[name] for name in THREAD_VARIABLES if ranks[0].choices.get(name)}
    firsts = [value.partition(",")[0].strip() for value in values.values()]
    asked = max([*numbers, *(int(one) for one in firsts if one.isdecimal())]) if values else 0
    set_by = tuple(f"{name}={value}" for name, value in values.items())
    return max(numbers), min(numbers), set_by, asked, len(ranks), _room(host)


def _alike(facts: Facts, figures_of: Callable[[HostFacts], T]) -> Iterator[tuple[str, T]]:
    """Yield groups of hosts with equal figures: their names, and the figures."""
    for figures, names in grouped((host.host, figures_of(host)) for host in facts.hosts).items():
        yield named_hosts(names), figures
