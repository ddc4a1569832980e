"""Frames of pandas and polars that hold more than numbers: their columns become features as those of files do."""

from typing import Any

import numpy as np

from common.data.preprocessing import Preprocessing
from common.errors import DataError
from common.flat import Array

TARGET = "(target of the fit)"
"""The column that stands for it while columns are decided; it is none of the frame's."""


def is_table(x: Any) -> bool:
    """Say whether ``x`` is a frame with texts, dates or missing cells: scikit-learn would refuse it."""
    if not is_frame(x):
        return False
    if hasattr(x, "iter_columns"):  # of polars
        return any(not (c.dtype.is_numeric() or str(c.dtype) == "Boolean") or c.null_count() for c in x.iter_columns())
    kinds = [getattr(kind, "kind", "O") for kind in x.dtypes]
    return any(kind not in "iufb" for kind in kinds) or bool(x.isna().to_numpy().any())


def is_frame(x: Any) -> bool:
    """Say whether ``x`` is a frame of pandas or polars."""
    return hasattr(x, "columns") and type(x).__module__.partition(".")[0] in ("pandas", "polars")


def decide(x: Any) -> Preprocessing:
    """Return what the columns of a frame become. Raises ValueError, and ImportError without polars."""
    from workers.preparation import analyse, decide
    from workers.preparation.options import Options

    frame = as_polars(x)
    import polars as pl

    whole = frame.with_columns(pl.Series(TARGET, np.arange(frame.height) % 7 / 2))
    options = Options(target=TARGET, index_column="keep")
    try:
        return decide.decide(analyse.analyse(whole, options), options).preprocessing
    except DataError as error:
        raise ValueError(f"X: {error}") from error


def encode(x: Any, preprocessing: Preprocessing) -> Array:
    """Return features, (n, n_features) float32, NaN for a missing number. Raises ValueError where columns are missing.

    An array will do where all columns are numbers.
    """
    if not is_frame(x):
        return _encode_array(x, preprocessing)
    from workers.preparation.encode import cells

    try:
        return preprocessing.encode(cells(as_polars(x), preprocessing.columns), "float32")
    except DataError as error:
        raise ValueError(
            f"X: {error}, which the model was trained with; got {', '.join(map(str, x.columns))}"
        ) from error


def _encode_array(x: Any, preprocessing: Preprocessing) -> Array:
    from sklearn.utils.validation import check_array

    columns = preprocessing.columns
    if not preprocessing.only_numbers:
        names = ", ".join(column.name for column in columns)
        raise ValueError(f"X: got {type(x).__name__}; this model takes a frame with the columns {names}")
    x = check_array(x, dtype=np.float64, ensure_all_finite="allow-nan")
    if x.shape[1] != len(columns):
        raise ValueError(f"X has {x.shape[1]} features, but this model is expecting {len(columns)} features as input")
    return preprocessing.encode_array(x, "float32")


def as_polars(x: Any) -> Any:
    """Return a frame as polars has it. Raises ImportError without polars, ValueError for two columns of one name."""
    try:
        import polars as pl
    except ImportError as error:
        raise ImportError(
            "X holds more than numbers, which polars prepares; pip install 'rankwise[data]', or bring it to numbers "
            "first, with a ColumnTransformer"
        ) from error
    if isinstance(x, pl.DataFrame):
        return x
    names = list(map(str, x.columns))
    if len(set(names)) < len(names):
        raise ValueError(f"X: two columns are called {next(n for n in names if names.count(n) > 1)!r}; rename one")
    return pl.DataFrame([_series(name, x.iloc[:, i]) for i, name in enumerate(names)])


def _series(name: str, column: Any) -> Any:
    """Return a column of pandas as polars has it."""
    import polars as pl

    kind, missing = getattr(column.dtype, "kind", "O"), column.isna().to_numpy()
    if kind in "iuf":
        return pl.Series(name, column.to_numpy(np.float64, na_value=np.nan)).fill_nan(None)
    if kind == "M":
        when = column.dt.tz_localize(None) if getattr(column.dt, "tz", None) is not None else column
        return pl.Series(name, when.to_numpy("datetime64[us]"))
    return pl.Series(
        name, [None if gone else str(cell) for cell, gone in zip(column, missing, strict=True)], dtype=pl.String
    )
