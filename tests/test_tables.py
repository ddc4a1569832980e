"""Tables: files with and without column names, and columns that number the rows."""

import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_wine

from common.config import RunConfig
from common.data.dataset import Dataset, Raw, check
from common.data.sources import check_columns, read
from common.errors import ConfigError, DataError
from tests.ranks import Result, jobs, records

RNG = np.random.default_rng(1)
NOISE = RNG.standard_normal((60, 2))
LABELS = np.sort(RNG.integers(0, 3, 60))
BODY = np.column_stack([NOISE, LABELS])


def table(folder: Path, head: str, body: np.ndarray = BODY, index: list[str] | None = None) -> Path:
    """Write a file: its first line, if any, then rows, each after an entry of ``index``."""
    rows = [",".join(f"{value:.6g}" for value in row) for row in body]
    if index is not None:
        rows = [f"{i},{row}" for i, row in zip(index, rows, strict=True)]
    path = folder / "data.csv"
    path.write_text("\n".join([*([head] if head else []), *rows]) + "\n")
    return path


def load(path: Path, target: str, **options: str) -> tuple[Raw, Dataset]:
    config = RunConfig(data=str(path), target=target, **options)  # type: ignore[arg-type]
    raw = read(config, 0, 1)
    return raw, check(raw, config)


@pytest.mark.parametrize(("target", "found"), [("column 3", 2), ("3", 2), ("-1", 2), ("1", 0), ("-3", 0)])
def test_a_file_without_names_keeps_its_first_row(tmp_path: Path, target: str, found: int) -> None:
    raw, data = load(table(tmp_path, ""), target)
    assert len(raw.x) == 60
    np.testing.assert_allclose(raw.y, BODY[:, found], rtol=1e-5)
    assert raw.feature_names == [f"column {i}" for i in (1, 2, 3) if i - 1 != found]
    why = "its first line is all numbers and is read as a row"
    assert data.notes[0] == f"data.csv has no line of column names: {why}; --header yes takes it for names."


@pytest.mark.parametrize(
    ("first", "names"),
    [
        ("a,b,c", True),
        ("a,2,3", True),
        ("2001,2002,sum", True),
        ('"1.5","2",x', True),
        ("1.5,2,3", False),
        ("-1e3,+.5,nan", False),
        ('"1","2","4"', False),
        ("5,,3", False),
        ("1,NA,3", False),
        ("0,1,2", True),  # as pandas writes columns without names
        ("1,2,3", False),
    ],
)
def test_a_first_line_of_numbers_is_a_row(tmp_path: Path, first: str, names: bool) -> None:
    path = table(tmp_path, first)
    if "NA" in first or ",," in first:
        with pytest.raises(DataError, match="not a table of numbers"):
            load(path, "column 1")
        return
    raw = read(RunConfig(data=str(path), target="-1"), 0, 1)
    assert len(raw.x) + np.isnan(raw.x[:]).sum() == 60 + (not names)
    assert bool(raw.notes[0].startswith("data.csv has no line")) != names
    if first == "0,1,2":
        why = "it counts 0, 1, 2, ... as pandas does where columns have no names"
        said = f"The first line of data.csv is taken for column names: {why}; --header no takes it for a row."
        assert raw.notes[0] == said
        assert load(path, "0")[0].feature_names == ["1", "2"]


def test_an_option_says_whether_there_are_names(tmp_path: Path) -> None:
    raw, data = load(table(tmp_path, "7,8,9"), "9", header="yes")
    assert (raw.feature_names, len(raw.x)) == (["7", "8"], 60)
    assert not any("names" in note for note in data.notes)
    raw, _ = load(table(tmp_path, "0,1,2"), "-1", header="no")
    assert (raw.feature_names, len(raw.x)) == (["column 1", "column 2"], 61)
    with pytest.raises(
        DataError, match=r"not a table of numbers .*if its first line is column names, leave --header no"
    ):
        load(table(tmp_path, "a,b,c"), "1", header="no")
    with pytest.raises(
        DataError, match=r"--target: column 1, column 2, column 3 \(data.csv has no line of column names"
    ):
        load(table(tmp_path, ""), "")
    with pytest.raises(DataError, match="no column '4'"):
        load(table(tmp_path, ""), "4")


def test_empty_lines_before_the_table_do_not_count(tmp_path: Path) -> None:
    assert len(load(table(tmp_path, "\n\na,b,c"), "c")[0].x) == 60
    raw, _ = load(table(tmp_path, "\n \n1,2,1"), "column 3")
    np.testing.assert_array_equal(raw.x[0], [1, 2])


INDEXES = {
    "from 0": ([str(i) for i in range(60)], True),
    "from 1": ([str(i + 1) for i in range(60)], True),
    "in quotes": ([f'"{i + 1}"' for i in range(60)], True),
    "with gaps": ([str(2 * i + i // 7) for i in range(60)], True),
    "shuffled": ([str(i) for i in RNG.permutation(60)], True),
    "repeated": ([str(i % 30) for i in range(60)], False),
    "fractions": ([f"{i}.5" for i in range(60)], False),
}


@pytest.mark.parametrize("name", ["", '""', "Unnamed: 0", "Unnamed: 0.1"])
@pytest.mark.parametrize("index", INDEXES)
def test_a_nameless_index_is_left_out(tmp_path: Path, name: str, index: str) -> None:
    values, is_index = INDEXES[index]
    path = table(tmp_path, f"{name},a,b,y", index=values)
    raw, data = load(path, "y")
    shown = "column 1" if name in ("", '""') else name
    assert raw.feature_names == (["a", "b"] if is_index else [shown, "a", "b"])
    assert raw.x.shape[1] == len(raw.feature_names)
    found = [note for note in data.notes if repr(shown) in note]
    expected = (
        "is left out: it has no name and numbers the rows" if is_index else "Warning: .* has no name and is trained"
    )
    assert len(found) == 1
    assert re.search(expected, found[0])
    assert "--index-column" in found[0]
    assert load(path, "y", index_column="keep")[0].feature_names == [shown, "a", "b"]
    assert load(path, "y", index_column="drop")[0].feature_names == ["a", "b"]


def test_row_names_of_r_have_no_name_of_a_column(tmp_path: Path) -> None:
    """As its write.table leaves it: one name fewer than columns."""
    path = table(tmp_path, '"a","b","y"', index=[f'"{i + 1}"' for i in range(60)])
    raw, _ = load(path, "y")
    assert raw.feature_names == ["a", "b"]
    np.testing.assert_array_equal(raw.y, LABELS)
    with pytest.raises(DataError, match="3 column names, but rows of 4 numbers; give each column one name"):
        load(table(tmp_path, "a,b,y", index=["0.5"] * 60), "y")


def test_the_first_column_of_a_file_without_names_may_be_an_index(tmp_path: Path) -> None:
    path = table(tmp_path, "", index=[str(i) for i in range(60)])
    raw, data = load(path, "-1")
    assert raw.feature_names == ["column 2", "column 3"]
    assert "Column 'column 1' is left out: it has no name and numbers the rows (0, 1, 2, ...)" in data.notes[-2]
    # from another number on it may be years
    raw, data = load(table(tmp_path, "", index=[str(1900 + i) for i in range(60)]), "-1")
    assert raw.feature_names == ["column 1", "column 2", "column 3"]
    assert data.notes[-2].startswith("Warning: column 'column 1' numbers the rows (1900, 1901, 1902, ...)")


@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        ("id", range(60), True),
        ("passenger", range(1, 61), True),  # counts the rows, whatever its name
        ("PassengerId", range(160, 100, -1), True),
        ("customer_id", [i * 7 % 60 + 1000 for i in range(60)], True),
        ("acid", range(160, 100, -1), False),
        ("row", range(60, 0, -1), True),
        ("Row ID", range(100, 160), True),
        ("year", range(1900, 1960), False),
        ("id", [i % 7 for i in range(60)], False),
    ],
)
def test_an_index_with_a_name_is_told(tmp_path: Path, name: str, values: range, told: bool) -> None:
    path = table(tmp_path, f"{name},a,b,y", index=[*map(str, values)])
    raw, data = load(path, "y")
    assert raw.feature_names == [name, "a", "b"]
    found = [note for note in data.notes if note.startswith(f"Warning: column {name!r} numbers the rows")]
    assert len(found) == told
    if told:
        assert found[0].endswith("and is trained on; --index-column drop leaves it out.")
        assert load(path, "y", index_column="drop")[0].feature_names == ["a", "b"]


SHUFFLED = np.random.default_rng(1).permutation(60)


@pytest.mark.parametrize("index", [np.arange(60), np.arange(60) + 1000, np.arange(60)[::-1] - 7, SHUFFLED])
@pytest.mark.parametrize("n", [60, 45])
def test_an_index_is_told_in_arrays_too(index: np.ndarray, n: int) -> None:
    """Wherever it begins, in any order, and if it goes on in a test set."""
    x = np.column_stack([NOISE, index])
    test = (x[n:], LABELS[n:]) if n < 60 else None
    data = check(Raw("rows", x[:n], LABELS[:n], test), RunConfig())
    assert data.notes[0].startswith("Warning: X, column 2 numbers the rows")


@pytest.mark.parametrize("column", [np.arange(60) // 2, np.arange(60) * 2, np.arange(60) + 0.5, np.r_[0:59, 58]])
def test_a_column_with_gaps_or_repetitions_is_no_index(column: np.ndarray) -> None:
    assert len(check(Raw("rows", np.column_stack([NOISE, column]), LABELS), RunConfig()).notes) == 1


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("", "y", "no rows; the file is empty$"),
        ("\n \n", "y", "no rows; the file is empty$"),
        ("a,y\n", "y", "no rows$"),
        ("y\n1\n2\n", "y", "one column; it takes two or more, "),
        ("1;2\n3;4\n", "1", "one column; it takes two or more, .* with commas between$"),
        (
            "2001,2002\n1,2\n",
            "2002",
            r"no column '2002' .* it has column 1, column 2 \(.*--header yes takes it for names",
        ),
    ],
)
def test_what_a_table_lacks_is_said(tmp_path: Path, text: str, target: str, message: str) -> None:
    (tmp_path / "data.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        load(tmp_path / "data.csv", target)


def test_a_target_is_never_an_index(tmp_path: Path) -> None:
    path = table(tmp_path, ",a,b", np.column_stack([np.arange(60), NOISE]))
    raw, _ = load(path, "column 1")
    assert raw.y.tolist() == [*range(60)]
    with pytest.raises(DataError, match="no column is left to learn from; use --index-column keep"):
        load(table(tmp_path, ",y", np.column_stack([np.arange(60), LABELS])), "y")


def test_options_of_columns_need_columns() -> None:
    for option in ({"header": "no"}, {"index_column": "drop"}):
        with pytest.raises(ConfigError, match="digits has no named columns; leave --"):
            check_columns(RunConfig(**option))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Result]]:
    folder = tmp_path_factory.mktemp("tables")
    rng = np.random.default_rng(0)
    n = 600
    noise, labels = rng.standard_normal((n, 3)), np.repeat([0, 1, 2], n // 3)
    for name, head in (("nameless", ",a,b,c,y"), ("named", "a,b,c,y")):
        (folder / name).mkdir()
        body = np.column_stack([noise, labels])
        table(folder / name, head, body, [str(i) for i in range(n)] if name == "nameless" else None)
    (folder / "wine").mkdir()
    wine = load_wine()
    table(folder / "wine", "", np.column_stack([wine.data, wine.target]))
    start = ["-m", "workers.run", "--data"]
    named = {
        "nameless": [*start, str(folder / "nameless" / "data.csv"), "--target", "y"],
        "named": [*start, str(folder / "named" / "data.csv"), "--target", "y"],
        "keep": [*start, str(folder / "nameless" / "data.csv"), "--target", "y", "--index-column", "keep"],
        "wine": [*start, str(folder / "wine" / "data.csv"), "--target=-1"],
    }
    return folder, jobs(2, folder, named)


def test_noise_is_not_learned_by_its_row_numbers(ended: tuple[Path, dict[str, Result]]) -> None:
    folder, results = ended
    assert {name: result.code for name, result in results.items()} == dict.fromkeys(results, 0)
    accuracy = {name: records(folder / name)[-1]["test_metric"] for name in ("nameless", "named", "keep")}
    assert accuracy["nameless"] == accuracy["named"] < 0.5
    assert accuracy["keep"] > 0.9
    why = "it has no name and numbers the rows (0, 1, 2, ...)"
    note = f"Column 'Unnamed: 0' is left out: {why}; --index-column keep trains on it."
    assert results["nameless"].out.count(note) == 1
    assert note in records(folder / "nameless")[0]["data"]["notes"]


def test_a_real_table_without_names_trains_on_all_rows(ended: tuple[Path, dict[str, Result]]) -> None:
    header, *_, end = records(ended[0] / "wine")
    assert sum(header["data"]["rows"].values()) == 178
    assert header["data"]["features"] == 13
    assert header["data"]["labels"] == [0, 1, 2]
    assert end["test_metric"] > 0.9
