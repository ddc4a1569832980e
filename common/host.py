"""Which node this is, and which process."""

import os
import socket
from pathlib import Path


def host() -> str:
    """Return the node's name: Slurm's, where it runs several nodes on one host, else the system's."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def process_start(pid: int) -> int | None:
    """Return when a process began, in clock ticks since boot; with its number this names it for good.

    None if there is no such process, or no /proc (not Linux).
    """
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return None


def boot_id() -> str | None:
    """Return what is drawn anew at each start of this machine; None if it has none (not Linux)."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
