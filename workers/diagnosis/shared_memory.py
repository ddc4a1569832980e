"""/dev/shm, in which modes shared and factors keep a node's parameters and gradients, and whether ranks see it."""

from collections.abc import Iterator

from common.ranges import named_hosts
from common.wording import about, count
from workers.diagnosis.facts import Facts, grouped
from workers.diagnosis.finding import FAIL, OK, WARN, Finding, size

PLACE = "/dev/shm"
BYTES = 4
"""Of a number."""
OPTIMIZER = 2
"""Vectors of state that adam keeps."""
SMALL = 10_000_000
"""Parameters: a node whose memory holds fewer may soon be too small."""


def most_parameters(free: int, ranks: int) -> int:
    """Return how many parameters a model may have: a node holds them once, a gradient of each rank, adam's state."""
    return free // (BYTES * (1 + ranks + OPTIMIZER))


def needed_bytes(parameters: int, ranks: int) -> int:
    """Return what a node needs for a model of so many parameters."""
    return BYTES * (1 + ranks + OPTIMIZER) * parameters


def shared_memory(facts: Facts) -> Iterator[Finding]:
    """Say how large a model each host has room for."""
    if facts.shares_memory is False:
        yield Finding(
            FAIL,
            "ranks of a host do not see each other's numbers in memory that they share",
            "Use another MPI library, or --mode allreduce.",
        )
    hosts = grouped((host, (host.shm_total < 0, _rounded(host.shm_free), len(host.ranks))) for host in facts.hosts)
    for (missing, _, ranks), group in hosts.items():
        where = named_hosts(host.host for host in group)
        if missing:
            yield Finding(
                WARN,
                f"{where}: there is no {PLACE}, where the ranks of a host exchange what they share",
                "Without it, use --mode allreduce. To have it, as root:",
                about=where,
                command=f"mkdir -p {PLACE} && mount -t tmpfs tmpfs {PLACE}",
            )
            continue
        free, total = min(host.shm_free for host in group), min(host.shm_total for host in group)
        most = most_parameters(free, ranks)
        text = (
            f"{where}: {size(free)} of {size(total)} free in {PLACE}: with {count(ranks, 'rank')}, modes shared and "
            f"factors have room for {about(most / 1e6)} million parameters"
        )
        need = needed_bytes(SMALL, ranks)
        if most >= SMALL:
            yield Finding(OK, text)
        elif total >= 2 * need:
            yield Finding(WARN, text, "Something fills it:", about=where, command=f"ls -lS {PLACE}")
        else:
            gib = -(-(total - free + need) // 2**30)
            yield Finding(
                WARN,
                text,
                f"For a container docker run --shm-size={gib}g; or --mode allreduce for large models; or as root:",
                about=where,
                command=f"mount -o remount,size={gib}G {PLACE}",
            )


def _rounded(free: int) -> int:
    """Return free bytes as far as hosts are told apart by them: to a power of two."""
    return max(free, 0).bit_length()
