"""Decides what each column of a table becomes, from the statistics of all its rows and what the user says."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from common.data.index_columns import FEWEST_ROWS, INDEX_NAME, NAMELESS
from common.data.preprocessing import PARTS, Category, Column, Date, Number, Preprocessing
from common.wording import count
from workers.preparation import targets
from workers.preparation.chosen import Chosen, chosen
from workers.preparation.column_notes import ColumnNotes
from workers.preparation.kinds import Kind, number_fault, read_kind
from workers.preparation.options import Options, TableError
from workers.preparation.plan import NUMBERS, ColumnRow, Plan
from workers.preparation.statistics import NESTED, STORED, Analysis, ColumnStatistics
from workers.preparation.typed_frame import BOOLEAN, CATEGORY, DATE, NUMBER, TEXT, WHOLE

ONE_HOT, ALWAYS_ONE_HOT = 256, 20
"""Texts of a column that get a feature each; so few do, however few rows each has."""
BUCKETS = 64
"""Features that more texts are hashed to."""
BYTES_FROM = 64
"""Columns from which whole numbers from 0 to 255 are kept as bytes: fewer take little room."""
DIGITS = 64
"""A column that varies so many times less than it is large is counted from its least number: float32 loses digits."""


@dataclass(slots=True)
class _Decided:
    """What has been decided so far."""

    columns: list[Column] = field(default_factory=list)
    rows: list[ColumnRow] = field(default_factory=list)
    notes: ColumnNotes = field(default_factory=ColumnNotes)
    bytes_only: bool = True
    handed: list[tuple[str, str]] = field(default_factory=list)


def decide(analysis: Analysis, options: Options, notes: Sequence[str] = ()) -> Plan:
    """Decide by the statistics of all rows; ``options``: resolved. ``notes``: of the dialect, which come first.

    Raises TableError, with the place of a cell that is at fault, if one is.
    """
    asked, found = chosen(options), _Decided()
    if not analysis.rows:
        raise TableError("no rows; a table has a line of column names and a line for each row")
    target = targets.decide(analysis, asked)
    for name, column in analysis.columns.items():
        kind = read_kind(column)
        if name in asked.targets:
            became = "target" if target.kind == NUMBERS else f"target, {count(len(target.labels), 'class', 'classes')}"
            found.rows.append(_row(name, kind.name, column, became))
        else:
            _decide_column(found, name, column, kind, asked, options.index_column)
    if not found.columns and not found.handed:
        raise TableError("no column is left to learn from; see --features, --drop and --index-column")
    wide = sum(isinstance(column, Number) for column in found.columns) >= BYTES_FROM
    said = (*notes, *found.notes.sentences(), *targets.notes(analysis, asked))
    return Plan(
        Preprocessing(tuple(found.columns)), tuple(found.rows), target, said, options,
        "uint8" if found.bytes_only and wide else "float32", _time_form(analysis, options),
        tuple(found.handed),
    )  # fmt: skip


def _decide_column(
    found: _Decided, name: str, column: ColumnStatistics, kind: Kind, asked: Chosen, index_column: str
) -> None:
    """Add a column that is no target."""
    left_out = _left_out(name, column, kind, asked, index_column, found.notes)
    if left_out:
        found.rows.append(_row(name, kind.name, column, f"left out: {left_out}"))
        return
    if asked.handed and kind.name != NESTED:
        found.handed.append((name, _type_of(name, column, kind, asked)))
        found.rows.append(_row(name, kind.name, column, "to the transformer"))
        return
    made, became = _made(name, column, kind, asked, found.notes)
    if made is None:
        found.rows.append(_row(name, kind.name, column, f"left out: {became}"))
        return
    found.bytes_only &= (
        isinstance(made, Number) and not column.missing and column.whole and 0 <= column.least <= column.most <= 255
    )
    found.columns.append(made)
    found.rows.append(_row(name, kind.name, column, became))


def _row(name: str, kind: str, column: ColumnStatistics, became: str) -> ColumnRow:
    exact = column.texts is not None or column.exact
    return ColumnRow(
        name, kind, column.missing, f"{column.distinct:,}" if exact else f"~{_rounded(column.distinct):,}", became
    )


def _rounded(n: int) -> int:
    return int(float(f"{n:.2g}"))


def _left_out(
    name: str, column: ColumnStatistics, kind: Kind, asked: Chosen, index_column: str, notes: ColumnNotes
) -> str:
    """Return why a column is no feature, nothing if it is one; say so in ``notes`` where nobody asked for it."""
    if name in asked.others:
        return f"it is --{asked.others[name]}" if asked.features is None or name not in asked.features else ""
    if name in asked.dropped:
        return "--drop"
    if asked.features is not None:
        if name not in asked.features:
            return "not in --features"
    elif why := _index(name, column, kind, index_column, notes):
        return why
    if asked.handed:
        return ""
    if not column.cells:
        notes.add("missing", name, f"Column {name!r} is left out: all its cells are missing.")
        return "all missing"
    if column.distinct == 1 and not column.missing:
        notes.add("constant", name, f"Column {name!r} is left out: it is the same in all rows.")
        return "constant"
    return ""


def _index(name: str, column: ColumnStatistics, kind: Kind, choice: str, notes: ColumnNotes) -> str:
    """Return why a column is an index that is left out; a note tells of one that is not."""
    if choice == "keep" or column.missing or column.rows < 2:
        return ""
    nameless = bool(NAMELESS.fullmatch(name))
    own = column.distinct == column.rows if column.exact or column.texts is not None else (
        column.distinct >= 0.85 * column.rows
    )  # fmt: skip
    numbered = own and kind.is_number and column.whole
    in_order = not np.isnan(column.first) and not np.isnan(column.last)
    counts = numbered and column.most - column.least == column.rows - 1 and column.rows >= FEWEST_ROWS
    counted = counts and in_order and column.first in (0, 1)
    first_unnamed = name == "column 1" and counted
    looks = bool(INDEX_NAME.fullmatch(name)) and numbered and column.rows >= FEWEST_ROWS
    begin = f"{column.least:g}, {column.least + 1:g}, {column.least + 2:g}, ..." if counts else f"from {column.least:g}"
    if (nameless and own and (numbered or kind.is_text)) or first_unnamed:
        why = f"numbers the rows ({begin})" if numbered else "names each row"
        notes.add(
            "index", name, f"Column {name!r} is left out: it has no name and {why}; --index-column keep trains on it."
        )
        return "index"
    if counted or looks:
        if choice == "drop":
            notes.add(
                "dropped index",
                name,
                f"Column {name!r} is left out: as --index-column drop asks; --index-column keep trains on it.",
            )
            return "--index-column drop"
        notes.add(
            "numbers rows",
            name,
            f"Warning: column {name!r} numbers the rows ({begin}) and is trained on; --index-column drop leaves it "
            "out.",
        )
    return ""


def _type_of(name: str, column: ColumnStatistics, kind: Kind, asked: Chosen) -> str:
    """Return as what a transformer gets a column: see ``typed_frame``. Raises TableError."""
    if name in asked.categorical:
        return CATEGORY
    if fault := number_fault(name, column, kind):
        raise fault
    if kind.is_number or not column.cells:
        return WHOLE if column.cells and column.whole and not column.missing else NUMBER
    if kind.form == STORED:
        return DATE
    truth = kind.name == "boolean" and {text.lower() for text in column.texts or ()} <= {"true", "false"}
    return BOOLEAN if truth else TEXT


def _made(
    name: str, column: ColumnStatistics, kind: Kind, asked: Chosen, notes: ColumnNotes
) -> tuple[Column | None, str]:
    """Return what a column becomes, and in words; None and why, if it is left out."""
    indicator = ", missing flagged" if column.missing else ""
    if name in asked.categorical:
        return _category(name, column, kind, notes, forced=True)
    if kind.name == NESTED:
        notes.add(
            "nested",
            name,
            f"Column {name!r} is left out: it holds {column.stored}; a column takes numbers, texts or dates.",
        )
        return None, "lists or bytes"
    if fault := number_fault(name, column, kind):
        raise fault
    if kind.is_number:
        return Number(name, missing=column.missing > 0, offset=_offset(column)), f"number{indicator}"
    if kind.form:
        return _date(name, column, kind, notes)
    if kind.sign:
        notes.add(
            "sign",
            name,
            f"Column {name!r} holds {kind.name} ({column.examples[kind.sign][0]!r}), which stay text; "
            "write plain numbers to train on numbers.",
        )
    made, became = _category(name, column, kind, notes, forced=asked.features is not None)
    if kind.mixed and made is not None:
        example = column.examples["text"][0]
        notes.add("mixed", name, f"Column {name!r} holds numbers and texts ({example!r}), and is taken for texts.")
    return made, became


def _offset(column: ColumnStatistics) -> float:
    largest = max(-column.least, column.most)
    return column.least if largest > DIGITS * (column.most - column.least) else 0.0


def _date(name: str, column: ColumnStatistics, kind: Kind, notes: ColumnNotes) -> tuple[Column | None, str]:
    span = column.spans[kind.form]
    parts = tuple(part for i, part in enumerate(PARTS) if span[2 * i] < span[2 * i + 1])
    if not parts:
        parts = PARTS[:1]
    if kind.ambiguous:
        first, then = ("day", "month") if kind.form == "dmy" else ("month", "day")
        notes.add(
            "date",
            name,
            f"Dates in column {name!r} are read with the {first} before the {then} "
            f"({column.examples[kind.form][0]!r}), as no cell says otherwise; write 2024-12-31 to be sure.",
        )
    form = "" if kind.form == STORED else kind.form
    made = Date(name, parts, missing=column.missing > 0, form=form)
    return made, f"{', '.join(parts)}{', missing flagged' if column.missing else ''}"


def _category(
    name: str, column: ColumnStatistics, kind: Kind, notes: ColumnNotes, *, forced: bool
) -> tuple[Column | None, str]:
    """Return a column of texts: a feature each, hashed, or left out where nearly every row has a text of its own."""
    n, missing = column.distinct, column.missing > 0
    indicator = ", missing flagged" if missing else ""
    few = n <= ALWAYS_ONE_HOT or (n <= ONE_HOT and (forced or 2 * n <= column.cells))
    if column.texts is not None and few:
        return Category(name, tuple(sorted(column.texts)), missing), f"one-hot, {count(n, 'feature')}{indicator}"
    if not forced and 2 * n > column.cells:
        notes.add(
            "unique",
            name,
            f"Column {name!r} is left out: nearly every row has {'a text' if not kind.is_number else 'a value'} of its "
            f"own; --categorical {name!r} trains on it, hashed to {BUCKETS} features.",
        )
        return None, "mostly unique"
    notes.add(
        "hashed",
        name,
        f"Column {name!r} has {'about ' * (column.texts is None)}{_rounded(n):,} different texts, more than {ONE_HOT}, "
        f"and is hashed to {BUCKETS} features; --drop {name!r} leaves it out.",
    )
    return Category(name, (), missing, BUCKETS), f"hashed, {BUCKETS} features{indicator}"


def _time_form(analysis: Analysis, options: Options) -> str:
    column = analysis.columns.get(options.time.strip('"')) if options.time else None
    return read_kind(column).form if column is not None else ""
