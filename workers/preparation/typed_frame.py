"""Columns of a table as a transformer of the user's own gets them: a pandas frame, typed as pandas reads a file.

But types follow from all rows of training, and what stands for a missing cell is what stands for one everywhere here.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl

from common.flat import Array
from workers.preparation.cells import category, texts
from workers.preparation.encode import as_numbers

NUMBER, WHOLE, BOOLEAN, DATE, TEXT, CATEGORY = "number", "whole", "boolean", "date", "text", "category"
"""Types: float64; int64, unless new rows have missing cells; bool, likewise; dates that a file stores as such; texts;
numbers that are names of categories, as texts."""
TRUTH = {"true": True, "false": False}


def typed_frame(
    frame: pl.DataFrame,
    columns: Sequence[tuple[str, str]],
    missing: tuple[str, ...],
    numbers: Callable[[pl.Series], Array] | None = None,
) -> Any:
    """Return the columns, each with its type. ``numbers``: reads one of numbers, and may refuse it."""
    import pandas as pd

    read = numbers or (lambda series: as_numbers(series, missing))
    made = {name: _column(frame[name], kind, missing, read) for name, kind in columns}
    return pd.DataFrame(made)


def _column(series: pl.Series, kind: str, missing: tuple[str, ...], numbers: Callable[[pl.Series], Array]) -> Any:
    import pandas as pd

    if kind in (NUMBER, WHOLE):
        found = numbers(series)
        whole = kind == WHOLE and bool((np.trunc(found) == found).all()) and bool((np.abs(found) < 2.0**63).all())
        return found.astype(np.int64) if whole else found
    if kind == DATE:
        return series.to_numpy()
    text = texts(series, missing)
    if kind == BOOLEAN:
        cells = [np.nan if cell is None else TRUTH.get(cell.lower(), cell) for cell in text.to_list()]
        return np.array(cells, bool if all(type(cell) is bool for cell in cells) else object)
    text = category(text) if kind == CATEGORY else text
    cells = [np.nan if cell is None else cell for cell in text.to_list()]
    return pd.Series(cells, dtype=pd.Series(["a"]).dtype)  # texts are of another dtype since pandas 3
