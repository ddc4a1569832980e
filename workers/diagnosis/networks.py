"""Which networks join the hosts, which of them the MPI library used, and what chooses another."""

import ipaddress
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from common.ranges import named_hosts
from common.wording import listed
from workers.diagnosis.facts import Facts, HostFacts, Interface
from workers.diagnosis.finding import NOTE, OK, WARN, Finding
from workers.diagnosis.interfaces import network
from workers.diagnosis.remedies import choose_interface

MOST_SHOWN = 6
NOISE = 0.01
"""So little of the bytes is what hosts send by themselves, to say that they are there."""
USED_SHARE = 0.5
"""An interface that carried more of the bytes between hosts is the one that is used."""


@dataclass(frozen=True, slots=True)
class Network:
    """Interfaces of hosts with addresses in one network.

    ``joins``: whether all hosts have one of their own there; ``bridge``: whether one is for containers of its host.
    """

    address: str
    names: tuple[str, ...]
    joins: bool
    mbit: int
    sent: int
    bridge: bool = False
    repeated: tuple[str, ...] = ()
    """Hosts that have an address in it which another one has, too."""


def networks(hosts: Sequence[HostFacts]) -> list[Network]:
    """Return the networks that hosts have addresses in, those that join all hosts first."""
    members: dict[str, list[tuple[int, Interface]]] = {}
    for place, host in enumerate(hosts):  # names may be alike
        for interface in host.interfaces:
            if interface.up and interface.address:
                members.setdefault(network(interface.address), []).append((place, interface))
    found = []
    for address, all_of in members.items():
        addresses = [interface.address for _, interface in all_of]
        number = Counter(addresses)
        repeated = tuple(hosts[place].host for place, interface in all_of if number[interface.address] > 1)
        joins = len({place for place, _ in all_of}) == len(hosts) and not repeated
        names = tuple(dict.fromkeys(interface.name for _, interface in all_of))
        mbit = min(interface.mbit for _, interface in all_of)
        bridge = any(interface.bridge for _, interface in all_of)
        found.append(Network(address, names, joins, mbit, sum(i.sent for _, i in all_of), bridge, repeated))
    return sorted(found, key=lambda one: not one.joins)


def interfaces(facts: Facts) -> Iterator[Finding]:
    """Name the interfaces, and say which one the MPI library uses between hosts."""
    if len(facts.hosts) == 1 or len({host.machine or host.host for host in facts.hosts}) == 1:
        shown = [_shown(one) for one in facts.hosts[0].interfaces if one.up and one.address]
        if shown:
            more = f" and {len(shown) - MOST_SHOWN} more" if len(shown) > MOST_SHOWN else ""
            yield Finding(OK, f"interfaces: {', '.join(shown[:MOST_SHOWN])}{more}; one machine needs none")
        return
    known = networks(facts.hosts)
    joining = [one for one in known if one.joins]
    used = _used(known)
    for one in joining:
        carried = ", and carried the messages" if one is used else ""
        yield Finding(OK, f"network {_named(one)} joins all hosts{carried}")
    routed = [one for one in known if not one.repeated and not one.bridge]
    yield from _not_joining(facts, known, used or next(iter([*joining, *routed]), None))
    if not joining:
        yield Finding(
            NOTE,
            "no network has an address of each host: they reach each other through routers, or by addresses that are "
            "not IPv4",
            "To choose one:" if routed else "Ask who runs the network.",
            command=_choice(facts, routed[0]) if routed else "",
        )
    if used is None and joining and any(pair.between for pair in facts.pairs):
        yield Finding(NOTE, "no interface counted the messages between hosts: they went over another kind of network")
    faster = max(joining, key=lambda one: one.mbit, default=None)
    if used is not None and faster is not None and used is not faster and faster.mbit > used.mbit > 0:
        yield Finding(
            WARN,
            f"messages between hosts go over {_named(used)}, but {_named(faster)} is faster",
            command=_choice(facts, faster),
        )
    elif len(joining) > 1:
        others = [one for one in joining if one is not used]
        yield Finding(
            NOTE,
            f"several networks join the hosts: {listed(one.address for one in joining)}",
            "If another is the fast one:",
            command=_choice(facts, others[0]),
        )


def _not_joining(facts: Facts, known: Sequence[Network], mend: Network | None) -> Iterator[Finding]:
    """Yield networks that lead nowhere, together. ``mend``: the one to use instead."""
    total = sum(one.sent for one in known)
    used = [one for one in known if one.repeated and one.sent > NOISE * total]
    unused = [one for one in known if one.repeated and one not in used]
    for state, several in ((WARN, used), (NOTE, unused)):
        if several:
            shown = [_named(one) for one in several[:MOST_SHOWN]]
            more = f" and {len(several) - MOST_SHOWN} more" if len(several) > MOST_SHOWN else ""
            names = named_hosts(name for one in several for name in one.repeated)
            yield Finding(
                state,
                f"{', '.join(shown)}{more} {'is' if len(several) == 1 else 'are'} the same on {names}, so a message "
                "sent there reaches none of them: a library that tries it waits for an answer",
                "If a job hangs at its start:" if mend else "",
                about=names,
                command=_choice(facts, mend) if mend else "",
            )


def _used(known: Sequence[Network]) -> Network | None:
    total = sum(one.sent for one in known)
    return next((one for one in known if total and one.sent > USED_SHARE * total), None)


def _choice(facts: Facts, one: Network) -> str:
    several = one.address if len(one.names) > 1 else ""
    return choose_interface(facts.vendor, facts.library_text, one.names[0], several)


def _named(one: Network) -> str:
    speed = f" at {one.mbit:,} Mbit/s" if one.mbit else ""
    return f"{'/'.join(one.names)} ({one.address}{speed})"


def _shown(interface: Interface) -> str:
    return f"{interface.name} {ipaddress.ip_interface(interface.address).ip}" + " (bridge)" * interface.bridge
