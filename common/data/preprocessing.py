"""How the columns of a table become features: one definition for preparing, predicting and exporting, in NumPy alone.

What is decided here follows from whole columns: their types and which texts occur. What is fitted to training rows, as
means and scales are, is no part of it: see ``common/data/scaling.py``. So one table may be split in several ways.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from common.errors import DataError
from common.flat import Array

MISSING, UNKNOWN = -1, -2
"""Codes of a category's cells that are empty, or hold a text that did not occur when the table was prepared."""
PARTS = ("year", "month", "weekday", "seconds")
"""Of a date: weekday from 0, Monday; seconds since midnight."""
DAY_S = 86400


@dataclass(frozen=True, slots=True)
class Number:
    """A column of numbers. Cells: float64, NaN for a missing one, which stays NaN until its column's mean is known.

    ``missing``: whether a feature says which are. ``offset``: taken off in float64, before numbers become float32.
    """

    kind: ClassVar[str] = "number"
    name: str
    missing: bool = False
    offset: float = 0.0

    def features(self) -> list[str]:
        """Return the names of the features."""
        return [self.name, *_indicator(self)]

    def standardized(self) -> list[bool]:
        """Return for each feature whether it is brought to mean 0 and deviation 1; one that is 0 or 1 is not."""
        return [True, *[False] * self.missing]

    def encode(self, cells: Array, out: Array) -> None:
        """Write features, (n, n_features), from cells, (n,)."""
        out[:, 0] = cells - self.offset
        if self.missing:
            out[:, 1] = np.isnan(cells)


@dataclass(frozen=True, slots=True)
class Category:
    """A column of texts, one feature a text. Cells: int codes, places in ``values``, or MISSING or UNKNOWN.

    ``buckets``: where there are too many texts for that, how many features they are hashed to; ``values`` is empty.
    """

    kind: ClassVar[str] = "category"
    name: str
    values: tuple[str, ...] = ()
    missing: bool = False
    buckets: int = 0

    def features(self) -> list[str]:
        """Return the names of the features."""
        hashed = [f"{self.name}#{i}" for i in range(self.buckets)]
        return [*(f"{self.name}={value}" for value in self.values), *hashed, *_indicator(self)]

    def standardized(self) -> list[bool]:
        """Return that none is: they are 0 or 1."""
        return [False] * len(self.features())

    def codes(self, cells: Iterable[str | None]) -> Array:
        """Return codes of texts, None for a missing one."""
        places = {value: i for i, value in enumerate(self.values)}

        def code(cell: str | None) -> int:
            if cell is None:
                return MISSING
            return zlib.crc32(cell.encode()) % self.buckets if self.buckets else places.get(cell, UNKNOWN)

        return np.fromiter(map(code, cells), np.int64)

    def encode(self, cells: Array, out: Array) -> None:
        """Write features, (n, n_features), from codes, (n,); of an unknown text all are 0."""
        out[:] = 0
        known = np.flatnonzero(cells >= 0)
        out[known, cells[known]] = 1
        if self.missing:
            out[:, -1] = cells == MISSING


@dataclass(frozen=True, slots=True)
class Date:
    """A column of dates or times, a feature for each part that varies. Cells: seconds since 1970, float64, or NaN."""

    kind: ClassVar[str] = "date"
    name: str
    parts: tuple[str, ...] = PARTS
    missing: bool = False
    form: str = ""

    def features(self) -> list[str]:
        """Return the names of the features."""
        return [*(f"{self.name} {part}" for part in self.parts), *_indicator(self)]

    def standardized(self) -> list[bool]:
        """Return for each feature whether it is brought to mean 0 and deviation 1."""
        return [*[True] * len(self.parts), *[False] * self.missing]

    def encode(self, cells: Array, out: Array) -> None:
        """Write features, (n, n_features), from cells, (n,)."""
        absent = np.isnan(cells)
        seconds = np.where(absent, 0, np.floor(cells)).astype(np.int64)
        days = seconds // DAY_S
        months = days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
        values = {
            "year": 1970 + months // 12,
            "month": 1 + months % 12,
            "weekday": (days + 3) % 7,  # 1970 began on a Thursday
            "seconds": seconds % DAY_S,
        }
        for i, part in enumerate(self.parts):
            out[:, i] = np.where(absent, np.nan, values[part])
        if self.missing:
            out[:, -1] = absent


Column = Number | Category | Date
KINDS: dict[str, type[Column]] = {kind.kind: kind for kind in (Number, Category, Date)}


def _indicator(column: Column) -> list[str]:
    return [f"{column.name} is missing"] if column.missing else []


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """The columns that are learned from, in the order of their features."""

    columns: tuple[Column, ...]

    def features(self) -> list[str]:
        """Return the names of all features."""
        return [name for column in self.columns for name in column.features()]

    def standardized(self) -> Array:
        """Return for each feature whether it is brought to mean 0 and deviation 1, (n_features,) bool."""
        return np.array([flag for column in self.columns for flag in column.standardized()], bool)

    def encode(self, cells: Mapping[str, Array], dtype: str) -> Array:
        """Return features, (n, n_features), from the cells of each column, (n,); NaN where a number is missing.

        Raises DataError if a column is not there.
        """
        absent = [column.name for column in self.columns if column.name not in cells]
        if absent:
            raise DataError(f"no column {', '.join(map(repr, absent))}")
        n = len(cells[self.columns[0].name]) if self.columns else 0
        out = np.empty((n, sum(len(column.features()) for column in self.columns)), dtype)
        first = 0
        for column in self.columns:
            last = first + len(column.features())
            column.encode(cells[column.name], out[:, first:last])
            first = last
        return out

    @property
    def only_numbers(self) -> bool:
        """Whether all columns are numbers, so that an array holds their cells."""
        return all(isinstance(column, Number) for column in self.columns)

    def encode_array(self, x: Array, dtype: str) -> Array:
        """Return features from the cells of all columns, (n, n_columns), in their order."""
        return self.encode({column.name: x[:, i] for i, column in enumerate(self.columns)}, dtype)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON and msgpack."""
        return {"columns": [{"kind": column.kind, **asdict(column)} for column in self.columns]}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Preprocessing":
        """Return what ``as_dict`` made plain. Raises DataError for what cannot be that."""
        try:
            return cls(tuple(_column(values) for values in plain["columns"]))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"columns of a table are not described as they should be ({error!r})") from error


def _column(values: Mapping[str, Any]) -> Column:
    plain = {name: _tuple(value) for name, value in values.items() if name != "kind"}
    return KINDS[values["kind"]](**plain)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
