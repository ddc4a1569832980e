"""Columns of a table as features: numbers, categories and dates, what is missing, and the way to JSON and back."""

import datetime as dt
import json

import numpy as np
import pytest

from common.data.preprocessing import MISSING, PARTS, UNKNOWN, Category, Date, Number, Preprocessing
from common.errors import DataError

EACH = Preprocessing(
    (
        Number("age", missing=True, offset=10.0),
        Category("sex", ("f", "m"), missing=True),
        Date("when", PARTS),
        Category("id", buckets=3),
    )
)


def test_features_of_each_kind() -> None:
    sex = Category("sex", ("f", "m"))
    assert sex.codes(["m", None, "x", "f"]).tolist() == [1, MISSING, UNKNOWN, 0]
    x = EACH.encode(
        {
            "age": np.array([12.5, np.nan]),
            "sex": np.array([1, MISSING]),
            "when": np.array([dt.datetime(2024, 2, 29, 1, 2, 3, tzinfo=dt.UTC).timestamp(), np.nan]),
            "id": np.array([2, 0]),
        },
        "float32",
    )
    names = "age, age is missing, sex=f, sex=m, sex is missing, when year, when month, when weekday, when seconds, "
    assert ", ".join(EACH.features()) == names + "id#0, id#1, id#2"
    nan = float("nan")
    np.testing.assert_array_equal(
        x, [[2.5, 0, 0, 1, 0, 2024, 2, 3, 3723, 0, 0, 1], [nan, 1, 0, 0, 1, nan, nan, nan, nan, 1, 0, 0]]
    )
    assert EACH.standardized().tolist() == [True, *[False] * 4, *[True] * 4, *[False] * 3]


def test_dates_are_those_of_the_calendar() -> None:
    days = [dt.datetime(1903, 1, 1, tzinfo=dt.UTC) + dt.timedelta(days=37 * i) for i in range(2000)]
    x = Preprocessing((Date("day"),)).encode({"day": np.array([day.timestamp() for day in days])}, "float64")
    np.testing.assert_array_equal(x, [[day.year, day.month, day.weekday(), 0] for day in days])


def test_an_offset_keeps_small_differences() -> None:
    cells = 1e8 + np.arange(4) / 8
    x = Preprocessing((Number("x", offset=1e8),)).encode({"x": cells}, "float32")
    np.testing.assert_array_equal(x[:, 0], np.arange(4) / 8)


def test_the_way_to_json_and_back() -> None:
    assert Preprocessing.from_dict(json.loads(json.dumps(EACH.as_dict()))) == EACH


@pytest.mark.parametrize("plain", [{}, {"columns": 3}, {"columns": [{"kind": "word", "name": "x"}]}, {"columns": [{}]}])
def test_what_cannot_be_that_is_refused(plain: dict[str, object]) -> None:
    with pytest.raises(DataError, match="not described"):
        Preprocessing.from_dict(plain)


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(DataError, match="no column 'age'"):
        Preprocessing((Number("age"),)).encode({"agee": np.zeros(1)}, "float32")
