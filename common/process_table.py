"""The processes of this node as /proc shows them, with few imports: who belongs to whom, who is alive."""

import fcntl
import os
import struct
import time
from collections.abc import Iterator
from contextlib import suppress

from common.job_signals import signal_name
from common.launcher_place import FAMILIES, LAUNCHERS

STATE, PARENT, SOFT_FAULTS, HARD_FAULTS, USER_TICKS, SYSTEM_TICKS, EXIT_STATUS = 0, 1, 7, 9, 11, 12, 49
"""Of /proc/PID/stat, from the third field on; see proc(5)."""
PIDFD_GET_INFO = 3 << 30 | 64 << 16 | 0xFF << 8 | 11
PIDFD_INFO_EXIT = 1 << 3
"""Of linux/pidfd.h, since Linux 6.15: how a process ended, also for others than its parent."""
HAS_CHILDREN = os.path.exists(f"/proc/self/task/{os.getpid()}/children")
"""Whether this kernel lists them."""
OWN = frozenset(name for family in FAMILIES for name in family) | {"PMI_FD", "PMIX_NAMESPACE", "SLURM_STEP_ID"}
"""Variables that say which rank of which job a process is."""


class Process:
    """One process: ``state`` is a letter of proc(5), ``activity`` grows as long as it does anything.

    ``exit_status``: of one that has ended, for those who may see it.
    """

    def __init__(self, pid: int, stat: str) -> None:
        """``stat``: the content of /proc/PID/stat. Raises ValueError or IndexError if it is something else."""
        self.pid, self.name = pid, stat[stat.index("(") + 1 : stat.rindex(")")]
        fields = stat[stat.rindex(")") + 2 :].split()
        self.state, self.parent = fields[STATE], int(fields[PARENT])
        self.activity = sum(int(fields[at]) for at in (SOFT_FAULTS, HARD_FAULTS, USER_TICKS, SYSTEM_TICKS))
        self.exit_status = int(fields[EXIT_STATUS]) if len(fields) > EXIT_STATUS else 0

    @property
    def ended(self) -> bool:
        """Whether it has ended, and only its parent has not asked yet."""
        return self.state in "ZX"

    @property
    def stopped(self) -> bool:
        """Whether a signal or a debugger has stopped it."""
        return self.state in "Tt"


def read_process(pid: int) -> Process | None:
    """Return a process, or None if it is gone or not shown."""
    with suppress(ValueError, IndexError):
        return Process(pid, _stat(pid))
    return None


def stat_fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third on, the state; none if the process is gone. See proc(5)."""
    # the second is the program's name in brackets, which may hold anything
    return _stat(pid).rpartition(")")[2].split()


def _stat(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def processes() -> dict[int, Process]:
    """Return all processes of this node that are shown to this user, by their ids."""
    try:
        names = os.listdir("/proc")
    except OSError:
        return {}
    found = (read_process(int(name)) for name in names if name.isdigit())
    return {process.pid: process for process in found if process is not None}


def descendants(pid: int) -> dict[int, Process]:
    """Return the processes below one, by their ids."""
    if not HAS_CHILDREN:
        return processes()
    found: dict[int, Process] = {}
    parents = [pid]
    while parents:
        children = children_of(parents.pop())
        found.update((child.pid, child) for child in map(read_process, children) if child is not None)
        parents += children
    return found


def children_of(pid: int) -> list[int]:
    """Return the ids of the children of a process; none where the system does not list them."""
    with suppress(OSError):
        texts = []
        for task in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                texts.append(file.read())
        return [int(child) for text in texts for child in text.split()]
    return []


def by_parent(table: dict[int, Process]) -> dict[int, list[Process]]:
    """Return the children of each process that has any, by its id."""
    found: dict[int, list[Process]] = {}
    for process in table.values():
        found.setdefault(process.parent, []).append(process)
    return found


def below(children: dict[int, list[Process]], pid: int) -> Iterator[Process]:
    """Yield the children of a process, and theirs. ``children``: see ``by_parent``."""
    for process in children.get(pid, ()):
        yield process
        yield from below(children, process.pid)


def exit_status(process: int) -> int | None:
    """Return the status with which a process ended, by its pidfd, where the system tells: once its parent has asked."""
    for _ in range(20):
        info = bytearray(64)
        struct.pack_into("Q", info, 0, PIDFD_INFO_EXIT)
        try:
            fcntl.ioctl(process, PIDFD_GET_INFO, info)
        except OSError:
            return None
        (mask,), (status,) = struct.unpack_from("Q", info), struct.unpack_from("i", info, 60)
        if mask & PIDFD_INFO_EXIT:
            return int(status)
        time.sleep(0.005)
    return None


def how_ended(process: int, pid: int) -> tuple[str, int | None]:
    """Return what happened to a process that has ended, by its pidfd and id, as words; and its exit code if it has one.

    Also while its parent has not asked yet.
    """
    last = read_process(pid)
    status = last.exit_status if last is not None and last.ended else exit_status(process)
    if status is None:
        return "died (its process is gone)", None
    if os.WIFSIGNALED(status):
        return f"died (killed by {signal_name(os.WTERMSIG(status))})", None
    code = os.waitstatus_to_exitcode(status)
    return f"ended with exit code {code}", code


def exists(pid: int) -> bool:
    """Say whether there is such a process, perhaps somebody else's."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def variables(pid: int) -> dict[str, str]:
    """Return the environment that a process was started with; nothing if it may not be seen."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            lines = os.fsdecode(file.read()).split("\0")
    except OSError:
        return {}
    return dict(line.split("=", 1) for line in lines if "=" in line)


def find_launcher(rank: int) -> tuple[int, bool]:
    """Return the process that started a rank, and whether it is one that has all ranks of the node as its children.

    It is the nearest ancestor that is a launcher, or no part of the same rank: between them may be a shell or another
    program that starts the rank.
    """
    own = _rank_variables(rank)
    process = read_process(rank)
    pid = parent = process.parent if process else os.getppid()
    while pid > 1:
        process = read_process(pid)
        known = process is not None and process.name.startswith(LAUNCHERS)
        if process is None or known or _rank_variables(pid) != own:
            return pid, known
        pid = process.parent
    return parent, False


def _rank_variables(pid: int) -> dict[str, str]:
    return {name: value for name, value in variables(pid).items() if name in OWN}
