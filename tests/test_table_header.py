"""Whether the first row of a table is names, and what else is found out about how a file is written."""

from pathlib import Path

import numpy as np
import pytest

from common.errors import DataError
from tests.small_table import Prepared, prepare_table
from workers.preparation.child import Answers


def prepared(folder: Path, text: str, target: str = "-1", **options: str) -> Prepared:
    """Return what a file becomes."""
    path = folder / "table.csv"
    path.write_text(text, newline="")
    return prepare_table(path, {"target": target, **options})


def names(found: Prepared) -> list[str]:
    return [column.name for column in found.plan.columns]


ROWS = "5.1,3.5,setosa\n4.9,3.0,setosa\n7.0,3.2,versicolor\n6.4,3.2,versicolor\n"
NAMED = {
    "names": f"length,width,kind\n{ROWS}",
    "quoted names": f'"length","width","kind"\n{ROWS}',
    "names with a mark": f"\ufefflength,width,kind\n{ROWS}",
    "names behind comments": f"# of 1936\n#\n\nlength,width,kind\n{ROWS}",
    "names in a comment": f"# length,width,kind\n{ROWS}",
    "names of texts": "length,width,kind\nlong,wide,setosa\nshort,wide,setosa\nlong,slim,x\nshort,slim,x\n",
    "sep=": f"sep=,\nlength,width,kind\n{ROWS}",
    "blanks before quotes": '"length", "width", "kind"\n5, "a, b", "p"\n6, "", "q"\n5, "c ""d""", "p"\n4, "a", "q"\n',
    "old line ends and empty lines": f"\r\nlength,width,kind\r\n{ROWS}\n\n".replace("\n", "\r\n").replace("\r\r", "\r"),
}


@pytest.mark.parametrize("text", NAMED.values(), ids=NAMED)
def test_names_are_found(tmp_path: Path, text: str) -> None:
    found = prepared(tmp_path, text)
    assert names(found) == ["length", "width", "kind"]
    assert len(found.arrays["x"]) == 4
    assert found.plan.target.kind == "labels"


UNNAMED = {
    "numbers": ("1,2,3\n4,5,7\n7,8,3\n", "all numbers"),
    "numbers and texts": (ROWS, "numbers (5.1) where others do"),
    "texts": ("red,round,yes\nblue,square,no\nred,square,yes\nblue,round,no\n", "('red') stands in others"),
    "texts and gaps": ("39, State-gov, 77516, <=50K\n50, ?, 83311, <=50K\n38, Private, 21564, >50K\n" * 3, "('39')"),
}


@pytest.mark.parametrize(("text", "why"), UNNAMED.values(), ids=UNNAMED)
def test_a_first_row_is_no_names(tmp_path: Path, text: str, why: str) -> None:
    found = prepared(tmp_path, text)
    assert names(found)[:2] == ["column 1", "column 2"]
    assert len(found.arrays["x"]) == text.count("\n")
    assert found.plan.notes[0].startswith("table.csv has no line of column names: ")
    assert why in found.plan.notes[0]
    assert found.plan.notes[0].endswith("; --header yes takes it for names.")


def test_header_as_asked(tmp_path: Path) -> None:
    assert names(prepared(tmp_path, "1,2,3\n4,5,7\n7,8,3\n", header="yes")) == ["1", "2", "3"]
    found = prepared(tmp_path, "long,wide,kind\n" + "long,wide,other\nshort,slim,kind\n" * 3, header="no")
    assert names(found) == ["column 1", "column 2", "column 3"]
    assert len(found.arrays["x"]) == 7


def test_a_target_that_the_first_row_has_makes_it_names(tmp_path: Path) -> None:
    text = "1960,1970,kind\n5,7,setosa\n6,7,setosa\n2,1,kind\n3,2,kind\n"
    assert names(prepared(tmp_path, text, "kind")) == ["1960", "1970", "kind"]
    years = "country,1960,1961,1962,y\nA,1,2,3,1.5\nB,2,3,4,2.5\nC,9,3,1,4\n"
    assert names(prepared(tmp_path, years)) == ["country", "1960", "1961", "1962", "y"]
    counted = "0,1,2,3\n4.5,5,7,1\n7.5,8,3,2\n"
    assert names(prepared(tmp_path, counted)) == ["0", "1", "2", "3"]


INDEX = {
    "pandas": (",a,y\n0,5.5,p\n1,3.1,q\n2,5.5,q\n", "Unnamed: 0", "it has no name and numbers the rows"),
    "pandas, twice": (
        "Unnamed: 0,a,y\n7,5.5,p\n12,3.1,q\n3,5.5,q\n",
        "Unnamed: 0",
        "it has no name and numbers the rows",
    ),
    "R": (
        '"a","y"\n"Mazda",5.5,"p"\n"Fiat",3.1,"q"\n"Ford",5.5,"q"\n',
        "Unnamed: 0",
        "it has no name and names each row",
    ),
    "without names": (
        "".join(f"{i},{i * i % 7}.5,{'pq'[i % 2]}\n" for i in range(1, 20)),
        "column 1",
        "numbers the rows (1, 2",
    ),
}


@pytest.mark.parametrize(("text", "name", "why"), INDEX.values(), ids=INDEX)
def test_an_index_is_left_out_and_said(tmp_path: Path, text: str, name: str, why: str) -> None:
    found = prepared(tmp_path, text)
    assert found.plan.columns[0].became == "left out: index"
    note = next(note for note in found.plan.notes if note.startswith(f"Column {name!r} is left out: "))
    assert why in note
    kept = prepared(tmp_path, text, index_column="keep")
    assert kept.plan.columns[0].became != "left out: index"


def test_a_named_index_is_trained_on_with_a_warning(tmp_path: Path) -> None:
    text = "id,a,y\n" + "".join(f"{i},{i * i % 7}.5,{'pq'[i % 2]}\n" for i in range(1, 20))
    found = prepared(tmp_path, text)
    assert found.plan.columns[0].became == "number"
    assert found.plan.notes[0].startswith("Warning: column 'id' numbers the rows (1, 2, 3, ...) and is trained on;")
    assert prepared(tmp_path, text, index_column="drop").plan.columns[0].became == "left out: --index-column drop"


def test_what_separates_is_said(tmp_path: Path) -> None:
    notes = prepared(tmp_path, "a;b;y\n1.234;2,5;p\n12.000;3,5;q\n3.500;1,25;p\n").plan.notes
    assert notes == (
        "Cells of table.csv are separated by semicolons.",
        "Numbers in 'a', 'b' of table.csv have a decimal comma.",
    )


def test_a_separator_behind_each_row(tmp_path: Path) -> None:
    found = prepared(tmp_path, "a,y\n5,p,\n3,q,\n7,q,\n", "y")
    assert [column.became for column in found.plan.columns] == ["number", "target, 2 classes", "left out: all missing"]


def test_hashes_that_are_no_comments(tmp_path: Path) -> None:
    found = prepared(tmp_path, "colour,y\n#ff0000,p\n#00ff00,q\n#ff0000,q\n")
    assert found.plan.preprocessing.features() == ["colour=#00ff00", "colour=#ff0000"]
    assert names(prepared(tmp_path, "#,Name,y\n1,Bulba,p\n2,Ivy,q\n4,Xen,q\n")) == ["#", "Name", "y"]


LEAD = {
    "a title": f"Flowers of 1936\n\nlength,width,kind\n{ROWS}",
    "a title with a comma": f"Flowers, 1936\nlength,width,kind\n{ROWS}",
    "export notes": f"Report of flowers\nmade on;2024-01-31\n\nlength,width,kind\n{ROWS}",
    "a title of a spreadsheet": f"Flowers,,\n,,\nlength,width,kind\n{ROWS}",
    "more notes than rows": "a\nb\nc\nd\ne\nlength,width,kind\n5,6,p\n4,7,q\n3,1,q\n9,2,p\n",
}


@pytest.mark.parametrize("text", LEAD.values(), ids=LEAD)
def test_lines_before_the_table_are_skipped_and_said(tmp_path: Path, text: str) -> None:
    found = prepared(tmp_path, text)
    assert names(found) == ["length", "width", "kind"]
    assert len(found.arrays["x"]) == 4
    assert "of table.csv" in found.plan.notes[0]
    assert "skipped" in found.plan.notes[0]


@pytest.mark.parametrize("name", ["iris", "wine_data", "breast_cancer"])
def test_files_of_scikit_learn(tmp_path: Path, name: str) -> None:
    """Their first line tells rows, features and the names of classes."""
    datasets = pytest.importorskip("sklearn.datasets")
    text = (Path(datasets.__file__).parent / "data" / f"{name}.csv").read_text()
    x, y = getattr(datasets, f"load_{name.removesuffix('_data')}")(return_X_y=True)
    found = prepared(tmp_path, text)
    assert found.arrays["x"].tolist() == x.astype("float32").tolist()
    assert found.arrays["y"][:, 0].tolist() == y.tolist()
    assert found.plan.notes[0].startswith("The first line of table.csv is skipped (")
    assert names(found)[0] == "column 1"


@pytest.mark.parametrize("first", ["5.1", "5.1,3.5", "5.1,3.5,"])
def test_a_first_row_that_was_cut_off_is_no_title(tmp_path: Path, first: str) -> None:
    with pytest.raises(DataError, match=r"line 2, got 4 cells"):
        prepared(tmp_path, f"{first}\n" + "4.9,3.0,1.4,0\n7.0,3.2,4.7,1\n" * 20)


def test_a_first_row_of_missing_cells_is_a_row(tmp_path: Path) -> None:
    assert len(prepared(tmp_path, "5,,\n4,3,1\n7,2,0\n6,1,1\n5,2,1\n", "1").arrays["x"]) == 5


def test_a_fault_behind_a_title_has_its_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 4, got 4 cells"):
        prepared(tmp_path, f"Flowers\nlength,width,kind\n5.1,3.5,setosa\n4,5,6,7\n{ROWS}")


BLANKS = {
    "fixed width": "  5.10   3.50    1\n  4.90  13.00    2\n 17.00   3.20    1\n",
    "one blank": "5.1 3.5 1\r\n4.9 13 2\r\n17 3.2 1 \r\n",
    "some tabs twice": "5.1\t3.5\t1\n4.9\t13\t\t2\n17\t3.2\t1\n",
    "tabs and blanks": "5.1 \t3.5\t 1\n\n4.9  13\t 2\n17  3.2\t1\n",
}


@pytest.mark.parametrize("text", BLANKS.values(), ids=BLANKS)
def test_runs_of_blanks_separate(tmp_path: Path, text: str) -> None:
    found = prepared(tmp_path, text)
    assert found.arrays["x"].tolist() == np.array([[5.1, 3.5], [4.9, 13], [17, 3.2]], np.float32).tolist()
    assert found.arrays["y"].tolist() == [[1], [2], [1]]
    assert "Cells of table.csv are separated by blanks." in found.plan.notes


def test_blanks_and_quoted_names(tmp_path: Path) -> None:
    """As the UCI archive's auto-mpg.data is written."""
    cars = ("chevrolet chevelle malibu", "buick skylark 320", "plymouth  satellite", "amc rebel sst") * 3
    rows = (f'{18 - i}.0   {i % 3 + 4}   {300 + i}.0      {"?" if i == 4 else f"{130 + i}.0"}\t"{car}"'
            for i, car in enumerate(cars))  # fmt: skip
    found = prepared(tmp_path, "\n".join(rows), "1")
    assert len(found.plan.columns) == 5
    assert "column 5=plymouth  satellite" in found.plan.preprocessing.features()
    assert found.plan.columns[3].missing == 1
    assert found.arrays["y"][:, 0].tolist() == [18 - i for i in range(12)]


def test_names_above_blanks(tmp_path: Path) -> None:
    found = prepared(tmp_path, "length  width kind\n5.1  3.5 setosa\n4.9 3.0  other\n", "kind")
    assert names(found) == ["length", "width", "kind"]
    with pytest.raises(DataError, match=r"line 3, got 2 cells \('4.9 3.0'\), where the table has 3"):
        prepared(tmp_path, "length  width kind\n5.1  3.5 setosa\n4.9 3.0\n" + "5.1  3.5 setosa\n" * 300, "kind")


def test_tabs_between_numbers_with_blanks_are_tabs(tmp_path: Path) -> None:
    found = prepared(tmp_path, "size\tname\ty\n1 234\tred fox\t3\n2 345 678\tblue bird\t4\n")
    assert names(found) == ["size", "name", "y"]


def test_of_several_files_what_differs_is_said(tmp_path: Path) -> None:
    texts = {"a.csv": f"length,width,kind\n{ROWS}", "b.csv": f"Flowers\nlength,width,kind\n{ROWS}",
             "c.csv": f"Flowers\nlength;width;kind\n{ROWS.replace(',', ';')}"}  # fmt: skip
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    paths = [str(tmp_path / name) for name in texts]
    opened = Answers(lambda _: None).open(paths, {"target": "kind"}, str(tmp_path))
    assert opened["notes"] == [
        "The first line of b.csv is skipped ('Flowers'): a title or a note, not a row of the table.",
        "Cells of c.csv are separated by semicolons.",
    ]
