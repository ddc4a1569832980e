"""How far the clocks of the hosts are apart; training does not depend on it, times in messages and files do."""

from collections.abc import Iterator

from common.ranges import named_hosts
from workers.diagnosis.facts import Facts
from workers.diagnosis.finding import OK, WARN, Finding

APART_S = 1.0


def clocks(facts: Facts) -> Iterator[Finding]:
    """Name hosts whose clock differs from rank 0's."""
    if len(facts.hosts) == 1:
        return
    off = [host for host in facts.hosts if abs(host.clock_s) - host.clock_error_s > APART_S]
    if not off:
        most = max(abs(host.clock_s) for host in facts.hosts)
        error = max(host.clock_error_s for host in facts.hosts)
        yield Finding(OK, f"clocks are at most {_short(most)} apart (to within {_short(error)})")
        return
    worst = max(off, key=lambda host: abs(host.clock_s))
    side = "ahead of" if worst.clock_s > 0 else "behind"
    yield Finding(
        WARN,
        f"the clock of {worst.host} is {_short(abs(worst.clock_s))} {side} that of {facts.hosts[0].host}"
        + (f"; off are {named_hosts(host.host for host in off)}" if len(off) > 1 else ""),
        "chronyc makestep, as root there, sets it if chronyd runs; training goes on all the same, but dates of files "
        "and messages do not fit together.",
        about=named_hosts(host.host for host in off),
    )


def _short(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:,.1f} s"
    return f"{1e3 * seconds:.1f} ms" if seconds >= 1e-3 else f"{1e6 * seconds:.0f} us"
