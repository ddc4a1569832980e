"""Messages between pairs of ranks, and sums of all ranks beside the time that these messages allow at best."""

import math
import statistics
from collections.abc import Iterator, Sequence

from workers.diagnosis.facts import Facts, Pair, Sum
from workers.diagnosis.finding import FAIL, NOTE, OK, WARN, Finding
from workers.diagnosis.placement import wait_for_cores
from workers.launch.launcher_kind import OPEN_MPI

APART = 3.0
"""A pair that is slower than the median of its kind by this factor is named."""
FEWEST = 3
"""Pairs, of which one can be told from the others."""
FAR = {1 << 20: 2.0, 1 << 16: 5.0}
"""By the bytes from which on it holds: how many times its bound a sum between hosts may take before that is a finding.
Of smaller sums the latency counts, which the bound knows less well."""
USED = 0.25
"""Of an interface's speed, what one message should reach."""
ALGORITHM = "OMPI_MCA_coll_tuned_allreduce_algorithm"
RING = f"export OMPI_MCA_coll=^han OMPI_MCA_coll_tuned_use_dynamic_rules=1 {ALGORITHM}=4"


def bound_s(n_bytes: int, ranks: int, hosts: int, within: Pair | None, between: Pair | None) -> float:
    """Return the least time that a sum of all ranks takes, by latency and rate of the pairs that were measured.

    ceil(log2 p) latencies, and 2 (p-1)/p of the bytes out of each of p hosts; on one host, of each rank (Chan et al.
    2007, Table 1). Zero if nothing was measured.
    """
    pair, p = (between, hosts) if hosts > 1 else (within, ranks)
    if pair is None or p < 2 or pair.rate <= 0:
        return 0.0
    return math.ceil(math.log2(ranks)) * pair.latency_s + 2 * (p - 1) / p * n_bytes / pair.rate


def typical(pairs: Sequence[Pair], *, between: bool) -> Pair | None:
    """Return a pair with the median latency and rate of those between hosts, or of those within one; None without."""
    some = [pair for pair in pairs if pair.between == between]
    if not some:
        return None
    latency, rate = (statistics.median(getattr(pair, name) for pair in some) for name in ("latency_s", "rate"))
    return Pair(a=some[0].a, b=some[0].b, hosts=some[0].hosts, latency_s=latency, rate=rate)


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
        for pair in some if len(some) >= FEWEST else ():
            if pair.rate * APART < usual.rate or pair.latency_s > APART * usual.latency_s > 50e-6:
                yield Finding(
                    WARN,
                    f"messages between rank {pair.a} on {pair.hosts[0]} and rank {pair.b} on {pair.hosts[1]} are "
                    f"slower: {_time(pair.latency_s)}, {_rate(pair.rate)}",
                    f"Look at its interface with ethtool, or leave a host out: srun --exclude={pair.hosts[1]}."
                    if between
                    else f"Look with top on {pair.hosts[0]} for what else uses its cores.",
                    about=f"{pair.hosts[0]},{pair.hosts[1]}",
                )
    yield from _under_speed(facts)


def _under_speed(facts: Facts) -> Iterator[Finding]:
    """Compare what messages reach between hosts with the speed of the interface that carried them."""
    usual = typical(facts.pairs, between=True)
    used = max((one for host in facts.hosts for one in host.interfaces), key=lambda one: one.sent, default=None)
    if usual is None or used is None or not used.mbit or not used.sent:
        return
    speed = used.mbit * 1e6 / 8
    if usual.rate < USED * speed:
        yield Finding(
            WARN,
            f"messages between hosts reach {_rate(usual.rate)} over {used.name}, which is set to {used.mbit:,} Mbit/s",
            f"ethtool {used.name} shows what it is set to; tc qdisc show dev {used.name}, whether it is limited.",
        )


def sums(facts: Facts) -> Iterator[Finding]:
    """Say how long sums of all ranks take, beside their bound."""
    if facts.sums_right is False:
        yield Finding(FAIL, "ranks summed a vector, and the sum is wrong", "Use another MPI library.")
    n_hosts, n_ranks = len(facts.hosts), len(facts.ranks)
    within, between = typical(facts.pairs, between=False), typical(facts.pairs, between=True)
    shown, far = [], []
    for one in facts.sums:
        bound = bound_s(one.n_bytes, n_ranks, n_hosts, within, between)
        shown.append(f"{_size(one)} {_time(one.seconds)}" + (f" (bound {_time(bound)})" if bound else ""))
        allowed = next((times for least, times in FAR.items() if one.n_bytes >= least), math.inf)
        if n_hosts > 1 and not wait_for_cores(facts) and bound and one.seconds > allowed * bound:
            far.append((one, one.seconds / bound))
    if shown and n_ranks > 1:
        yield Finding(OK, f"MPI_Allreduce of {n_ranks:,} ranks: {', '.join(shown)}")
    if far:
        one, times = max(far, key=lambda item: item[1])
        may_ring = facts.vendor == OPEN_MPI and ALGORITHM not in facts.environment
        yield Finding(
            WARN if may_ring else NOTE,
            f"a sum of {_size(one)} takes {times:.1f} times its bound",
            f"{RING}: a ring, which is nearer to it for large models; rankwise bench --sync-only shows the modes."
            if may_ring
            else "rankwise bench --sync-only measures all modes here; --mode auto takes the fastest.",
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
