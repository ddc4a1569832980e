"""What the columns of a table become, beside what pandas reads in the same file; and the same whatever the pieces."""

import csv
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from common.data.preprocessing import Category, Date, Number
from common.errors import DataError
from tests.small_table import Prepared, prepare_table

ROWS = 60


def prepared(
    folder: Path, text: str | bytes, target: str = "y", block_bytes: int = 1 << 20, **options: str
) -> Prepared:
    """Return what a file becomes."""
    path = folder / "table.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return prepare_table(path, {"target": target, **options}, block_bytes)


def frame() -> pd.DataFrame:
    """Return a table of all that people have."""
    rng = np.random.default_rng(5)
    numbers = rng.normal(0, 1000, ROWS).round(3)
    numbers[[3, 17]] = np.nan
    return pd.DataFrame({
        "size": numbers,
        "n": rng.integers(-5, 2000, ROWS),
        "kind": rng.choice(["a b", 'said "so"', "semi;colon, comma", "two\nlines", "größe"], ROWS),
        "seen": pd.date_range("1999-12-30", periods=ROWS, freq="31h").strftime("%Y-%m-%d %H:%M:%S"),
        "yes": rng.choice([True, False], ROWS),
        "y": rng.choice(["low", "high"], ROWS),
    })  # fmt: skip


def column(found: Prepared, name: str) -> np.ndarray[Any, Any]:
    """Return the features of a column."""
    places = [
        i for one in found.plan.preprocessing.columns if one.name == name
        for i, feature in enumerate(found.plan.preprocessing.features()) if feature in one.features()
    ]  # fmt: skip
    return found.arrays["x"][:, places]


MARKS = [(",", "."), (";", ","), ("\t", "."), ("\t", ","), ("|", "."), (",", ",")]
WRITTEN = [("\n", "utf-8"), ("\r\n", "utf-8-sig"), ("\n", "latin-1"), ("\r\n", "utf-16")]


@pytest.mark.parametrize(("separator", "decimal"), MARKS)
@pytest.mark.parametrize(("end", "encoding"), WRITTEN)
def test_a_file_is_read_however_it_is_written(
    tmp_path: Path, separator: str, decimal: str, end: str, encoding: str
) -> None:
    data = frame()
    text = data.to_csv(index=False, sep=separator, decimal=decimal, lineterminator=end, na_rep="NA")
    found = prepared(tmp_path, text.encode(encoding), block_bytes=700, encoding=encoding.removesuffix("-sig"))
    oracle = pd.read_csv(tmp_path / "table.csv", sep=separator, decimal=decimal, encoding=encoding)
    np.testing.assert_array_equal(column(found, "size")[:, 0], oracle["size"].to_numpy(np.float32))
    np.testing.assert_array_equal(column(found, "size")[:, 1], oracle["size"].isna())
    np.testing.assert_array_equal(column(found, "n")[:, 0], oracle["n"].to_numpy(np.float32))
    labels = np.array(found.plan.target.labels)[found.arrays["y"]]
    assert labels.tolist() == oracle["y"].tolist()
    kinds = next(one for one in found.plan.preprocessing.columns if one.name == "kind")
    assert isinstance(kinds, Category)
    assert kinds.values == tuple(sorted({text.replace("\r\n", "\n") for text in oracle["kind"]}))
    codes = column(found, "kind").argmax(axis=1)
    assert [kinds.values[code] for code in codes] == [text.replace("\r\n", "\n") for text in oracle["kind"]]
    seen = pd.to_datetime(oracle["seen"])
    parts = [[when.year, when.month, when.weekday(), when.hour * 3600 + when.minute * 60] for when in seen]
    np.testing.assert_array_equal(column(found, "seen"), parts)
    np.testing.assert_array_equal(column(found, "yes").argmax(axis=1), oracle["yes"])


@pytest.mark.slow
@pytest.mark.any_mpi
@pytest.mark.parametrize("quoting", [csv.QUOTE_ALL, csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC])
@pytest.mark.parametrize("block_bytes", [100, 333, 1 << 20])
def test_pieces_do_not_matter(tmp_path: Path, quoting: Any, block_bytes: int) -> None:
    text = frame().to_csv(index=True, quoting=quoting)
    whole = prepared(tmp_path, text)
    found = prepared(tmp_path, text, block_bytes=block_bytes)
    assert found.plan == whole.plan
    for name, array in whole.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)
    assert found.plan.columns[0].became == "left out: index"


def table(cells: list[str], name: str = "c") -> str:
    """Return a file with one column that is of interest."""
    quoted = (f'"{cell}"' if "," in cell or '"' in cell else cell for cell in cells)
    return f"{name},other,y\n" + "".join(f"{cell},{i * i % 7}.5,{'pq'[i % 2]}\n" for i, cell in enumerate(quoted))


NUMBERS = {
    "plain": (["1", "-2.5", "+3", ".5", "1e3", "5.", "007"], [1, -2.5, 3, 0.5, 1000, 5, 7]),
    "thousands": (["1,234.50", "999", "12,000", "1,000,000"], [1234.5, 999, 12000, 1e6]),
    "spaces": (["1 234.5", "999", "12\u202f000", "1\u00a0000 000"], [1234.5, 999, 12000, 1e6]),
    "Swiss": (["1'234.5", "999", "12\u2019000"], [1234.5, 999, 12000]),
    "Indian": (["1,00,000", "2,50,000.5", "7"], [100000, 250000.5, 7]),
    "decimal comma": (["1,5", "2,25", "3", "-0,125"], [1.5, 2.25, 3, -0.125]),
    "points and comma": (["1.234,5", "999", "12.000,25"], [1234.5, 999, 12000.25]),
    "minus sign": (["\u22125", "4", "\u22120.5"], [-5, 4, -0.5]),
    "blanks": ([" 1 ", "2 ", "\t3"], [1, 2, 3]),
    "as floats": (["1.0", "2.0", "3.0"], [1, 2, 3]),
}


@pytest.mark.parametrize(("cells", "numbers"), NUMBERS.values(), ids=NUMBERS)
def test_numbers(tmp_path: Path, cells: list[str], numbers: list[float]) -> None:
    found = prepared(tmp_path, table(cells))
    assert isinstance(found.plan.preprocessing.columns[0], Number)
    np.testing.assert_array_equal(column(found, "c")[:, 0], np.array(numbers, np.float32))


MISSING = ["", "NA", "na", "N/A", "n/a", "#N/A", "NaN", "nan", "null", "NULL", "None", "?", "-", "--", ".", "<NA>"]
MISSING += ["NaT", "#VALUE!", '""']


@pytest.mark.parametrize("cell", MISSING)
def test_spellings_of_missing(tmp_path: Path, cell: str) -> None:
    for others in (["1", "2", "3.5"], ["red", "blue", "red"], ["2020-01-01", "2021-05-06", "2022-01-01"]):
        found = prepared(tmp_path, table([others[0], cell, *others[1:]]) if cell != '""' else
                         table([others[0], "@", *others[1:]]).replace("@", '""'))  # fmt: skip
        assert found.plan.columns[0].missing == 1
        assert column(found, "c")[:, -1].tolist() == [0, 1, 0, 0]


def test_own_spellings_of_missing(tmp_path: Path) -> None:
    found = prepared(tmp_path, table(["1", "-999", "unknown", "4"]), missing="-999,unknown")
    np.testing.assert_array_equal(column(found, "c"), [[1, 0], [np.nan, 1], [np.nan, 1], [4, 0]])


def test_own_spellings_of_missing_numbers_where_a_file_has_types(tmp_path: Path) -> None:
    frame = pl.DataFrame({"whole": [1, -999, 3], "c": [-999.0, 2.5, 3.5], "t": ["a", "-999", "b"], "y": [1, 2, 3]})
    frame.write_parquet(tmp_path / "table.parquet")
    found = prepare_table(
        tmp_path / "table.parquet", {"target": "y", "missing": "-999,unknown", "features": "whole,c,t"}
    )
    assert [column.missing for column in found.plan.columns] == [1, 1, 1, 0]
    np.testing.assert_array_equal(column(found, "whole"), [[1, 0], [np.nan, 1], [3, 0]])
    np.testing.assert_array_equal(column(found, "c"), [[np.nan, 1], [2.5, 0], [3.5, 0]])


DATES = {
    "ISO": (["2024-02-29", "2023-12-31"], ["2024-02-29", "2023-12-31"]),
    "slashes": (["2024/02/29", "2023/12/31"], ["2024-02-29", "2023-12-31"]),
    "German": (["29.02.2024", "31.12.2023"], ["2024-02-29", "2023-12-31"]),
    "day first": (["29/02/2024", "01/12/2023"], ["2024-02-29", "2023-12-01"]),
    "American": (["02/29/2024", "12/01/2023"], ["2024-02-29", "2023-12-01"]),
    "either": (["02/03/2024", "12/01/2023"], ["2024-02-03", "2023-12-01"]),
    "two digits": (["02/29/24", "12/01/99"], ["2024-02-29", "1999-12-01"]),
    "names": (["29-Feb-2024", "1 Dec 2023"], ["2024-02-29", "2023-12-01"]),
    "named first": (["February 29, 2024", "Dec 1, 2023"], ["2024-02-29", "2023-12-01"]),
    "with time": (["2024-02-29 13:14:15", "2023-12-31 00:00:01"], ["2024-02-29T13:14:15", "2023-12-31T00:00:01"]),
    "T and fractions": (["2024-02-29T13:14:15.25", "2023-12-31T00:01"], ["2024-02-29T13:14:15", "2023-12-31T00:01"]),
    "zones": (["2024-02-29T01:14:15+02:00", "2023-12-31T23:00:00Z"], ["2024-02-28T23:14:15", "2023-12-31T23:00"]),
    "AM and PM": (["2/29/2024 1:14 PM", "12/1/2023 12:05 AM"], ["2024-02-29T13:14", "2023-12-01T00:05"]),
    "before 1970": (["1905-03-04", "1969-12-31"], ["1905-03-04", "1969-12-31"]),
}


@pytest.mark.parametrize(("cells", "meant"), DATES.values(), ids=DATES)
def test_dates(tmp_path: Path, cells: list[str], meant: list[str]) -> None:
    found = prepared(tmp_path, table([*cells, *cells]))
    made = found.plan.preprocessing.columns[0]
    assert isinstance(made, Date)
    for row, text in enumerate(meant):
        when = datetime.fromisoformat(text).replace(tzinfo=UTC)
        parts = {
            "year": when.year, "month": when.month, "weekday": when.weekday(),
            "seconds": when.hour * 3600 + when.minute * 60 + when.second,
        }  # fmt: skip
        assert column(found, "c")[row].tolist() == [parts[part] for part in made.parts]


def test_what_no_calendar_has_is_no_date(tmp_path: Path) -> None:
    found = prepared(tmp_path, table(["30.02.2024", "01.01.2024", "2024-13-01", "x"] * 2))
    assert found.plan.columns[0].type == "text"


def test_times_of_day(tmp_path: Path) -> None:
    found = prepared(tmp_path, table(["10:30", "23:59:59", "0:00"]))
    assert column(found, "c")[:, 0].tolist() == [37800, 86399, 0]


def test_order_of_day_and_month_is_said(tmp_path: Path) -> None:
    notes = prepared(tmp_path, table(["02/03/2024", "12/01/2023"])).plan.notes
    assert any(
        note.startswith("Dates in column 'c' are read with the month before the day ('02/03/2024')") for note in notes
    )
    assert not prepared(tmp_path, table(["02/03/2024", "13/01/2023"])).plan.notes


KINDS = {
    "boolean": (["True", "false", "TRUE"], "boolean", "one-hot, 2 features"),
    "yes": (["yes", "no", "yes"], "boolean", "one-hot, 2 features"),
    "text": (["red", "blue", "red"], "text", "one-hot, 2 features"),
    "percent": (["5%", "10 %", "5%"], "percentages", "one-hot, 2 features"),
    "currency": (["$1,200", "$5", "$5"], "amounts of a currency", "one-hot, 2 features"),
    "euro": (["12,50 \u20ac", "3,00 \u20ac", "EUR 5"], "amounts of a currency", "one-hot, 3 features"),
    "codes": (["0", "1", "2", "3+"] * 8, "text", "one-hot, 4 features"),
    "constant": (["same"] * 4, "text", "left out: constant"),
    "constant number": (["7"] * 4, "whole number", "left out: constant"),
    "missing": (["NA"] * 4, "empty", "left out: all missing"),
    "missing or one": (["x", "", "x", ""], "text", "one-hot, 1 feature, missing flagged"),
    "own texts": ([f"name {i}" for i in range(60)], "text", "left out: mostly unique"),
    "many texts": ([f"town {i % 300}" for i in range(1200)], "text", "hashed, 64 features"),
    "very many texts": ([f"town {i % 1500}" for i in range(6000)], "text", "hashed, 64 features"),
}


@pytest.mark.parametrize(("cells", "kind", "became"), KINDS.values(), ids=KINDS)
def test_what_becomes_of_a_column(tmp_path: Path, cells: list[str], kind: str, became: str) -> None:
    for block_bytes in (400, 1 << 20) if len(cells) < 1000 else (20000, 1 << 20):
        found = prepared(tmp_path, table(cells), block_bytes=block_bytes)
        assert (found.plan.columns[0].type, found.plan.columns[0].became) == (kind, became)
        said = any("'c'" in note for note in found.plan.notes)
        assert said == (cells is KINDS["codes"][0] or not became.startswith("one-hot") or kind[:3] in ("per", "amo"))


def test_hashed_texts_share_features(tmp_path: Path) -> None:
    cells = [f"town {i % 300}" for i in range(1200)]
    x = column(prepared(tmp_path, table(cells)), "c")
    assert x.shape == (1200, 64)
    assert (x.sum(axis=1) == 1).all()
    np.testing.assert_array_equal(x[:300], x[300:600])
    assert (x.sum(axis=0) > 0).all()


def test_distinct_is_counted_or_estimated(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for n in (900, 1000, 5000, 30000):
        cells = [str(i) for i in rng.permutation(n)] * 2
        text = prepared(tmp_path, table(cells), block_bytes=50000).plan.columns[0].distinct
        if n < 1000:
            assert text == f"{n}"
        assert abs(int(text.strip("~").replace(",", "")) - n) < 0.12 * n


def test_large_numbers_that_differ_little_keep_their_digits(tmp_path: Path) -> None:
    found = prepared(tmp_path, table(["1600000000.25", "1600000001.5", "1600000007"]))
    assert column(found, "c")[:, 0].tolist() == [0, 1.25, 6.75]
    made = found.plan.preprocessing.columns[0]
    assert isinstance(made, Number)
    assert made.offset == 1600000000.25


def test_bytes_stay_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    data = pd.DataFrame(rng.integers(0, 256, (30, 70))).add_prefix("p")
    data["y"] = rng.integers(0, 2, 30)
    found = prepared(tmp_path, data.to_csv(index=False))
    assert found.plan.x_dtype == "uint8"
    np.testing.assert_array_equal(found.arrays["x"], data.iloc[:, :70])
    data.loc[4, "p3"] = 256
    assert prepared(tmp_path, data.to_csv(index=False)).plan.x_dtype == "float32"


def test_columns_chosen(tmp_path: Path) -> None:
    text = 'a,b,"c, d",zip,y\n' + "".join(
        f"{i}.5,{i % 3}.25,{i * i % 5}.75,{i % 2 + 70000},{i % 4}\n" for i in range(20)
    )
    names = [one.name for one in prepared(tmp_path, text).plan.preprocessing.columns]
    assert names == ["a", "b", "c, d", "zip"]
    found = prepared(tmp_path, text, features='b,"c, d"')
    assert [one.name for one in found.plan.preprocessing.columns] == ["b", "c, d"]
    assert [one.became for one in found.plan.columns][:1] == ["left out: not in --features"]
    found = prepared(tmp_path, text, drop="a,2", categorical="zip")
    assert found.plan.preprocessing.features() == ["c, d", "zip=70000", "zip=70001"]
    found = prepared(tmp_path, text, features="c, d")
    assert found.plan.preprocessing.features() == ["c, d"]
    assert prepared(tmp_path, text, target="-1").plan.target.names == ("y",)


TARGETS = {
    "texts": (["dog", "cat", "cat", "dog"], "labels", ("cat", "dog"), [1, 0, 0, 1]),
    "booleans": (["TRUE", "False", "true", "false"], "labels", ("False", "True"), [1, 0, 1, 0]),
    "yes and no": (["yes", "no", "no", "yes"], "labels", ("no", "yes"), [1, 0, 0, 1]),
    "signs": (["-1", "1", "+1", "-1"], "numbers", (), [[-1], [1], [1], [-1]]),
    "whole floats": (["1.0", "2.0", "5.0", "1.0"], "numbers", (), [[1], [2], [5], [1]]),
    "prices": (["1,200", "950", "12,000", "7"], "numbers", (), [[1200], [950], [12000], [7]]),
    "small differences": (["100000000.001", "100000000.002", "100000000.003", "100000000"], "numbers", (),
                          [[100000000.001], [100000000.002], [100000000.003], [100000000]]),
}  # fmt: skip


@pytest.mark.parametrize(("cells", "kind", "labels", "y"), TARGETS.values(), ids=TARGETS)
def test_targets(tmp_path: Path, cells: list[str], kind: str, labels: tuple[str, ...], y: list[Any]) -> None:
    found = prepared(tmp_path, table(cells), target="c")
    assert (found.plan.target.kind, found.plan.target.labels) == (kind, labels)
    assert found.arrays["y"].dtype == (np.int64 if labels else np.float64)
    assert found.arrays["y"].tolist() == y


def test_numbers_that_are_names_of_classes(tmp_path: Path) -> None:
    found = prepared(tmp_path, table(["10", "9", "10", "9.0"]), target="c", categorical="c")
    assert found.plan.target.labels == ("10", "9")
    assert found.arrays["y"].tolist() == [0, 1, 0, 1]


def test_several_targets(tmp_path: Path) -> None:
    text = "a,b,p,q\n" + "".join(f"{i}.5,{i % 3}.25,{i},{('yes', 'no')[i % 2]}\n" for i in range(12))
    found = prepared(tmp_path, text, target="p,q")
    assert found.arrays["y"].tolist() == [[i, 1 - i % 2] for i in range(12)]
    assert [one.name for one in found.plan.preprocessing.columns] == ["a", "b"]


def test_rows_without_a_target_are_left_out(tmp_path: Path) -> None:
    found = prepared(tmp_path, table(["1.5", "NA", "2.5", "", "3"]), target="c", block_bytes=20)
    assert found.arrays["y"].tolist() == [[1.5], [2.5], [3]]
    assert len(found.arrays["x"]) == 3
    assert found.plan.notes[-1] == "Warning: 2 rows without the target are left out."


def test_weight_group_and_time_are_no_features(tmp_path: Path) -> None:
    text = "w,g,t,a,y\n" + "".join(
        f"{i % 3}.5,house {i % 4},2024-01-{i + 1:02},{i * i % 11}.5,{i}.5\n" for i in range(20)
    )
    found = prepared(tmp_path, text, weight="w", group="g", time="t")
    assert found.plan.preprocessing.features() == ["a"]
    assert found.arrays["weight"].tolist() == [i % 3 + 0.5 for i in range(20)]
    assert len({*found.arrays["group"].tolist()}) == 4
    assert (found.arrays["group"][::4] == found.arrays["group"][0]).all()
    assert np.diff(found.arrays["time"]).tolist() == [86400] * 19


def test_columns_of_parquet_have_types(tmp_path: Path) -> None:
    n, day = 60, date(2024, 1, 31)
    data = pl.DataFrame({
        "whole": [k * k % 53 + 70000 for k in range(n)],
        "number": [float("nan") if k == 3 else k * 1.5 for k in range(n)],
        "flag": [k % 2 == 0 for k in range(n)],
        "text": ["a", "b", None] * 20,
        "day": [day + timedelta(days=k) for k in range(n)],
        "when": [datetime(2024, 1, 1, 5, k, tzinfo=timezone(timedelta(hours=2))) for k in range(n)],
        "lists": [[1, 2]] * n,
        "nothing": pl.Series([None] * n, dtype=pl.Int32),
        "y": pl.Series(["p", "q", "r"] * 20, dtype=pl.Categorical),
    })  # fmt: skip
    path = tmp_path / "table.parquet"
    data.write_parquet(path)
    found = prepare_table(path, {"target": "y"})
    kinds = ["whole number", "number", "boolean", "text", "date", "date", "nested", "empty", "text"]
    assert [one.type for one in found.plan.columns] == kinds
    np.testing.assert_array_equal(column(found, "whole")[:, 0], data["whole"] - 70000)  # the offset
    assert np.isnan(column(found, "number")[3, 0])
    assert column(found, "number")[:, 1].tolist() == [k == 3 for k in range(n)]
    assert found.plan.preprocessing.features()[3:8] == [
        "flag=False",
        "flag=True",
        "text=a",
        "text=b",
        "text is missing",
    ]
    assert column(found, "text")[:3].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert column(found, "day")[:2].tolist() == [[1, 2], [2, 3]]  # a Wednesday in January, a Thursday in February
    assert column(found, "when")[:2, -1].tolist() == [3 * 3600, 3 * 3600 + 60]
    data.with_columns(number=pl.when(pl.int_range(n) == 7).then(np.inf).otherwise("number")).write_parquet(path)
    with pytest.raises(DataError, match="row 7, column 'number': got 'inf'; a number is finite"):
        prepare_table(path, {"target": "y"})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="not a readable Parquet file"):
        prepare_table(path, {"target": "y"})


def test_plans_travel_as_plain_values(tmp_path: Path) -> None:
    plan = prepared(tmp_path, frame().to_csv(index=False)).plan
    assert type(plan).from_dict(plan.as_dict()) == plan
