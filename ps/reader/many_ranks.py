"""An epoch of many ranks at one look: how a figure is spread over them, and what each host's ranks did."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from common.limits import TABLE_RANKS, TABLE_STAND_OUT
from common.ranges import node_ranges, ranges
from common.wording import count
from ps.logfile.records import Record
from ps.text.formatting import aligned, number, points
from ps.text.layout import Table

LEVELS = {"least": 0.0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "most": 1.0}
"""Columns of the table of quantiles."""
AT = "at rank"
SPREAD_DROPPED = ("5 %", "95 %", AT, "least")
HOSTS_DROPPED = ("rows", "transfer s", "loss", "slowest rank", "contribution %", "wait s", "ranks")
ALL_RANKS = "print every rank and host; otherwise of more than 16 how they are spread, and those that stand out"
"""Help of the option ``--all-ranks``."""
MORE = "all with --all-ranks"

_SECONDS = ("input", "compute", "wait", "transfer", "sync", "sampling", "evaluation")
_Text = Callable[[Iterable[float | None]], list[str]]


def most_ranks(world: int, *, every: bool) -> int:
    """Return of how many ranks a table has a line: of all, or of many ranks of some."""
    return world if every or world <= TABLE_RANKS else TABLE_STAND_OUT


def hosts_line(header: Record) -> str:
    """Return which ranks each host has: one by one, or of many hosts in the order they were given ranks."""
    hosts = ranks_of_hosts(header)
    if len(hosts) <= TABLE_RANKS:
        return "; ".join(f"{host}: {'rank' if len(own) == 1 else 'ranks'} {ranges(own)}" for host, own in hosts.items())
    sizes = sorted({len(own) for own in hosts.values()})
    each = count(sizes[0], "rank") if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]} ranks"
    first, own = next(iter(hosts.items()))
    return f"{node_ranges(hosts)}: {each} each, {_order(hosts)} ({ranges(own)} on {first})"


def _order(hosts: dict[str, list[int]]) -> str:
    if all(own == list(range(own[0], own[0] + len(own))) for own in hosts.values()):
        return "consecutive"
    in_turn = all(
        own == list(range(start, start + len(own) * len(hosts), len(hosts))) for start, own in enumerate(hosts.values())
    )
    return "dealt in turn" if in_turn else "in no simple order"


def ranks_of_hosts(header: Record) -> dict[str, list[int]]:
    """Return the ranks of each host that has any, in rising order."""
    hosts: dict[str, list[int]] = {}
    for node in header["nodes"]:
        hosts.setdefault(node["host"], []).extend(node["ranks"])
    return {host: sorted(own) for host, own in hosts.items() if own}


def spread_table(record: Record) -> Table:
    """Return how each figure of an epoch is spread over the ranks, and on which ranks it is least and most."""
    rows = [
        _spread(title, values, text)
        for title, values, text in _figures(record)
        if any(value is not None for value in values)
    ]
    world = len(record["rows"])
    title = f"The {world:,} ranks of epoch {record['epoch']}, their spread"
    least, *others = LEVELS
    columns = ["", least, AT, *others, AT]
    return Table(title, columns, rows, SPREAD_DROPPED)


def _figures(record: Record) -> Iterator[tuple[str, list[float | None], _Text]]:
    yield "rows", record["rows"], _each(lambda n: "-" if n is None else f"{n:,.0f}")
    for key in _SECONDS:
        yield f"{key} s", record[f"{key}_s"], aligned
    yield "sent MB", [n / 1e6 for n in record["sent_bytes"]], aligned
    yield "loss", record["loss_by_rank"], _each(number)
    yield "contribution %", record["share_all"], _each(points)
    yield "norm ratio %", record["norm_ratio_all"], _each(points)
    yield "cosine", record["cosine_all"], _each(number)
    yield "leave-one-out shift", record["leave_one_out_all"], _each(number)


def _each(text: Callable[[float | None], str]) -> _Text:
    return lambda values: [text(value) for value in values]


def _spread(title: str, values: list[float | None], text: _Text) -> list[str]:
    known = np.array([np.nan if value is None else value for value in values], np.float64)
    levels = np.nanquantile(known, list(LEVELS.values()), method="nearest").tolist()
    alike = levels[0] == levels[-1]
    ends = ["-", "-"] if alike else [str(int(np.nanargmin(known))), str(int(np.nanargmax(known)))]
    least, *others = text(levels)
    return [title, least, ends[0], *others, ends[1]]


def host_table(header: Record, record: Record, *, every: bool = False) -> Table:
    """Return a line for each host: means over its ranks, and its slowest rank.

    Of many hosts those whose slowest rank computes longest, and a line for the others; ``every``: all of them.
    """
    world = len(record["rows"])
    hosts = {host: [r for r in own if r < world] for host, own in ranks_of_hosts(header).items()}
    hosts = {host: own for host, own in hosts.items() if own}
    compute = np.array(record["compute_s"], np.float64)
    names = list(hosts)
    if len(names) > TABLE_RANKS and not every:
        slowest = sorted(names, key=lambda host: -float(compute[hosts[host]].max()))[:TABLE_STAND_OUT]
        names = [host for host in names if host in set(slowest)]
    groups = [(host, hosts[host]) for host in names]
    others = [host for host in hosts if host not in set(names)]
    if others:
        groups.append((f"{count(len(others), 'other')}", sorted(rank for host in others for rank in hosts[host])))
    means = {key: [_mean(record[key], own) for _, own in groups] for key in _MEANS}
    most = [float(compute[own].max()) for _, own in groups]
    columns = {
        "host": [host for host, _ in groups],
        "ranks": [ranges(own, 3) if host in hosts else f"{len(own):,} ranks" for host, own in groups],
        "rows": [f"{sum(record['rows'][r] for r in own):,}" for _, own in groups],
        "compute s": aligned(means["compute_s"]),
        "most s": aligned(most),
        "slowest rank": [str(own[int(compute[own].argmax())]) for _, own in groups],
        "wait s": aligned(means["wait_s"]),
        "transfer s": aligned(means["transfer_s"]),
        "loss": [number(value) for value in means["loss_by_rank"]],
        "contribution %": [points(_sum(record["share_all"], own)) for _, own in groups],
    }
    few = f" ({len(names)} of {len(hosts)}: those whose slowest rank computes longest; {MORE})" if others else ""
    title = f"Hosts in epoch {record['epoch']}{few}; means over a host's ranks, contribution is their sum"
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    return Table(title, list(columns), rows, HOSTS_DROPPED, ("ranks",))


_MEANS = ("compute_s", "wait_s", "transfer_s", "loss_by_rank")


def _mean(values: list[float | None], ranks: list[int]) -> float | None:
    known = [value for rank in ranks if (value := values[rank]) is not None]
    return sum(known) / len(known) if known else None


def _sum(values: list[float | None], ranks: list[int]) -> float | None:
    known = [value for rank in ranks if (value := values[rank]) is not None]
    return sum(known) if known else None
