"""Columns of a table as inputs of an ONNX graph, and the features that become of them, as ``Preprocessing`` has it."""

from collections.abc import Callable
from typing import Any

import numpy as np

from common.data.preprocessing import DAY_S, MISSING, UNKNOWN, Category, Column, Date, Number, Preprocessing
from common.errors import ConfigError
from workers.exporting.graph import DOUBLE, FLOAT, INT64, TEXT, Graph

DAYS_TO_1970 = 719468
"""From the first of March of the year 0. Years begin in March here, so that a leap day is the last of one."""
CYCLE = 146097
"""Days of 400 years, after which the calendar repeats."""


def encoded(graph: Graph, preprocessing: Preprocessing) -> str:
    """Add an input for each column, (rows, 1); return the features, (rows, n_features) float32.

    Numbers are doubles, NaN for a missing one; categories texts, empty for a missing one; dates are doubles, seconds
    since 1970, NaN for a missing one. Raises ConfigError for a column that ONNX has no operator for.
    """
    makers: dict[type[Column], Callable[[Graph, Any], list[str]]] = {Number: _number, Category: _category, Date: _date}
    parts = [part for column in preprocessing.columns for part in makers[type(column)](graph, column)]
    return graph.node("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]


def _flag(graph: Graph, value: str) -> str:
    """Return truth as 0 or 1."""
    return graph.cast(value, FLOAT)


def _number(graph: Graph, column: Number) -> list[str]:
    cells = graph.input(column.name, DOUBLE, 1)
    parts = [graph.cast(graph.node("Sub", cells, np.float64(column.offset)), FLOAT)]
    return [*parts, _flag(graph, graph.node("IsNaN", cells))] if column.missing else parts


def _category(graph: Graph, column: Category) -> list[str]:
    if column.buckets:
        raise ConfigError(
            f"onnx: column {column.name!r} has too many texts for a feature each, so they are hashed by CRC-32, for "
            "which ONNX has no operator; leave the column out (--drop), or use --sklearn or workers.predict"
        )
    cells = graph.input(column.name, TEXT, 1)
    texts = {"": MISSING} | {text: i for i, text in enumerate(column.values)}
    codes = graph.node(
        "LabelEncoder", cells, domain="ai.onnx.ml", keys_strings=list(texts), values_int64s=list(texts.values()),
        default_int64=UNKNOWN,
    )  # fmt: skip
    places = [*range(len(column.values)), *([MISSING] if column.missing else [])]
    return [_flag(graph, graph.node("Equal", codes, np.array([places], np.int64)))] if places else []


def _date(graph: Graph, column: Date) -> list[str]:
    cells = graph.input(column.name, DOUBLE, 1)
    absent = graph.node("IsNaN", cells)
    seconds = graph.node("Floor", graph.node("Where", absent, np.zeros((1, 1)), cells))
    day = graph.node("Floor", graph.node("Div", seconds, np.float64(DAY_S)))
    values = {
        **_of_day(graph, graph.cast(day, INT64)),
        "seconds": graph.node("Sub", seconds, graph.node("Mul", day, np.float64(DAY_S))),
    }
    nothing = np.full((1, 1), np.nan, np.float32)
    parts = [graph.node("Where", absent, nothing, graph.cast(values[part], FLOAT)) for part in column.parts]
    return [*parts, _flag(graph, absent)] if column.missing else parts


def _of_day(graph: Graph, days: str) -> dict[str, str]:
    """Return year, month and weekday of days since 1970.

    By the days of 400 years; see E. Richards, Mapping Time (1998), or ``civil_from_days`` of H. Hinnant. All whole
    numbers are positive from the year 0 on, where division rounds down.
    """

    def do(operator: str, a: str, b: "str | int") -> str:
        return graph.node(operator, a, b if isinstance(b, str) else np.int64(b))

    from_0 = do("Add", days, DAYS_TO_1970)
    cycles = do("Div", from_0, CYCLE)
    day = do("Sub", from_0, do("Mul", cycles, CYCLE))
    leaps = do("Sub", do("Div", day, 1460), do("Div", day, 36524))
    year = do("Div", do("Sub", day, do("Add", leaps, do("Div", day, CYCLE - 1))), 365)
    of_years = do("Sub", do("Add", do("Mul", year, 365), do("Div", year, 4)), do("Div", year, 100))
    month = do("Div", do("Add", do("Mul", do("Sub", day, of_years), 5), 2), 153)  # from 0, March
    next_year = graph.cast(graph.node("Greater", month, np.int64(9)), INT64)
    return {
        "year": do("Add", do("Add", year, do("Mul", cycles, 400)), next_year),
        "month": do("Sub", do("Add", month, 3), do("Mul", next_year, 12)),
        "weekday": do("Mod", do("Add", days, 3), 7),
    }
