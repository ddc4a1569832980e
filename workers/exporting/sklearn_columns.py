"""Columns of a table as scikit-learn's own transformers encode them, in the order of the features of Preprocessing."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from common.data.preprocessing import Category, Column, Date, Number, Preprocessing
from common.flat import Array


def without_counterpart(preprocessing: Preprocessing) -> list[str]:
    """Return the columns that scikit-learn has no transformer for: dates, and texts that are hashed."""
    return [
        column.name
        for column in preprocessing.columns
        if isinstance(column, Date) or (isinstance(column, Category) and column.buckets)
    ]


def offsets(preprocessing: Preprocessing) -> Array:
    """Return what Preprocessing takes off each feature, (n_features,), and scikit-learn's transformers do not."""
    off: list[float] = []
    for column in preprocessing.columns:
        others = [0.0] * len(column.features())
        off += [column.offset, *others[1:]] if isinstance(column, Number) else others
    return np.array(off)


def encoder(preprocessing: Preprocessing, fill: Array) -> tuple[Any, Array]:
    """Return a ColumnTransformer that takes a frame as pandas reads it from a file, and which feature each output is.

    ``fill``: of each feature, (n_features,), what stands for a missing number, in the column's own unit. Raises
    ImportError.
    """
    import pandas as pd
    from sklearn.compose import ColumnTransformer

    parts: list[tuple[str, Any, list[str]]] = []
    cells: dict[str, list[Any]] = {}
    order: list[int] = []
    for column in preprocessing.columns:
        if not column.features():
            continue
        first = len(order)
        part, cells[column.name], places = _fitted_to(column, float(fill[first]))
        parts.append((f"column {len(parts)}", part, [column.name]))
        order += [first + place for place in places]
    made = ColumnTransformer(parts, sparse_threshold=0).fit(pd.DataFrame(cells))
    assert made.transform(pd.DataFrame(cells)).shape == (2, len(order))
    return made, np.array(order)


def _fitted_to(column: Column, fill: float) -> tuple[Any, list[Any], list[int]]:
    """Return a transformer, two cells to which it is to be fitted, and which feature of the column each output is."""
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import OneHotEncoder

    if isinstance(column, Number):
        indicator = column.missing
        cells = [fill, np.nan if indicator else fill]
        return SimpleImputer(add_indicator=indicator), cells, [*range(1 + indicator)]
    assert isinstance(column, Category)
    values = _as_read(column.values)
    places = sorted(range(len(values)), key=values.__getitem__)  # numbers are not in the order of texts
    known = [*(values[place] for place in places), *[np.nan] * column.missing]
    categories = np.array(known, object if isinstance(known[0], str | bool) or column.missing else None)
    encoder = OneHotEncoder(categories=[categories], handle_unknown="ignore", sparse_output=False)
    return encoder, [known[0], known[-1]], [*places, *range(len(values), len(known))]


def _as_read(values: Sequence[str]) -> list[Any]:
    """Return texts as pandas reads a column of them: as numbers or truth values, if it takes all for that."""
    import pandas as pd

    text = io.StringIO()
    pd.Series(values, name="values", dtype=object).to_csv(text, index=False)
    text.seek(0)
    read = pd.read_csv(text, skip_blank_lines=False)["values"]
    apart = len(read) == len(values) == read.nunique()  # 01 and 1 are one number, and NA may be none at all
    return list(read) if apart else list(values)
