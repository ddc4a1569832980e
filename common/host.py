"""The name of this node, and what tells its processes from those of another time."""

import os
import socket
from pathlib import Path


def host() -> str:
    """Return the node's name: Slurm's, where it runs several nodes on one host, else the system's."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def process_start(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None if it is gone or the system does not tell.

    Process ids are used again; id, start and boot together are not.
    """
    fields = stat_fields(pid)
    return int(fields[19]) if len(fields) > 19 else None


def has_ended(pid: int) -> bool:
    """Say whether a process has ended of which its parent has not taken notice yet: its id is still there."""
    return stat_fields(pid)[:1] in (["Z"], ["X"])


def stat_fields(pid: int) -> list[str]:
    """Return a process's fields from its state on, proc(5)'s third; none if it is gone or the system does not tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return stat.rpartition(")")[2].split()  # proc(5): the second is the name in brackets, which may hold anything


def boot_id() -> str | None:
    """Return what Linux drew at random when this machine started; None elsewhere."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip() or None
    except (OSError, ValueError):
        return None


def affinity() -> list[int]:
    """Return the numbers of the cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
