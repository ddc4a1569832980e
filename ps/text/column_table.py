"""The table of a file's columns that is printed before training: what each is, and what became of it."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from common.wording import count
from ps.text.layout import Table, lines_of

MOST = 100
"""Columns that have a row each."""
FIRST, LAST = 40, 10
"""Rows shown of a longer table."""
LONGEST_NAME = 60


def lines(columns: Sequence[Mapping[str, Any]], width: int) -> list[str]:
    """Return the lines of the table.

    Of more than 100 columns those side by side that are alike share a row; of too many rows the first and last stay.
    """
    rows = [_cells(column) for column in columns]
    if len(rows) > MOST:
        rows = [
            _of_neighbours(list(some)) for _, some in itertools.groupby(columns, lambda c: (c["type"], c["became"]))
        ]
    if len(rows) > MOST:
        left_out = count(len(rows) - FIRST - LAST, "more row")
        rows = [*rows[:FIRST], [f"... {left_out} ...", "", "", "", ""], *rows[-LAST:]]
    titles = ["column", "type", "missing", "distinct", "became"]
    return lines_of(Table("", titles, rows, ("distinct", "missing"), ("type", "became")), width)


def _cells(column: Mapping[str, Any]) -> list[str]:
    return [
        _shown(column),
        str(column["type"]),
        f"{column['missing']:,}",
        str(column["distinct"]),
        str(column["became"]),
    ]


def _of_neighbours(columns: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the row of some columns: where they begin and end, their missing cells together, the range of distinct."""
    if len(columns) == 1:
        return _cells(columns[0])
    name = f"{_shown(columns[0])} ... {_shown(columns[-1])} ({len(columns):,} columns)"
    distinct = sorted(
        (str(column["distinct"]) for column in columns), key=lambda text: int(text.strip("~").replace(",", ""))
    )
    spread = distinct[0] if distinct[0] == distinct[-1] else f"{distinct[0]} to {distinct[-1]}"
    missing = sum(column["missing"] for column in columns)
    return [name, str(columns[0]["type"]), f"{missing:,}", spread, str(columns[0]["became"])]


def _shown(column: Mapping[str, Any]) -> str:
    name = str(column["name"])
    return name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}..."
