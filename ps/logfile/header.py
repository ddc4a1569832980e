"""Who runs where: the hosts of a job, their ranks and cores, as the header of its log says."""

from dataclasses import dataclass

from ps.logfile.records import Record


@dataclass(frozen=True, slots=True)
class Host:
    """A machine. By its ranks: ``masks``, the cores a rank may run on, and ``threads``, its BLAS threads.

    ``cores``: all that its ranks may use.
    """

    name: str
    ranks: list[int]
    masks: list[frozenset[int]]
    cores: frozenset[int]
    threads: list[int]

    @property
    def oversubscribed(self) -> bool:
        """Whether ranks take turns on cores, so that their seconds say less about the work than on a core each."""
        return sum(self.threads) > len(self.cores)


def host_names(header: Record) -> dict[int, str]:
    """Return the host of each rank, from a header or an event after which other processes continue."""
    return {rank: node["host"] for node in header["nodes"] for rank in node["ranks"]}


def rows_of(header: Record, split: str) -> int:
    """Return how many rows a job has to ``train``, for ``validation`` or ``test``; 0 if the facts do not say."""
    rows: int = header.get("data", {}).get("rows", {}).get(split, 0)
    return rows


def hosts(header: Record) -> list[Host]:
    """Return the machines of a job; nodes that ``ranks_per_node`` pretends are one machine if their host is."""
    pretended = header["config"].get("ranks_per_node", 0)
    members: dict[tuple[str, int], list[int]] = {}
    for number, node in enumerate(header["nodes"]):
        ranks = members.setdefault((node["host"], 0 if pretended else number), [])
        ranks += [rank for rank in node["ranks"] if 0 <= rank < header["world"]]
    machines = []
    for (name, _), ranks in members.items():
        ranks.sort()
        masks = [frozenset(header["cores"][rank]) for rank in ranks]
        threads = [header["threads"]["per_rank"][rank] for rank in ranks]
        machines.append(Host(name, ranks, masks, frozenset().union(*masks), threads))
    return machines


def confined(masks: list[frozenset[int]]) -> list[tuple[list[int], list[int]]]:
    """Return (ranks, cores) of each group of ranks that have the same mask and are more than its cores."""
    groups: dict[frozenset[int], list[int]] = {}
    for rank, mask in enumerate(masks):
        groups.setdefault(mask, []).append(rank)
    return [(ranks, sorted(mask)) for mask, ranks in groups.items() if len(ranks) > len(mask)]
