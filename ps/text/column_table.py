"""The table of a file's columns that is printed before training: what each is, and what became of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from common.wording import count
from ps.text.layout import Table, lines_of

FIRST, LAST = 40, 10
"""Rows shown of a table with more columns."""
LONGEST_NAME = 60


def lines(columns: Sequence[Mapping[str, Any]], width: int) -> list[str]:
    """Return the lines of the table; of many columns those of the first and the last."""
    rows = [_cells(column) for column in columns]
    if len(rows) > FIRST + LAST:
        left_out = count(len(rows) - FIRST - LAST, "more column")
        rows = [*rows[:FIRST], [f"... {left_out} ...", "", "", "", ""], *rows[-LAST:]]
    titles = ["column", "type", "missing", "distinct", "became"]
    return lines_of(Table("", titles, rows, ("distinct", "missing"), ("type", "became")), width)


def _cells(column: Mapping[str, Any]) -> list[str]:
    name = str(column["name"])
    shown = name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}..."
    return [shown, str(column["type"]), f"{column['missing']:,}", str(column["distinct"]), str(column["became"])]
