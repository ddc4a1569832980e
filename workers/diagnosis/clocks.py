"""How far the clocks of the hosts are apart; training does not depend on it, times in messages and files do."""

import statistics
from collections.abc import Iterator

from common.ranges import named_hosts
from workers.diagnosis.facts import Facts
from workers.diagnosis.finding import OK, WARN, Finding

APART_S = 1.0


def clocks(facts: Facts) -> Iterator[Finding]:
    """Name hosts whose clock differs from that of most hosts; of two hosts, from rank 0's."""
    if len(facts.hosts) == 1:
        return
    times = [host.clock_s for host in facts.hosts]
    usual = statistics.median_low(times) if len(times) > 2 else 0.0
    off = [host for host in facts.hosts if abs(host.clock_s - usual) - host.clock_error_s > APART_S]
    if not off:
        error = max(host.clock_error_s for host in facts.hosts)
        yield Finding(OK, f"clocks are at most {_short(max(times) - min(times))} apart (to within {_short(error)})")
        return
    worst = max(off, key=lambda host: abs(host.clock_s - usual))
    side = "ahead of" if worst.clock_s > usual else "behind"
    those = f"that of {facts.hosts[0].host}" if len(times) == 2 else "those of most hosts"
    names = named_hosts(host.host for host in off)
    yield Finding(
        WARN,
        f"the clock of {worst.host} is {_short(abs(worst.clock_s - usual))} {side} {those}"
        + (f"; off are {names}" if len(off) > 1 else ""),
        f"Training does not need it, but dates of files and messages do not fit together. On {names}, as root:",
        about=names,
        command="chronyc makestep",
    )


def _short(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:,.1f} s"
    return f"{1e3 * seconds:.1f} ms" if seconds >= 1e-3 else f"{1e6 * seconds:.0f} us"
