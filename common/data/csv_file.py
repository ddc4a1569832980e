"""Reads .csv files: a table of numbers, under a line of column names or without one."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.config import RunConfig
from common.data.dataset import BY_ROW, Raw
from common.data.index_columns import Columns, index_columns, numbers_rows
from common.data.scaling import row_blocks
from common.data.text_table import RowLines, open_text, read_table
from common.errors import DataError
from common.option import nearest

MISSING = {"", "na", "nan", "n/a", "null", "none", "?", "-"}
"""What stands for no value, in lower case: no name of a column."""
FEWEST_COUNTED = 3
"""Columns from which a first line 0, 1, 2, ... is the names that pandas gives, not a row that happens to count."""
LISTED, LOOKED_AT, LONGEST_SHOWN = 20, 1000, 80
"""Of columns in a message: those listed, those that may have been meant, characters of a name."""


@dataclass(frozen=True, slots=True)
class Head:
    """How a file begins: the names of its columns, empty ones if there is no line of them (``named``).

    ``skip``: lines before the first row. ``width``: cells of that row, 0 if there is none. ``note``: what was decided.
    ``row_names``: whether there is one name fewer than columns, as R's write.table leaves it with row names.
    """

    names: list[str]
    named: bool
    skip: int
    width: int
    note: str
    row_names: bool = False


def read_csv(path: Path, config: RunConfig) -> Raw:
    """Read a table and take out of it the columns of ``config.target``, which are to be predicted.

    So are those of ``--weight``, ``--group`` and ``--time`` taken out.
    """
    head = head_of(path, config.header)
    names = [name or f"column {i}" for i, name in enumerate(head.names, 1)]
    if not names:
        raise DataError(f"{path}: no rows; the file is empty")
    targets = _targets(path, config.target, head, names)
    by_row = {
        option: _column(path, option, getattr(config, option), head, names)
        for option in BY_ROW
        if getattr(config, option)
    }
    if len({*names}) < len(names):
        raise DataError(f"{path}: two columns have the same name; the first line takes one name a column")
    if not head.width:
        raise DataError(f"{path}: no rows")
    if len(names) == 1:
        raise DataError(
            f"{path}: one column; it takes two or more, the target and what to learn from, with commas between"
        )
    _check_roles(path, targets, by_row, names)
    table = read_table(path, head.skip, head.width, config)
    if table.shape[1] != len(names) or (head.row_names and not numbers_rows(table[:, 0])):
        given = f"{len(names) - head.row_names} column names, but rows of {table.shape[1]} numbers"
        raise DataError(f"{path}: {given}; give each column one name")
    y = table[:, targets[0] if len(targets) == 1 else targets].copy()
    if np.array_equal(y, np.round(y)) and np.abs(y).max() < 2**53:
        y = y.astype(np.int64)
    of_rows = {option: table[:, i].copy() for option, i in by_row.items()}
    chosen = {*targets, *by_row.values()}
    found = index_columns(Columns(names, head.names, head.named), table, chosen, config.index_column)
    if len(found.left_out) == len(names) - len(chosen):
        raise DataError(f"{path}: no column is left to learn from; use --index-column keep")
    plain = config.target == names[targets[0]]
    shown = " and ".join(repr(names[i]) for i in targets)
    notes = [head.note, *([] if plain else [f"Target: {shown}."]), *found.notes]
    left_out = {*chosen, *found.left_out}
    kept = [i for i in range(len(names)) if i not in left_out]
    for rows in row_blocks(*table.shape):  # within the table: it may take half of the memory
        table[rows, : len(kept)] = table[rows][:, kept]
    return Raw(
        path.name,
        table[:, : len(kept)],
        y,
        feature_names=[names[i] for i in kept],
        notes=[note for note in notes if note],
        target_names=[names[i] for i in targets],
        weight=of_rows.get("weight"),
        group=of_rows.get("group"),
        time=of_rows.get("time"),
    )


def head_of(path: Path, header: str) -> Head:
    """Return how a file begins. ``header``: see the option. Raises DataError."""
    with open_text(path) as text:
        rows, skip, after_first = RowLines(text).rows(), 0, 0
        first: list[str] = []
        for cells, after_first in rows:
            if first := [cell.strip() for cell in cells if len(cells) > 1 or cell.strip()]:
                break
            skip = after_first
        second = next((cells for cells, _ in rows if any(cell.strip() for cell in cells)), [])
    is_names, why = _is_names(first) if header == "auto" else (header == "yes", "")
    if first and not is_names:
        note = why and f"{path.name} has no line of column names: {why}; --header yes takes it for names."
        return Head([""] * len(first), False, skip, len(first), note)
    row_names = len(second) == len(first) + 1
    if row_names:
        first = ["", *first]
    note = why and f"The first line of {path.name} is taken for column names: {why}; --header no takes it for a row."
    return Head(first, True, after_first, len(second), note, row_names)


def _is_names(first: list[str]) -> tuple[bool, str]:
    """Say whether a first line is column names, and why, where that is not plain to see."""
    if any(cell.lower() not in MISSING and not _is_number(cell) for cell in first):
        return True, ""
    counted = first[1:] if first and not first[0] else first
    if counted == [str(i) for i in range(len(counted))] and (len(counted) >= FEWEST_COUNTED or counted is not first):
        return True, "it counts 0, 1, 2, ... as pandas does where columns have no names"
    return False, "its first line is all numbers and is read as a row"


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _targets(path: Path, target: str, head: Head, names: list[str]) -> list[int]:
    """Return the places of the columns to predict, from 0; several have commas between them."""
    if not target:
        raise DataError(f"target: {path} needs one; name the column with --target: {_listed(head, names)}")
    several = [target] if target in names else [part.strip() for part in target.split(",") if part.strip()]
    found = [_column(path, "target", part, head, names) for part in several or [target]]
    if len({*found}) < len(found):
        raise DataError(f"target: got {target!r}, which names a column twice; name each once")
    return found


def _check_roles(path: Path, targets: list[int], by_row: dict[str, int], names: list[str]) -> None:
    """Raise DataError for a column that is to be two things."""
    taken = dict.fromkeys(targets, "target")
    for option, i in by_row.items():
        if i in taken:
            raise DataError(
                f"{option}: column {names[i]!r} of {path} is the {taken[i]} already; give --{option} another one"
            )
        taken[i] = option
    if len(taken) == len(names):
        raise DataError(
            f"{path}: no column is left to learn from; {len(taken)} are asked for as {', '.join(taken.values())}"
        )


def _listed(head: Head, names: list[str]) -> str:
    listed = ", ".join([*(name[:LONGEST_SHOWN] for name in names[:LISTED]), *["..."] * (len(names) > LISTED)])
    return listed + (f" ({head.note.rstrip('.')})" if head.note else "")


def _column(path: Path, option: str, target: str, head: Head, names: list[str]) -> int:
    """Return the place of a column that an option names, from 0."""
    if target in head.names or target in names:
        return names.index(target)
    if re.fullmatch(r"-?[0-9]{1,9}", target) and 1 <= abs(int(target)) <= len(names):
        return int(target) - 1 if int(target) > 0 else len(names) + int(target)
    near = [name for name in names[:LOOKED_AT] if len(name) <= LONGEST_SHOWN]
    raise DataError(f"{option}: no column {target!r} in {path}{nearest(target, near)}; it has {_listed(head, names)}")
