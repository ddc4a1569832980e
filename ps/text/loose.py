"""What ranks did that do not keep in step, as texts for people: columns by rank, and a line for all."""

from collections.abc import Callable
from typing import Any

from ps.logfile.records import Record
from ps.text.formatting import number, percent, points

TITLE = "How loosely ranks kept in step"
DROPPED = ("most stale", "dropped", "drift %")
"""Columns in the order in which they are left out, to fit the width."""


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


_COLUMNS: dict[str, tuple[str, Callable[[float | None], str]]] = {
    "pushes": ("pushes", _whole),
    "staleness_mean": ("staleness", number),
    "staleness_most": ("most stale", number),
    "clock_gap": ("steps ahead", number),
    "late": ("late", _whole),
    "dropped": ("dropped", _whole),
    "drift": ("drift %", points),
    "update_share": ("update %", points),
}
"""By field: its title, and how it is written."""


def columns(record: Record) -> dict[str, list[str]]:
    """Return the texts of all ranks by title, of the figures that an epoch's record has."""
    found = ((title, text, record[name]) for name, (title, text) in _COLUMNS.items() if name in record)
    return {title: [text(value) for value in values] for title, text, values in found}


def known(record: Record, name: str) -> list[float]:
    """Return a figure of the ranks that have it."""
    return [value for value in record.get(name) or () if value is not None]


def summary(record: Record) -> str:
    """Return an epoch's figures of all ranks as a line; nothing where they keep in step."""
    parts = []
    if known(record, "staleness_mean"):
        most = known(record, "staleness_most")
        parts.append(f"staleness {number(mean_staleness(record), 3)}" + (f" (most {max(most):g})" if most else ""))
    if gaps := known(record, "clock_gap"):
        parts.append(f"{max(gaps):g} steps ahead at most")
    parts += [f"{sum(own):,.0f} {name}" for name in ("late", "dropped") if any(own := known(record, name))]
    if drift := known(record, "drift"):
        parts.append(f"drift {percent(max(drift))} at most")
    return ", ".join(parts)


def mean_staleness(record: Record) -> float:
    """Return the staleness of the mean push; of the mean rank, where the log does not say how many each made.

    At least one rank must have one.
    """
    means = known(record, "staleness_mean")
    pairs: list[Any] = list(zip(record.get("pushes") or (), record["staleness_mean"], strict=False))
    weighted = [(n, mean) for n, mean in pairs if n is not None and mean is not None]
    total = sum(n for n, _ in weighted)
    return sum(n * mean for n, mean in weighted) / total if total else sum(means) / len(means)
