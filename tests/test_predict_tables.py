"""Rows of tables that are predicted: what cells hold, as the child of a rank answers it, without ranks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.data.preprocessing import Category, Column, Number, Preprocessing
from common.errors import DataError
from tests.small_table import asking
from workers.prediction.rows import Block, match_columns, without_names
from workers.prediction.seen import Seen
from workers.prediction.table_child import RowAnswers


def answers(path: Path, text: str, columns: list[Column], **asked: Any) -> dict[str, Any]:
    """Return what the child says of the rows of a file; a fault as a DataError."""
    path.write_text(text)
    ask = asking(RowAnswers(lambda _: None))
    options = {"one_column": True, "features": ",".join(column.name for column in columns)}
    opened = ask("open", paths=[str(path)], options=options, folder=str(path.parent))
    (table,) = opened["tables"]
    ask("know", **{name: opened[name] for name in ("tables", "options", "numbers")})
    usual = {"dtype": "float32", "step": 256, "targets": [], "labels": [], "weight": ""}
    ask("want", columns=Preprocessing(tuple(columns)).as_dict(), **{**usual, **asked})
    ask("begin", start=table["dialect"]["first_row"], stop=table["extent"])
    block = ask("block")
    assert ask("block") is None
    assert isinstance(block, dict)
    block["x"] = np.frombuffer(block["x"], np.float32).reshape(block["rows"], -1).tolist()
    return block


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x\n1\n2\n4\n", [1, 2, 4]),
        ("x\n1.5\n", [1.5]),
        ("x\r\n1\r\n\r\n3\r\n\r\n\r\n", [1, 3]),  # lines without anything are no rows
        ('x\n1\n""\n3', [1, None, 3]),  # as pandas writes a missing number
    ],
)
def test_a_table_to_predict_may_have_one_column(tmp_path: Path, text: str, expected: list[float | None]) -> None:
    found = answers(tmp_path / "new.csv", text, [Number("x")])
    assert [None if np.isnan(row[0]) else row[0] for row in found["x"]] == expected
    assert found["missing"] == expected.count(None)


def test_names_that_the_model_knows_make_a_first_line_one_of_names(tmp_path: Path) -> None:
    """Though its cells occur below."""
    columns: list[Column] = [Category("a", ("x", "a")), Category("b", ("y", "b"))]
    found = answers(tmp_path / "new.csv", "a,b\na,y\nx,b\nz,y\n", columns)
    assert found["x"] == [[0, 1, 1, 0], [1, 0, 0, 1], [0, 0, 1, 0]]
    assert found["unknown"] == {"a": 1}
    with pytest.raises(DataError, match="no rows"):
        answers(tmp_path / "new.csv", "a,b\n", columns)


def test_several_targets_may_be_yes_and_no(tmp_path: Path) -> None:
    text = "q,a,b\n1,yes,TRUE\n2,no,false\n3,,1\n"
    found = answers(tmp_path / "new.csv", text, [Number("q")], targets=["a", "b"])
    y = np.frombuffer(found["y"]).reshape(3, 2)
    assert np.array_equal(y, np.array([[1, 1], [0, 0], [np.nan, 1]]), equal_nan=True)
    for wrong, targets in (("maybe", ["a", "b"]), ("yes", ["a"])):
        with pytest.raises(DataError, match=f"line 3, column 'a': got '{wrong}'; allowed is a finite number"):
            answers(tmp_path / "new.csv", f"q,a,b\n1,1,1\n2,{wrong},1\n", [Number("q")], targets=targets)


@pytest.mark.parametrize("cell", ["1e39", "-1e39", "1e400", "inf"])
def test_a_number_that_float32_cannot_hold_is_refused_by_its_line(tmp_path: Path, cell: str) -> None:
    with pytest.raises(DataError, match=f"line 3, column 'q': got '{cell}'; allowed is a number within 3.4e"):
        answers(tmp_path / "new.csv", f"q,r\n1,2\n{cell},2\n", [Number("q")])
    found = answers(tmp_path / "new.csv", f"q,r\n1,2\n3,{cell}\n", [Number("q")])  # r is not used
    assert found["x"] == [[1], [3]]


def test_columns_that_are_not_there_are_named() -> None:
    with pytest.raises(DataError, match="no column 'b', which the model was trained on; it has 'a' and 'c'"):
        match_columns(["a", "b"], [], ["a", "c"], "new.csv", with_known=False)
    places, notes = match_columns(["b", "a"], ["y"], ["a", "x", "b"], "new.csv", with_known=False)
    assert places == [2, 0]
    assert notes == ["new.csv: 1 column not used, since the model was trained without: 'x'."]


def test_columns_without_names_are_known_by_their_order_where_the_target_is_not_there() -> None:
    def numbered(*numbers: int) -> list[str]:
        return [f"column {i}" for i in numbers]

    assert without_names(numbered(2, 3, 4), numbered(1, 2, 3))  # the first one was the target
    assert not without_names(numbered(1, 2, 3), numbered(1, 2, 3, 4))  # whose target is behind the others
    assert not without_names(numbered(2, 3), numbered(1, 2, 3))
    assert not without_names(["a", "b"], numbered(1, 2))


def test_what_is_seen_on_several_ranks_is_told_once() -> None:
    first, second = Seen(), Seen()
    first.add(Block(np.zeros((2, 1)), missing=1, unknown={"town": 2}), np.zeros((2, 1)))
    second.add(
        Block(np.zeros((3, 1)), unknown={"town": 1, "day": 1}, beyond=4), np.array([[0, 1], [np.nan, 0], [0, 0]])
    )
    assert str(Seen.of_all([first.plain(), second.plain()])) == (
        "5 rows; 1 missing value is taken as the mean of the training rows or as missing; 4 texts that training did "
        "not see, taken as none of the known ones ('town' 3 and 'day' 1); 4 numbers of features that training did not "
        "have are left out; of 1 row the outputs of the model are no finite numbers"
    )
