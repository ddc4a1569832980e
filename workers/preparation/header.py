"""Finds out whether a table's first row is the names of its columns, by comparing it with the rows below."""

import itertools
import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from workers.preparation.cells import MISSING

FEWEST_COUNTED = 3
"""Columns from which a first line 0, 1, 2, ... is the names that pandas gives, not a row that happens to count."""
_NUMBER = re.compile(
    r"[+-]?(?:\d+|\d{1,3}(?:[,.' \u00a0\u202f]\d{3})+)?(?:[.,]\d*)?(?:[eE][+-]?\d+)?%?|[+-]?(?:inf|nan)", re.IGNORECASE
)
_WHOLE = re.compile(r"\d{1,9}")


@dataclass(frozen=True, slots=True)
class Header:
    """Names of all columns. ``named``: whether the first row is these. ``notes``: what was decided, if not plain."""

    names: list[str]
    named: bool
    notes: tuple[str, ...] = ()


def find_header(rows: Sequence[list[str]], choice: str, name: str, asked: AbstractSet[str] = frozenset()) -> Header:
    """Return the header of a table; ``choice``: yes, no or auto; ``name``: of the file, in notes.

    ``asked``: names that the user gives columns, which the first row then has.
    """
    first, body = rows[0], rows[1:]
    is_names, why = _is_names(first, body) if choice == "auto" else (choice == "yes", "")
    if choice == "auto" and any(cell in asked and not _is_number(cell) for cell in first):
        is_names, why = True, ""
    if not is_names:
        note = f"{name} has no line of column names: {why}; --header yes takes it for names." if why else ""
        return Header([f"column {i}" for i in range(1, len(first) + 1)], named=False, notes=(note,) if note else ())
    width = len(first) + (bool(body) and sum(len(row) == len(first) + 1 for row in body) * 10 >= 9 * len(body))
    names = first
    if width == len(first) + 1:  # row names, as R writes them, or a separator behind each row
        at_end = all(not row[-1] for row in body if len(row) == width)
        names = [*first, ""] if at_end else ["", *first]
    note = f"The first line of {name} is taken for column names: {why}; --header no takes it for a row." if why else ""
    return Header(_filled(names), named=True, notes=(note,) if note else ())


def _filled(names: list[str]) -> list[str]:
    """Return names, with one for each column that has none, as pandas gives it."""
    return [name or f"Unnamed: {i}" for i, name in enumerate(names)]


def _is_names(first: list[str], body: Sequence[list[str]]) -> tuple[bool, str]:
    """Say whether a first row is column names, and why, where that is not plain to see."""
    if all(_is_number(cell) or cell in MISSING for cell in first):
        counted = first[1:] if not first[0] else first
        if counted == [str(i) for i in range(len(counted))] and (
            len(counted) >= FEWEST_COUNTED or counted is not first
        ):
            return True, "it counts 0, 1, 2, ... as pandas does where columns have no names"
        return False, "its first row is all numbers"
    columns = [[row[i] for row in body if i < len(row) and row[i] not in MISSING] for i in range(len(first))]
    numeric = [bool(cells) and sum(map(_is_number, cells)) * 10 >= 9 * len(cells) for cells in columns]
    if any(is_numeric and first[i] and not _is_number(first[i]) and first[i] not in MISSING
           for i, is_numeric in enumerate(numeric)):  # fmt: skip
        return True, ""
    numbers = [cell for cell in first if _is_number(cell)]
    if numbers and not _counts(numbers):
        return False, f"its first row holds numbers ({numbers[0]}) where others do"
    again = [cell for cell, cells in zip(first, columns, strict=True) if cell in cells and cell not in MISSING]
    if again and not numbers:
        again = again if 2 * len(again) >= len(first) else []
    if again:
        return False, f"what its first row holds ({again[0][:40]!r}) stands in others, too"
    return True, ""


def _counts(numbers: list[str]) -> bool:
    """Say whether numbers in a first line may be names, as years are: whole, each larger by the same."""
    if not all(_WHOLE.fullmatch(cell) for cell in numbers):
        return False
    values = [int(cell) for cell in numbers]
    steps = {b - a for a, b in itertools.pairwise(values)}
    return (len(steps) == 1 and min(steps) > 0) or (len(values) == 1 and 1000 <= values[0] <= 2999)


def _is_number(cell: str) -> bool:
    return bool(cell) and any(letter.isdigit() or letter in "nN" for letter in cell) and bool(_NUMBER.fullmatch(cell))
