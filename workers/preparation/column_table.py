"""The table of a file's columns that is printed before training: what each is, and what became of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from common.wording import count, printable

HEADINGS = ("column", "type", "missing", "distinct", "became")
WIDEST = {"column": 32, "became": 44}
FIRST, LAST = 40, 10
"""Rows shown of a table with more columns."""


def lines(columns: Sequence[Mapping[str, Any]], *, whole: bool = False) -> list[str]:
    """Return the lines of the table; of many columns the first and the last, unless ``whole``."""
    rows = [_texts(column) for column in columns]
    shown, left_out = rows, 0
    if not whole and len(rows) > FIRST + LAST:
        shown, left_out = [*rows[:FIRST], *rows[-LAST:]], len(rows) - FIRST - LAST
    widths = [max(len(row[i]) for row in (HEADINGS, *shown)) for i in range(len(HEADINGS))]
    found = [_line(row, widths) for row in (HEADINGS, *shown)]
    if left_out:
        found.insert(1 + FIRST, f"... {count(left_out, 'more column')} ...")
    return found


def _texts(column: Mapping[str, Any]) -> tuple[str, ...]:
    name = printable(str(column["name"]))
    missing = f"{column['missing']:,}" if column["missing"] else "-"
    cells = (name, str(column["type"]), missing, str(column["distinct"]), str(column["became"]))
    return tuple(_cut(cell, WIDEST.get(heading, 0)) for heading, cell in zip(HEADINGS, cells, strict=True))


def _cut(text: str, width: int) -> str:
    return f"{text[: width - 3]}..." if 0 < width < len(text) else text


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    right = (False, False, True, True, False)
    cells = (cell.rjust(width) if to_right else cell.ljust(width)
             for cell, width, to_right in zip(row, widths, right, strict=True))  # fmt: skip
    return "  ".join(cells).rstrip()
