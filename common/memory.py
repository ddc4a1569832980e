"""How much memory this process may take for arrays, and the check of what is asked for before any is taken."""

import contextlib
import os
import re
import resource
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from common.errors import ConfigError, RankwiseError

UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?) ?([KMGT]?)(?:i?B)?", re.IGNORECASE)
LEAST = 1 << 20
NO_LIMIT = 1 << 60
"""What is taken for the memory of a machine that does not say; control groups say more where there is no limit."""
CGROUPS, MEMINFO, OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/meminfo"), Path("/proc/self/cgroup")


class MemoryLimitError(RankwiseError):
    """More memory is asked for than this process may take."""


def size(text: str) -> int:
    """Return the bytes that ``4G``, ``500M`` or ``1.5GiB`` mean. Raises ConfigError."""
    match = SIZE.fullmatch(text.strip())
    n = int(float(match[1]) * UNITS[match[2].upper()]) if match else 0
    if not LEAST <= n <= NO_LIMIT:
        raise ConfigError(f"max_memory: got {text[:80]!r}; allowed is a size of 1M or more, such as 500M or 4G")
    return n


def in_words(n_bytes: float) -> str:
    """Return a size for a message: ``3.2 GiB``."""
    unit = next((unit for unit in "TGM" if n_bytes >= UNITS[unit]), "K")
    return f"{n_bytes / UNITS[unit]:,.1f} {unit}iB"


@dataclass(frozen=True, slots=True)
class Limit:
    """What one process may take: ``read`` for the arrays of a file, ``total`` for all together; ``why`` so much.

    ``ranks``: of the job on this node. ``divided``: whether they share what there is, so that fewer have more each.
    """

    read: int
    total: int
    why: str
    ranks: int = 1
    divided: bool = False

    def check(self, what: str, read: int, beside: int, remedy: str = "") -> None:
        """Raise MemoryLimitError if something needs more. ``remedy``: what helps, besides a higher limit.

        ``read``: bytes of the arrays of a file. ``beside``: what else there is at the same time.
        """
        total = read + beside
        if read <= self.read and total <= self.total:
            return
        needed, allowed, why = (total, self.total, self.why)
        if total <= self.total:
            needed, allowed, why = (read, self.read, f"half of {self.why}")
        of_node = f", {in_words(needed * self.ranks)} for the {self.ranks} ranks of this node" if self.ranks > 1 else ""
        helps = [remedy, f"--max-memory {whole(total)} if the node has it", "fewer ranks per node" * self.divided]
        raise MemoryLimitError(
            f"{what}: needs {in_words(needed)} of memory in a process{of_node}; allowed are {in_words(allowed)}, "
            f"{why}; give {', or '.join(filter(None, helps))}"
        )


def whole(n_bytes: int) -> str:
    """Return a size, rounded up, as the option takes it."""
    unit = next((unit for unit in "TG" if n_bytes >= 4 * UNITS[unit]), "M")
    return f"{-(-n_bytes // UNITS[unit])}{unit}"


class ThisProcess:
    """The limit of this process: set once a job knows its ranks and options; else that of a process alone."""

    def __init__(self) -> None:
        self._limit: Limit | None = None

    def set(self, given: str = "", ranks: int = 1) -> None:
        """Set the limit. ``given``: what ``--max-memory`` says, if anything; ``ranks``: processes of this node."""
        node, own = node_bytes(), _own_limit()
        if given:
            self._limit = Limit(size(given), size(given), "as --max-memory says", ranks)
        elif own < node // ranks:
            self._limit = Limit(own // 2, own, "what ulimit -v leaves to it", ranks)
        else:
            by = f" by {ranks} ranks" if ranks > 1 else ""
            self._limit = Limit(
                node // ranks // 2, node // ranks, f"the {in_words(node)} of this node{by}", ranks, ranks > 1
            )

    @property
    def given_limit(self) -> Limit | None:
        """What has been set, if anything, for ``restore``."""
        return self._limit

    def restore(self, limit: Limit | None) -> None:
        """Set again what was set before a job."""
        self._limit = limit

    @property
    def limit(self) -> Limit:
        """What this process may take."""
        if self._limit is None:
            self.set()
        assert self._limit is not None
        return self._limit


THIS_PROCESS = ThisProcess()


def check(what: str, read: int, beside: int = 0, remedy: str = "") -> None:
    """Do what ``Limit.check`` does with the limit of this process."""
    THIS_PROCESS.limit.check(what, read, beside, remedy)


@contextlib.contextmanager
def out_of_memory(what: str) -> Iterator[None]:
    """Turn a MemoryError into a MemoryLimitError: the system gave less than this process may take."""
    try:
        yield
    except MemoryError as error:
        raise MemoryLimitError(f"{what}: does not fit into the memory that is free here ({error})") from error


def node_bytes(
    environment: Mapping[str, str] = os.environ,
    meminfo: Path = MEMINFO,
    groups: Path = CGROUPS,
    own: Path = OWN_CGROUP,
) -> int:
    """Return the memory that a job may use on this node: the machine's, or what a control group or Slurm leaves."""
    total = re.search(r"^MemTotal: +(\d+) kB", _text(meminfo), re.MULTILINE)
    found = [int(total[1]) << 10] if total else []
    for line in _text(own).splitlines():  # cgroups(7): number, controllers, path; of the second version 0::/path
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers or "memory" in controllers.split(","):
            top = groups / "memory" if controllers else groups
            folder = top / path.lstrip("/")
            name = "memory.limit_in_bytes" if controllers else "memory.max"
            places = (place for place in (folder, *folder.parents) if place.is_relative_to(top))
            found += [_whole(_text(place / name)) for place in places]
    cpus = _whole(environment.get("SLURM_CPUS_ON_NODE", ""))
    found.append(_whole(environment.get("SLURM_MEM_PER_NODE", "")) << 20)  # Slurm's unit is the megabyte
    found.append((_whole(environment.get("SLURM_MEM_PER_CPU", "")) << 20) * cpus)
    return min((n for n in found if 0 < n < NO_LIMIT), default=NO_LIMIT)


def _own_limit() -> int:
    """Return what the system lets this process alone have, as ``ulimit -v`` says."""
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    return NO_LIMIT if soft == resource.RLIM_INFINITY else soft


def _whole(text: str) -> int:
    return int(text) if re.fullmatch(r"[0-9]{1,19}", text.strip()) else 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
