"""Facts that checks read: of each rank, of each host, and what was measured between them; plain values, to be sent."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from common.ranges import ranges


@dataclass(frozen=True, slots=True, kw_only=True)
class RankFacts:
    """A rank. ``node``: the lowest rank of its node. ``threads``: of BLAS."""

    rank: int
    host: str
    node: int
    cores: list[int]
    threads: int = 1
    versions: dict[str, str] = field(default_factory=dict)
    library: str = ""
    library_path: str = ""
    choices: dict[str, str] = field(default_factory=dict)
    """Variables of the environment that a check reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """A network interface. ``address``: IPv4 with the length of its network, ``10.0.0.1/24``; nothing if it has none.

    ``mbit``: its speed, 0 if unknown. ``sent``: bytes sent while messages between hosts were measured.
    """

    name: str
    address: str = ""
    up: bool = True
    mbit: int = 0
    bridge: bool = False
    sent: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderFacts:
    """The folder of runs, or the nearest above it that is there, as a host sees it.

    ``output``: the one asked for. ``kind``: of its file system. ``free``: bytes. ``fault``: why it cannot be written.
    ``write_rate``: bytes/s with ``fsync``, 0 where it was not measured. ``nonce``: whether this host reads there what
    rank 0 wrote.
    """

    path: str
    output: str = ""
    kind: str = ""
    source: str = ""
    free: int = 0
    fault: str = ""
    write_rate: float = 0.0
    nonce: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """A host, as its first rank sees it.

    ``may_use``: hardware threads that processes may choose there; ``physical``: cores among those that its ranks run
    on; ``quota``: whole cores that its control group allows at a time, 0 without a limit. ``machine``: the same for
    hosts that are one machine.
    ``clock_s``: how far its clock is ahead of rank 0's; ``clock_error_s``: the most by which that may be wrong.
    """

    host: str
    ranks: list[int]
    may_use: list[int]
    physical: int
    quota: int = 0
    machine: str = ""
    processor: str = ""
    blas: str = ""
    blas_kernels: str = ""
    shm_free: int = -1
    shm_total: int = -1
    interfaces: list[Interface] = field(default_factory=list)
    folder: FolderFacts | None = None
    clock_s: float = 0.0
    clock_error_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two ranks that exchanged messages. ``latency_s``: of a short one, one way; ``rate``: bytes/s of a long one.

    ``between``: whether they are on two hosts, which may have the same name.
    """

    a: int
    b: int
    hosts: tuple[str, str]
    latency_s: float
    rate: float
    between: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """An ``MPI_Allreduce`` of all ranks: its bytes, and the median time of the slowest rank."""

    n_bytes: int
    seconds: float


@dataclass(slots=True, kw_only=True)
class Facts:
    """All that is known. ``library_text``: what the MPI library says of itself; ``kernel_rates``: GFLOP/s by kernels.

    ``shares_memory``, ``sums_right``: what ranks found when they tried; None if it was not tried.
    """

    ranks: list[RankFacts]
    hosts: list[HostFacts]
    vendor: str = ""
    library_text: str = ""
    launcher: str = ""
    thread_level: str = ""
    pairs: list[Pair] = field(default_factory=list)
    sums: list[Sum] = field(default_factory=list)
    kernel_rates: dict[str, float] = field(default_factory=dict)
    shares_memory: bool | None = None
    sums_right: bool | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Variables of rank 0."""
        return self.ranks[0].choices

    def of_host(self, host: HostFacts) -> list[RankFacts]:
        """Return the ranks of a host."""
        return [self.ranks[rank] for rank in host.ranks]


def cpu_list(cpus: Sequence[int]) -> str:
    """Return rising numbers of hardware threads as taskset and Slurm write them: ``0-3,8``."""
    return ranges(cpus, len(cpus) + 2, strided=False).replace(", ", ",")


def grouped(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, list[Any]]:
    """Return by value the names that have it, both in the order in which they come."""
    groups: dict[Any, list[Any]] = {}
    for name, value in pairs:
        groups.setdefault(value, []).append(name)
    return groups


def host_names(hosts: Sequence[HostFacts]) -> list[str]:
    """Return their names."""
    return [host.host for host in hosts]
