"""Reads from a column's statistics what it holds: numbers, dates, texts; and which cells do not belong there."""

from dataclasses import dataclass

import numpy as np

from common.wording import count
from workers.preparation.cells import DATES
from workers.preparation.options import TableError
from workers.preparation.statistics import INFINITE, LARGE, NESTED, NUMBER, STORED, TEXT, ColumnStatistics

BOOLEANS = ({"true", "false"}, {"yes", "no"}, {"y", "n"}, {"t", "f"}, {"on", "off"})
FAULTS, FEWEST_CELLS = 0.05, 5
"""Cells unlike all others are faults if they are at most such a share, or one of at least so many."""
FAULTS_OF_MANY, MANY_DISTINCT = 0.1, 20
"""And up to such a share where more cells than that differ: codes of a few kinds may be numbers and texts."""


@dataclass(frozen=True, slots=True)
class Kind:
    """``name``: as the table shows it. ``form``: of a date, in ``cells.DATES`` or ``stored``.

    ``sign``: percent or currency, if most are. ``mixed``: numbers and texts. ``ambiguous``: or the month first.
    """

    name: str
    is_number: bool = False
    form: str = ""
    sign: str = ""
    mixed: bool = False
    ambiguous: bool = False

    @property
    def is_text(self) -> bool:
        """Whether it is neither a number nor a date."""
        return not self.is_number and not self.form and self.name != NESTED


def _are_faults(n_odd: int, column: ColumnStatistics) -> bool:
    """Say whether cells that are not what nearly all others are must be mistakes, not another kind of cell."""
    n = column.cells
    if n_odd <= FAULTS * n or (n_odd == 1 and n >= FEWEST_CELLS):
        return True
    various = column.distinct > MANY_DISTINCT or 2 * column.distinct > n
    return n_odd <= FAULTS_OF_MANY * n and various


def _date_fault(name: str, column: ColumnStatistics, kind: Kind) -> TableError | None:
    """Return what is wrong with a column of dates but for a few cells."""
    forms = [form for form in DATES if column.kinds[form]]
    if not forms or not kind.is_text:
        return None
    form = max(forms, key=lambda one: column.kinds[one])
    n_odd = column.cells - column.kinds[form]
    odd = [column.examples[one] for one in (TEXT, *forms) if one != form and one in column.examples]
    if not odd or not _are_faults(n_odd, column):
        return None
    cell, place, row = min(odd, key=lambda example: example[1:])
    return TableError(
        f"column {name!r}: got {cell!r}, where the other {column.kinds[form]:,} cells are dates such as "
        f"{column.examples[form][0]!r}; correct it, give --missing {cell!r} if it stands for a missing one, or take "
        f"the column for texts with --categorical {name!r}",
        place=place, row=row,
    )  # fmt: skip


def read_kind(column: ColumnStatistics) -> Kind:
    """Return what a column holds."""
    kinds, cells = column.kinds, column.cells
    if not cells:
        return Kind("empty")
    if kinds[NESTED]:
        return Kind(NESTED)
    if kinds[NUMBER] + kinds[INFINITE] == cells:
        return Kind("whole number" if column.whole else "number", is_number=True)
    fits = [form for form in (STORED, *DATES) if kinds[form] == cells]
    if fits:
        both = {"dmy", "mdy"} <= {*fits}
        form = _month_first(fits) if both else fits[0]
        return Kind("date" if form != "clock" else "time", form=form, ambiguous=both)
    if column.texts is not None and any({text.lower() for text in column.texts} <= pair for pair in BOOLEANS):
        return Kind("boolean")
    for sign, name in (("percent", "percentages"), ("currency", "amounts of a currency")):
        if 2 * kinds[sign] > cells:
            return Kind(name, sign=sign)
    return Kind("text", mixed=bool(kinds[NUMBER]) and bool(kinds[TEXT]) and 2 * kinds[NUMBER] > cells)


def _month_first(fits: list[str]) -> str:
    return "mdy" if "mdy" in fits else fits[0]


def number_fault(name: str, column: ColumnStatistics, kind: Kind, *, target: bool = False) -> TableError | None:
    """Return what is wrong with a column of numbers or dates, or of these but for a few cells; None if nothing is."""
    shown = f"{'target ' if target else ''}column {name!r}"
    if column.kinds[INFINITE]:
        cell, place, row = column.examples[INFINITE]
        return TableError(
            f"{shown}: got {cell!r}; a number is finite and within 1.8e308, and a missing one is an empty cell",
            place=place, row=row,
        )  # fmt: skip
    if kind.is_number and LARGE in column.examples and not target:
        cell, place, row = column.examples[LARGE]
        return TableError(
            f"{shown}: got {cell!r}; a feature is within {np.finfo(np.float32).max:.1e}, what float32 holds: "
            f"scale the column down, or use --drop {name!r}",
            place=place, row=row,
        )  # fmt: skip
    if kind.is_number or not column.kinds[NUMBER]:
        return _date_fault(name, column, kind)
    odd = [one for one in column.examples if one not in (NUMBER, INFINITE, LARGE)]
    n_odd, numbers = column.cells - column.kinds[NUMBER], column.kinds[NUMBER]
    measured = column.distinct > MANY_DISTINCT or 2 * column.distinct > column.cells
    if not odd or not (_are_faults(n_odd, column) or (target and n_odd <= numbers and measured)):
        return None
    cell, place, row = min((column.examples[one] for one in odd), key=lambda example: example[1:])
    several = f" (and {count(n_odd - 1, 'more such cell')})" if n_odd > 1 else ""
    instead = f", or take the column for {'labels' if target else 'texts'} with --categorical {name!r}"
    return TableError(
        f"{shown}: got {cell!r}{several}, where the other {numbers:,} cells are numbers; correct it, "
        f"give --missing {cell!r} if it stands for a missing number{instead}",
        place=place, row=row,
    )  # fmt: skip
