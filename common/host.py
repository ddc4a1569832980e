"""The name of this node, its cores, and the processes on it."""

import os
import time
from pathlib import Path

from common.launcher_place import LAUNCHERS
from common.process_table import read_process, stat_fields

MEMORY = Path("/sys/devices/system/node/has_memory")
CPUS, CGROUPS = Path("/sys/devices/system/cpu"), Path("/sys/fs/cgroup")


def host() -> str:
    """Return the node's name: Slurm's, where it runs several nodes on one host, else the system's."""
    return os.environ.get("SLURMD_NODENAME") or os.uname().nodename


def memory_nodes() -> int:
    """Return how many parts the memory has, each near some of the cores (NUMA); 1 where the system does not say."""
    try:
        listed = MEMORY.read_text().strip()
        ends = [one.split("-") for one in listed.split(",")]
        return sum(int(end[-1]) - int(end[0]) + 1 for end in ends)
    except (OSError, ValueError):
        return 1


def process_start(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None if it is gone or the system does not say.

    Process ids are used again; id, start and boot together are not.
    """
    fields = stat_fields(pid)
    return int(fields[19]) if len(fields) > 19 else None


def process_age_s() -> float | None:
    """Return for how many seconds this process has been there, to a clock tick; None where the system does not say."""
    ticks = process_start(os.getpid())
    if ticks is None or not hasattr(time, "CLOCK_BOOTTIME"):
        return None
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))


def has_ended(pid: int) -> bool:
    """Say whether a process has ended while its id is still there, for its parent has not asked for its exit code."""
    process = read_process(pid)
    return process is not None and process.ended


def is_suspended(pid: int) -> bool:
    """Say whether a process is stopped by a signal, as after Ctrl-Z: it reacts to others only when it is continued."""
    process = read_process(pid)
    return process is not None and process.state == "T"


def eldest_launcher() -> tuple[int, str]:
    """Return id and name of the launcher that started this process on this node; of none, this process's own.

    It is the eldest of the launchers among its ancestors.
    """
    eldest, name, parent = os.getpid(), "the process", os.getppid()
    while (process := read_process(parent)) is not None and process.name.startswith(LAUNCHERS):
        eldest, name, parent = process.pid, process.name, process.parent
    return eldest, name


def boot_id() -> str | None:
    """Return the random text that Linux drew when this machine started; None elsewhere."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip() or None
    except (OSError, ValueError):
        return None


def affinity() -> list[int]:
    """Return the numbers of the cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def usable_cores() -> int:
    """Return how many cores this process may use at once: those it may run on, as far as its quota allows.

    Two hardware threads of a core are one core.
    """
    cores = {_text(CPUS / f"cpu{cpu}/topology/core_cpus_list") or str(cpu) for cpu in affinity()}
    return max(1, min(len(cores), cpu_quota() or len(cores)))


def cpu_quota(groups: Path = CGROUPS, own: Path = Path("/proc/self/cgroup")) -> int:
    """Return how many whole cores the control groups of this process, a container's say, may use; 0: no limit."""
    paths = {"": "/", "cpu": "/"}  # by controller: that of all in version 2, and of version 1
    for _, controllers, path in (line.split(":", 2) for line in _text(own).splitlines() if line.count(":") > 1):
        paths |= dict.fromkeys(controllers.split(","), path)
    limits = [_text(place / "cpu.max").split() for place in _and_above(groups, paths[""])]
    for place in _and_above(groups / "cpu", paths["cpu"]):
        limits += [[_text(place / f"cpu.cfs_{name}_us") for name in ("quota", "period")]]
    whole = [list(map(int, limit)) for limit in limits if len(limit) == 2 and all(part.isdigit() for part in limit)]
    return min((max(1, quota // period) for quota, period in whole if period), default=0)


def _and_above(root: Path, path: str) -> list[Path]:
    """Return the folder of a control group and those above it, up to the root of all."""
    folder = root / path.lstrip("/")
    return [place for place in (folder, *folder.parents) if place.is_relative_to(root)]


def _text(path: Path) -> str:
    """Return what is in a small file; nothing if it cannot be read."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
