"""Decides what the target of a table is: numbers, or labels that are texts."""

from common.wording import count
from workers.preparation.chosen import Chosen
from workers.preparation.kinds import BOOLEANS, Kind, number_fault, read_kind
from workers.preparation.options import TableError
from workers.preparation.plan import LABELS, Target
from workers.preparation.statistics import NESTED, Analysis, ColumnStatistics


def decide(analysis: Analysis, asked: Chosen) -> Target:
    """Return the target. Raises TableError for columns that can be none."""
    several = len(asked.targets) > 1
    for name in asked.targets:
        column = analysis.columns[name]
        if not column.cells:
            raise TableError(f"target column {name!r}: all its cells are missing; name another with --target")
        kind = read_kind(column)
        if name not in asked.categorical:
            _require_usable(name, column, kind, several=several)
        if column.distinct == 1 and not (kind.is_number and name not in asked.categorical):
            one = next(iter(column.texts or {"": 1}))
            raise TableError(
                f"the target is {one!r} in all {column.cells:,} rows, so there is nothing to learn; check which column "
                "it is"
            )
    if several:
        return Target(asked.targets)
    name = asked.targets[0]
    column = analysis.columns[name]
    if read_kind(column).is_number and name not in asked.categorical:
        return Target((name,))
    if column.texts is None or (2 * len(column.texts) > column.cells and len(column.texts) > 2):
        raise TableError(
            f"target column {name!r}: got {column.distinct:,} different texts in {column.cells:,} rows; labels of "
            "classes take two rows each on average, and a regression takes numbers"
        )
    return Target((name,), LABELS, tuple(sorted(column.texts)))


def _require_usable(name: str, column: ColumnStatistics, kind: Kind, *, several: bool) -> None:
    if fault := number_fault(name, column, kind, target=True):
        raise fault
    if kind.form:
        form = column.examples.get(kind.form, ("", None, None))
        shown = f" (as {form[0]!r})" if form[0] else ""
        raise TableError(f"target column {name!r}: got dates{shown}; a target takes numbers or labels")
    if kind.sign:
        cell, place, row = column.examples[kind.sign]
        raise TableError(
            f"target column {name!r}: got {cell!r}; a target takes plain numbers, without signs of a percentage or a "
            "currency",
            place=place, row=row,
        )  # fmt: skip
    if kind.name == NESTED:
        raise TableError(f"target column {name!r}: got {column.stored}; a target takes numbers or labels")
    if several and not kind.is_number and not as_numbers(column):
        cell, place, row = column.examples["text"]
        raise TableError(
            f"target column {name!r}: got {cell!r}; several targets take numbers, or yes and no",
            place=place, row=row,
        )  # fmt: skip


def as_numbers(column: ColumnStatistics) -> bool:
    """Say whether a column's texts are no and yes, which are 0 and 1 where there are several targets."""
    return column.texts is not None and any({text.lower() for text in column.texts} <= pair for pair in BOOLEANS)


def notes(analysis: Analysis, asked: Chosen) -> list[str]:
    """Return what is to be said of the target."""
    left_out = analysis.rows - analysis.kept
    if not left_out:
        return []
    which = "the target" if len(asked.targets) == 1 else "all targets"
    return [f"Warning: {count(left_out, 'row')} without {which} {'is' if left_out == 1 else 'are'} left out."]
