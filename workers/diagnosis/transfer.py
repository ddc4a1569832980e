"""Messages between pairs of ranks, and sums of all ranks beside the time that these messages allow at best."""

import math
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from workers.diagnosis.facts import Facts, Pair, Sum
from workers.diagnosis.finding import FAIL, NOTE, OK, WARN, Finding
from workers.diagnosis.placement import wait_for_cores
from workers.diagnosis.remedies import SRUN, start

APART = 3.0
"""A pair that is slower than the median of its kind by this factor is named."""
FAST = 0.75
"""A pair is compared with the one that so many are not faster than: with two of three pairs one host is slow."""
LEAST_LATENCY_S = 50e-6
FEWEST = 3
"""Pairs, of which one can be told from the others."""
FAR = {1 << 20: 2.0, 1 << 16: 5.0}
"""By the bytes from which on it holds: how many times its bound a sum between hosts may take before that is a finding.
Of smaller sums the latency counts, which the bound knows less well."""
USED = 0.25
"""Of an interface's speed, what one message should reach."""
MOST_NAMED = 4
"""Pairs."""


def bound_s(n_bytes: int, ranks: int, hosts: int, within: Pair | None, between: Pair | None) -> float:
    """Return the least time that a sum of all ranks takes, by latency and rate of the pairs that were measured.

    ceil(log2 p) latencies, and 2 (p-1)/p of the bytes out of each of p hosts; on one host, of each rank (Chan et al.
    2007, Table 1). Zero if nothing was measured.
    """
    pair, p = (between, hosts) if hosts > 1 else (within, ranks)
    if pair is None or p < 2 or pair.rate <= 0:
        return 0.0
    return math.ceil(math.log2(ranks)) * pair.latency_s + 2 * (p - 1) / p * n_bytes / pair.rate


def bound_of(facts: Facts, one: Sum) -> float:
    """Return the least time that a sum takes by what was measured in a job, in seconds; 0 if nothing was."""
    within, between = typical(facts.pairs, between=False), typical(facts.pairs, between=True)
    return bound_s(one.n_bytes, len(facts.ranks), len(facts.hosts), within, between)


def typical(pairs: Sequence[Pair], *, between: bool) -> Pair | None:
    """Return a pair with the median latency and rate of those between hosts, or of those within one; None without."""
    some = [pair for pair in pairs if pair.between == between]
    if not some:
        return None
    latency, rate = (statistics.median(getattr(pair, name) for pair in some) for name in ("latency_s", "rate"))
    return replace(some[0], latency_s=latency, rate=rate)


def pairs(facts: Facts) -> Iterator[Finding]:
    """Say how fast messages are, and name pairs that are slower than the others."""
    for between, where in ((False, "within a host"), (True, "between hosts")):
        some = [pair for pair in facts.pairs if pair.between == between]
        usual = typical(some, between=between)
        if usual is None:
            continue
        yield Finding(
            OK,
            f"messages {where}: {_time(usual.latency_s)}, {_rate(usual.rate)}"
            + (f" (median of {len(some)} pairs)" if len(some) > 1 else f" (ranks {usual.a} and {usual.b})"),
        )
        if not wait_for_cores(facts):
            yield from _slower(some, facts.launcher)
    yield from _under_speed(facts)


def _slower(some: Sequence[Pair], launcher: str) -> Iterator[Finding]:
    """Name the hosts of which all pairs are slower than the fast quarter, and pairs for which no host stands."""
    if len(some) < FEWEST:
        return
    rate = sorted(pair.rate for pair in some)[math.ceil(FAST * (len(some) - 1))]
    latency = sorted(pair.latency_s for pair in some)[math.floor((1 - FAST) * (len(some) - 1))]
    slow = [p for p in some if p.rate * APART < rate or p.latency_s > max(APART * latency, LEAST_LATENCY_S)]
    slow.sort(key=lambda pair: pair.rate)
    of_host, slow_of = (Counter(host for p in pairs for host in {*p.hosts}) for pairs in (some, slow))
    guilty = [host for host, n in slow_of.items() if n == of_host[host] and (n > 1 or not slow[0].between)]
    for host in guilty[:MOST_NAMED]:
        worst = next(pair for pair in slow if host in pair.hosts)
        figures = f"{_time(worst.latency_s)}, {_rate(worst.rate)}"
        if worst.between:
            without = f"export SLURM_EXCLUDE={host}" if launcher == SRUN else ""
            remedy = f"Look at its interface with ethtool{', or start without it:' if without else '.'}"
            text = f"messages with {host} are slower than others: {figures}"
            yield Finding(WARN, text, remedy, about=host, command=without)
        else:
            text = f"messages within {host} are slower than others: {figures}"
            yield Finding(WARN, text, "This shows there what else uses its cores:", about=host, command="top")
    others = [pair for pair in slow if not {*pair.hosts} & {*guilty}]
    for pair in others[:MOST_NAMED]:
        yield Finding(
            WARN,
            f"messages between rank {pair.a} on {pair.hosts[0]} and rank {pair.b} on {pair.hosts[1]} are slower: "
            f"{_time(pair.latency_s)}, {_rate(pair.rate)}",
            "Look at the interfaces of both with ethtool.",
            about=",".join(dict.fromkeys(pair.hosts)),
        )
    more = max(0, len(guilty) - MOST_NAMED) + max(0, len(others) - MOST_NAMED)
    if more:
        yield Finding(WARN, f"{more:,} more hosts or pairs are slower; --json has what each pair reached")


def _under_speed(facts: Facts) -> Iterator[Finding]:
    """Compare what the fastest messages between hosts reach with the speed of the interface that carried them."""
    best = max((pair.rate for pair in facts.pairs if pair.between), default=0.0)
    used = max((one for host in facts.hosts for one in host.interfaces), key=lambda one: one.sent, default=None)
    if not best or used is None or not used.mbit or not used.sent:
        return
    if best < USED * used.mbit * 1e6 / 8:
        yield Finding(
            WARN,
            f"messages between hosts reach {_rate(best)} over {used.name}, which is set to {used.mbit:,} Mbit/s",
            "This shows what it is set to, and whether it is limited:",
            command=f"ethtool {used.name}; tc qdisc show dev {used.name}",
        )


def sums(facts: Facts) -> Iterator[Finding]:
    """Say how long sums of all ranks take, beside their bound."""
    if facts.sums_right is False:
        yield Finding(FAIL, "ranks summed a vector, and the sum is wrong", "Use another MPI library.")
    n_hosts, n_ranks = len(facts.hosts), len(facts.ranks)
    shown, far = [], []
    for one in facts.sums:
        bound = bound_of(facts, one)
        shown.append(f"{_size(one)} {_time(one.seconds)}" + (f" (bound {_time(bound)})" if bound else ""))
        allowed = next((times for least, times in FAR.items() if one.n_bytes >= least), math.inf)
        if n_hosts > 1 and not wait_for_cores(facts) and bound and one.seconds > allowed * bound:
            far.append((one, one.seconds / bound))
    if shown and n_ranks > 1:
        yield Finding(OK, f"MPI_Allreduce of {n_ranks:,} ranks: {', '.join(shown)}")
    if far:
        one, times = max(far, key=lambda item: item[1])
        yield Finding(
            NOTE,
            f"a sum of {_size(one)} by the library alone takes {times:.1f} times its bound",
            "Training tries other ways to sum between hosts, too, and takes the fastest. This measures all modes here:",
            command=start(n_ranks, facts.launcher, door="workers.bench --sync-only"),
        )


def _size(one: Sum) -> str:
    return f"{one.n_bytes / 2**20:.0f} MiB" if one.n_bytes >= 2**20 else f"{one.n_bytes / 2**10:.0f} KiB"


def _time(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{1e6 * seconds:.3g} us"
    return f"{1e3 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.2f} s"


def _rate(rate: float) -> str:
    bits = 8 * rate
    return f"{rate / 1e6:,.0f} MB/s" if rate > 1e9 else f"{rate / 1e6:.3g} MB/s ({bits / 1e6:,.0f} Mbit/s)"
