"""/dev/shm, in which modes shared and factors keep a node's parameters and gradients, and whether ranks see it."""

from collections.abc import Iterator

from common.ranges import named_hosts
from common.wording import about, count
from workers.diagnosis.facts import Facts, grouped
from workers.diagnosis.finding import FAIL, OK, WARN, Finding

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
                f"mount -t tmpfs tmpfs {PLACE}, as root; without it, use --mode allreduce.",
                about=where,
            )
            continue
        free, total = min(host.shm_free for host in group), min(host.shm_total for host in group)
        most = most_parameters(free, ranks)
        small = most < SMALL
        size = needed_bytes(SMALL, ranks) // 10**9 + 1
        yield Finding(
            WARN if small else OK,
            f"{where}: {free / 1e9:.2f} of {total / 1e9:.2f} GB free in {PLACE}: with {count(ranks, 'rank')}, mode "
            f"shared has room for {about(most / 1e6)} million parameters",
            f"mount -o remount,size={size}G {PLACE}, as root; of a container: docker run --shm-size={size}g; or "
            "--mode allreduce for large models."
            if small
            else "",
            about=where if small else "",
        )


def _rounded(free: int) -> int:
    """Return free bytes as far as hosts are told apart by them: to a power of two."""
    return max(free, 0).bit_length()
