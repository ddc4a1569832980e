"""The table of columns that is printed before training, and the sentences beside it, of narrow and of wide files."""

from typing import Any

from ps.text.column_table import FIRST, LAST, lines
from workers.preparation.column_notes import ColumnNotes


def column(name: str, became: str = "number", distinct: str = "7", missing: int = 0) -> dict[str, Any]:
    return {"name": name, "type": "whole number", "missing": missing, "distinct": distinct, "became": became}


def test_up_to_100_columns_have_a_row_each() -> None:
    assert len(lines([column(f"c{i}") for i in range(100)], 100)) == 101


def test_wide_files_share_rows() -> None:
    columns = [
        *(column(f"p{i}", "left out: constant", "1") for i in range(30)),
        *(column(f"p{i}", distinct=f"{i}", missing=2) for i in range(30, 120)),
        column("p120", distinct="~1,200"),
        column("y", "target"),
    ]
    head, *rows = lines(columns, 100)
    assert head.split() == ["column", "type", "missing", "distinct", "became"]
    assert [row.split() for row in rows] == [
        ["p0", "...", "p29", "(30", "columns)", "whole", "number", "0", "1", "left", "out:", "constant"],
        ["p30", "...", "p120", "(91", "columns)", "whole", "number", "180", "30", "to", "~1,200", "number"],
        ["y", "whole", "number", "0", "7", "target"],
    ]


def test_the_table_is_bounded() -> None:
    found = lines([column(f"c{i}", f"one-hot, {i % 7} features") for i in range(100_000)], 100)
    assert len(found) == 1 + FIRST + 1 + LAST
    assert found[1 + FIRST].strip() == f"... {100_000 - FIRST - LAST:,} more rows ..."


def test_sentences_of_many_columns_are_few() -> None:
    notes = ColumnNotes()
    for i in range(200):
        notes.add("constant", f"c{i}", f"Column 'c{i}' is constant.")
        if i < 4:
            notes.add("date", f"d{i}", f"Column 'd{i}' holds dates.")
    assert notes.sentences() == [
        *(f"Column 'c{i}' is constant." for i in range(3)),
        "The same goes for 197 more columns: 'c3', 'c4', 'c5' and others.",
        *(f"Column 'd{i}' holds dates." for i in range(4)),
    ]
