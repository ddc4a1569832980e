"""From the results of all launches to tables."""

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from tests.benchmarks.launch import PEERS
from tests.benchmarks.work import SUMS, WORKS

Launches = list[dict[str, Any]]
SAME_LOSS = 1e-3
Row = tuple[str, ...]


def spread(values: Sequence[float], unit: str = "") -> str:
    """Return the median, and in brackets the least and the most."""
    low, middle, high = (_digits(f(values)) for f in (min, statistics.median, max))
    return f"{middle}{unit} ({low} to {high})"


def _digits(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


class Results:
    """Looks into the launches of a run."""

    def __init__(self, launches: Launches) -> None:
        self.launches = launches

    def of(self, name: str, peer: str, *, watch: bool = False) -> Launches:
        """Return a peer's launches on a workload, by round."""
        return [x for x in self.launches if (x["name"], x["peer"], x["watch"]) == (name, peer, watch)]

    def ms(self, name: str, peer: str) -> list[float]:
        """Return all its repeats."""
        return [ms for launch in self.of(name, peer) for ms in launch["ms"]]

    def best(self, name: str) -> str:
        """Return our fastest mode, empty if none was run."""
        ours = [p for p, peer in PEERS.items() if peer.ours and self.of(name, p)]
        return min(ours, key=lambda p: statistics.median(self.ms(name, p)), default="")

    def ratios(self, name: str, peer: str, base: str) -> list[float]:
        """Return how many times slower than ``base`` a peer was, round by round: rounds share their disturbances."""
        own, other = ({x["round"]: statistics.median(x["ms"]) for x in self.of(name, p)} for p in (base, peer))
        return [other[r] / own[r] for r in own if r in other]

    def wrong(self, name: str) -> dict[str, float]:
        """Return the peers, with their loss, that did not end where most did."""
        losses = {p: x["loss"] for p in PEERS for x in self.of(name, p) if x["loss"] is not None}
        middle = statistics.median(losses.values()) if losses else 0.0
        return {p: loss for p, loss in losses.items() if not abs(loss - middle) <= SAME_LOSS * abs(middle)}

    def steps(self, name: str) -> list[Row]:
        """Return a line a peer: time, ratio, share of the peak, start, loss."""
        base, work = self.best(name), WORKS[name]
        # of all rounds and workloads: what the machine can do at best
        peak = max((x["gflops"] for x in self.launches if "gflops" in x), default=0.0)
        rows: list[Row] = []
        for p, peer in PEERS.items():
            launches = self.of(name, p)
            if not launches:
                continue
            ms = self.ms(name, p)
            ratios = self.ratios(name, p, base) if base else []
            share = work.flops / statistics.median(ms) / 1e6 / peak if peak else 0.0
            loss = launches[0]["loss"]
            rows.append((
                peer.label,
                spread(ms),
                "1" if p == base else spread(ratios) if ratios else "-",
                f"{share:.1%}" if share else "-",
                spread([x["first_s"] for x in launches]),
                "-" if loss is None else f"{loss:.5f}" + (" OTHER" if p in self.wrong(name) else ""),
            ))  # fmt: skip
        return rows

    def summary(self) -> list[Row]:
        """Return a line a workload: our fastest mode against the fastest others, and allreduce against the loop."""
        rows: list[Row] = []
        for name in WORKS:
            base = self.best(name)
            run = [p for p in PEERS if not PEERS[p].ours and p != "products" and self.of(name, p)]
            if not base or not run:
                continue
            by_time = sorted(run, key=lambda p: statistics.median(self.ms(name, p)))
            ddp = next((p for p in by_time if p.startswith("ddp")), "")
            other = next((p for p in by_time if not p.startswith("ddp")), "")
            cells = [f"{spread(self.ratios(name, p, base))} {p}" if p else "-" for p in (ddp, other)]
            products = [1 / r for r in self.ratios(name, "products", base)]
            pair = self.ratios(name, "loop", "allreduce")
            rows.append((name, base, *cells, spread(products) if products else "-", spread(pair) if pair else "-"))
        return rows

    def sums(self) -> list[Row]:
        """Return a line a library: microseconds for each length."""
        labels = {
            "rankwise, shared, sum alone": ("shared", "alone "),
            "rankwise, shared, with the update": ("shared", ""),
            "MPI_Allreduce": ("loop", ""),
            "gloo": ("ddp", ""),
        }
        rows: list[Row] = []
        for label, (p, kind) in labels.items():
            found = [x["us"] for x in self.of("sums", p)]
            if found:
                rows.append((label, *(spread([us for each in found for us in each[f"{kind}{n}"]]) for n in SUMS)))
        return rows

    def memory(self) -> list[Row]:
        """Return a line a peer: most memory of its processes together."""
        rows: list[Row] = []
        for p, peer in PEERS.items():
            most = [x["memory"] / 1e6 for x in self.of("W5", p, watch=True)]
            if most:
                rows.append((peer.label, spread(most)))
        return rows


def tables(launches: Launches, draw: Callable[[str, Row, list[Row]], str]) -> str:
    """Return all tables, drawn by ``text`` or ``markdown``."""
    results, parts = Results(launches), []
    for name, work in WORKS.items():
        rows = results.steps(name)
        if rows:
            kind = "linear" if work.linear else "MLP"
            title = f"{name}: {kind} {'-'.join(map(str, work.sizes))}, batch {work.batch}"
            parts.append(draw(title, ("", "ms a step", "times slower", "of peak", "start, s", "loss"), rows))
    if rows := results.summary():
        titles = ("", "fastest mode", "fastest DDP / it", "fastest other / it", "it / products", "loop / allreduce")
        parts.append(draw("How many times slower others are", titles, rows))
    if rows := results.sums():
        lengths = ("", *(f"{n:,} floats" for n in SUMS))
        parts.append(draw("Sum of a vector over 2 processes, microseconds", lengths, rows))
    if rows := results.memory():
        parts.append(draw("Memory of all processes on W5", ("", "MB"), rows))
    return "\n\n".join(parts)


def text(title: str, head: Row, rows: list[Row]) -> str:
    """Draw a table for a terminal."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *rows]]
    return "\n".join([title, *(line.rstrip() for line in lines)])


def markdown(title: str, head: Row, rows: list[Row]) -> str:
    """Draw a table for a page."""
    lines = ["| " + " | ".join(cell.strip() for cell in row) + " |" for row in [head, ("---",) * len(head), *rows]]
    return "\n".join([f"### {title}", "", *(line.replace("|  |", "| |") for line in lines)])
