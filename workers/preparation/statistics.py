"""Statistics of a table's columns that pieces of it give and that can be merged: what decides what a column becomes."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from common.flat import Array

MOST_TEXTS, MOST_CHARACTERS = 1000, 1 << 18
"""Different texts of a column that are kept, and their characters together."""
SKETCH = 1024
"""Smallest hashes of a column's cells that are kept: so many different cells are counted, more are estimated."""
NUMBER, INFINITE, TEXT, STORED, NESTED, LARGE = "number", "infinite", "text", "stored", "nested", "large"
"""Kinds of cells, beside those of ``cells.DATES``, percent and currency; stored: as dates in a file that has types."""
Example = tuple[str, Any, int]
"""A cell, the place of its frame, its row in there."""


def different(hashes: Array) -> Array:
    """Return different hashes, sorted: faster than ``numpy.unique``, which puts them into a table first."""
    found = np.sort(hashes)
    first = np.ones(len(found), bool)
    np.not_equal(found[1:], found[:-1], out=first[1:])
    return found[first]


@dataclass(slots=True)
class ColumnStatistics:
    """Of one column. ``kinds``: cells that can be read as each kind; of dates one cell may be several.

    ``examples``: the first cell of each kind. ``least``, ``most``: of numbers. ``spans``: the same of dates' parts.
    ``first``, ``last``: of numbers that each are one more than the one before, NaN otherwise. ``texts``: how often each
    occurs, None if there are too many. ``hashes``: the smallest of different cells, sorted.
    """

    rows: int = 0
    missing: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    examples: dict[str, Example] = field(default_factory=dict)
    least: float = np.inf
    most: float = -np.inf
    whole: bool = True
    first: float = np.nan
    last: float = np.nan
    spans: dict[str, list[float]] = field(default_factory=dict)
    texts: Counter[str] | None = field(default_factory=Counter)
    hashes: Array = field(default_factory=lambda: np.empty(0, np.uint64))
    stored: str = ""
    """The type of cells that are no numbers, texts or dates, in a file that has types."""

    @property
    def cells(self) -> int:
        """Cells that are not missing."""
        return self.rows - self.missing

    @property
    def exact(self) -> bool:
        """Whether ``distinct`` is no estimate."""
        return len(self.hashes) < SKETCH

    @property
    def distinct(self) -> int:
        """Different cells, without missing ones (Bar-Yossef et al. 2002: by the k-th smallest of their hashes)."""
        if self.texts is not None:
            return len(self.texts)
        if self.exact:
            return len(self.hashes)
        return min(self.cells, round((SKETCH - 1) / (int(self.hashes[-1]) / 2.0**64)))

    def merge(self, other: "ColumnStatistics") -> None:
        """Add those of rows that come behind."""
        counts_on = other.first == self.last + 1
        self.first, self.last = (
            (other.first, other.last) if not self.rows
            else (self.first, other.last if counts_on else np.nan) if other.rows else (self.first, self.last)
        )  # fmt: skip
        self.rows += other.rows
        self.missing += other.missing
        self.kinds += other.kinds
        self.examples = {**other.examples, **self.examples}
        self.least, self.most = min(self.least, other.least), max(self.most, other.most)
        self.whole &= other.whole
        for form, span in other.spans.items():
            mine = self.spans.setdefault(form, span)
            self.spans[form] = interleaved(np.minimum(mine[::2], span[::2]), np.maximum(mine[1::2], span[1::2]))
        self.texts = None if self.texts is None or other.texts is None else bounded(self.texts + other.texts)
        self.hashes = different(np.concatenate([self.hashes, other.hashes]))[:SKETCH]
        self.stored = self.stored or other.stored

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        kept = None if self.texts is None else dict(self.texts)
        return {**plain, "kinds": dict(self.kinds), "texts": kept, "hashes": self.hashes.tobytes()}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "ColumnStatistics":
        """Return what ``as_dict`` made plain."""
        kept = None if plain["texts"] is None else Counter(plain["texts"])
        examples = {kind: tuple(example) for kind, example in plain["examples"].items()}
        hashes = np.frombuffer(plain["hashes"], np.uint64)
        return cls(**{
            **plain, "kinds": Counter(plain["kinds"]), "texts": kept, "examples": examples, "hashes": hashes
        })  # fmt: skip


def interleaved(least: Array, most: Array) -> list[float]:
    """Return pairs of these, one after the other."""
    return [float(value) for pair in zip(least, most, strict=True) for value in pair]


def bounded(found: Counter[str]) -> Counter[str] | None:
    """Return these texts, None if there are too many to be kept."""
    fits = len(found) <= MOST_TEXTS and sum(map(len, found)) <= MOST_CHARACTERS
    return found if fits else None


@dataclass(slots=True)
class Analysis:
    """Statistics of all columns, by name in their order. ``kept``: rows that have a target.

    ``unlike``: columns that were taken for numbers and hold something else, so that nothing is known of them yet.
    """

    rows: int = 0
    kept: int = 0
    columns: dict[str, ColumnStatistics] = field(default_factory=dict)
    unlike: set[str] = field(default_factory=set)

    def merge(self, other: "Analysis") -> "Analysis":
        """Add those of rows that come behind, and return all."""
        self.rows += other.rows
        self.kept += other.kept
        self.unlike |= other.unlike
        for name, column in other.columns.items():
            self.columns.setdefault(name, ColumnStatistics()).merge(column)
        return self

    def forget_unlike(self) -> list[str]:
        """Return the names of columns that are to be looked at again, of which nothing is kept."""
        names = sorted(self.unlike)
        self.columns |= {name: ColumnStatistics() for name in names}
        self.unlike.clear()
        return names

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "rows": self.rows,
            "kept": self.kept,
            "columns": {name: column.as_dict() for name, column in self.columns.items()},
            "unlike": sorted(self.unlike),
        }

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Analysis":
        """Return what ``as_dict`` made plain."""
        columns = {name: ColumnStatistics.from_dict(column) for name, column in plain["columns"].items()}
        return cls(plain["rows"], plain["kept"], columns, {*plain["unlike"]})
