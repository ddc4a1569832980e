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
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        # proc(5): field 22; the second is the program's name in brackets, which may hold anything
        return int(stat.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


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
