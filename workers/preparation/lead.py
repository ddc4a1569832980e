"""Lines before a table: titles, notes of what exported it, counts. They are no names of columns and no rows."""

import re
from collections import Counter
from collections.abc import Collection, Sequence

from common.wording import count

MOST = 30
"""Lines of a lead."""
_NUMBER = re.compile(r"[+-]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][+-]?\d+)?")
SHOWN = 60


def length(rows: Sequence[list[str]], asked: Collection[str]) -> int:
    """Return how many of a table's first lines are none of it. ``asked``: names of columns, which it has."""
    usual = Counter(map(len, rows[len(rows) // 2 :])).most_common(1)[0][0] if rows else 0
    n = 0
    while n < min(MOST, len(rows) - 1) and _is_lead(rows[n], usual) and not any(cell in asked for cell in rows[n]):
        n += 1
    if n and len(rows[n]) != usual and len(rows[n]) != usual - 1:
        return 0  # rows of unequal length: one of them is at fault
    if n and _may_be_names(rows[n - 1], usual) and all(map(_NUMBER.fullmatch, filter(None, rows[n]))):
        n -= 1  # too few names rather than a title
    return n or int(_tells_shape(rows))


def _is_lead(row: Sequence[str], usual: int) -> bool:
    """Say whether a line has too few cells for a row, or, as spreadsheets fill up a title, one that is not empty."""
    filled = [cell for cell in row if cell]
    numbers = [cell for cell in filled if _NUMBER.fullmatch(cell)]
    if len(row) >= usual:
        return len(row) == usual > 2 and len(filled) <= 1 and not numbers
    if filled and len(numbers) == len(filled) and not all(map(str.isdigit, filled)):
        return False  # a row that was cut off, where a lead has counts
    if len(row) == usual - 1:  # row names have no name, where R writes them
        return usual > 2 and not _may_be_names(row, usual) and len(numbers) < len(filled)
    return True


def _may_be_names(row: Sequence[str], usual: int) -> bool:
    """Say whether a line that is too short may be names of which some were forgotten."""
    words = {cell for cell in row if cell and not _NUMBER.fullmatch(cell)}
    return len(words) == len(row) and 2 * len(row) >= usual > 2


def _tells_shape(rows: Sequence[list[str]]) -> bool:
    """Say whether the first line tells rows, features and classes, as scikit-learn's files do, and is as long as rows.

    150,4,setosa,versicolor,virginica stands above rows of four features and a class.
    """
    first, body = rows[0], rows[1:]
    if len(first) < 4 or not body or any(len(row) != len(first) for row in body):
        return False
    counts, names = first[:2], first[2:]
    return (
        all(cell.isascii() and cell.isdigit() for cell in counts)
        and int(counts[1]) == len(first) - 1
        and not any(map(_NUMBER.fullmatch, names))
        and all(_NUMBER.fullmatch(cell) for row in body for cell in row)
    )


def notes(rows: Sequence[list[str]], name: str) -> list[str]:
    """Return what is to be said of the lines of a lead; ``name``: of the file."""
    if not rows:
        return []
    shown = ", ".join(filter(None, rows[0]))
    shown = f"{shown[:SHOWN]}..." if len(shown) > SHOWN else shown
    which = f"The first line of {name} is" if len(rows) == 1 else f"The first {count(len(rows), 'line')} of {name} are"
    return [f"{which} skipped ({shown!r}): a title or a note, not a row of the table."]
