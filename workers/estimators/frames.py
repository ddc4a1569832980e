"""Frames of pandas and polars that hold more than numbers: their columns become features as those of files do."""

import re
import warnings
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from common.data.preprocessing import Preprocessing
from common.errors import DataError, RankwiseError
from common.flat import Array
from common.wording import listed

TARGET = "(target of the fit)"
"""The column that stands for it while columns are decided; it is none of the frame's."""
LEFT_OUT = "left out: "
IN_PYTHON = (
    (r"give --missing ('.*?') if", r"put NaN in place of \1 if"),
    (r"--categorical ('.*?')(?=[;.,]|$| trains)", r"X[\1].astype('category')"),
    (r"--drop ('.*?')(?=[;.,]|$| leaves)", r"X.drop(columns=\1)"),
    (r"; see --features.*", ""),
)
"""How messages name what a command's options do."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the columns of a frame become features. ``columns``: what is told of each, see ``Raw``."""

    preprocessing: Preprocessing
    columns: list[dict[str, Any]] = field(default_factory=list)


def is_table(x: Any) -> bool:
    """Say whether ``x`` is a frame with texts, dates or missing cells: scikit-learn would refuse it."""
    if not is_frame(x):
        return False
    if _is_of(x, "polars"):
        return any(_is_more_than_numbers(column) for column in x.iter_columns())
    kinds = [getattr(kind, "kind", "O") for kind in x.dtypes]
    return any(kind not in "iufb" for kind in kinds) or bool(x.isna().to_numpy().any())


def _is_more_than_numbers(column: Any) -> bool:
    plain = column.dtype.is_numeric() or str(column.dtype) == "Boolean"
    return bool(not plain or column.null_count() or (column.dtype.is_float() and column.is_nan().any()))


def is_frame(x: Any) -> bool:
    """Say whether ``x`` is a frame of pandas or polars. Raises TypeError for one that is yet to be computed."""
    if _is_of(x, "polars") and hasattr(x, "collect"):
        raise TypeError("X: got a LazyFrame; give X.collect()")
    return hasattr(x, "columns") and (_is_of(x, "pandas") or _is_of(x, "polars"))


def _is_of(x: Any, library: str) -> bool:
    return any(kind.__module__.partition(".")[0] == library for kind in type(x).__mro__)


def decide(x: Any) -> Encoding:
    """Return what the columns of a frame become. Raises ValueError, and ImportError without polars."""
    frame, categorical = as_polars(x), _categorical(x)
    import polars as pl

    from workers.preparation import analyse, decide
    from workers.preparation.chosen import quoted
    from workers.preparation.options import Options

    whole = frame.with_columns(pl.Series(TARGET, np.arange(frame.height) % 7 / 2))
    options = Options(target=TARGET, index_column="keep", categorical=",".join(map(quoted, categorical)))
    try:
        plan = decide.decide(analyse.analyse(whole, options), options)
    except DataError as error:
        raise ValueError(told(error)) from error
    rows = [row for row in plan.columns if row.name != TARGET]
    why = {row.name: row.became.removeprefix(LEFT_OUT) for row in rows if row.became.startswith(LEFT_OUT)}
    if why:
        left_out = [f"{name!r} ({reason})" for name, reason in why.items()]
        warnings.warn(f"X: nothing is learned from {listed(left_out, 20)}", UserWarning, stacklevel=2)
    return Encoding(plan.preprocessing, [asdict(row) for row in rows])


def encode(x: Any, preprocessing: Preprocessing, missing: str = "") -> Array:
    """Return features, (n, n_features) float32, NaN for a missing number.

    An array will do where all columns are numbers. ``missing``: texts that stand for a missing cell beside the usual
    ones, with commas between. Raises ValueError where columns are missing, or hold what they did not in training.
    """
    if preprocessing.only_numbers and not is_frame(x):
        return _encode_array(x, preprocessing)
    frame = with_columns(x, [column.name for column in preprocessing.columns])
    from workers.preparation.checked_cells import checked_cells
    from workers.preparation.options import names_in

    try:
        return preprocessing.encode(checked_cells(frame, preprocessing.columns, tuple(names_in(missing))), "float32")
    except DataError as error:
        raise ValueError(told(error)) from error


def with_columns(x: Any, names: list[str]) -> Any:
    """Return a frame as polars has it, which must have these columns. Raises ValueError, and ImportError."""
    if not is_frame(x):
        raise ValueError(f"X: got {type(x).__name__}; this model takes a frame with the columns {', '.join(names)}")
    frame = as_polars(x)
    if absent := [name for name in names if name not in frame.columns]:
        raise ValueError(
            f"X: no column {', '.join(map(repr, absent))}, which the model was trained with; got "
            f"{', '.join(frame.columns)}"
        )
    return frame


def told(error: RankwiseError) -> str:
    """Return what is wrong with a frame, in the words of Python."""
    row, text = getattr(error, "row", None), str(error)
    for pattern, words in IN_PYTHON:
        text = re.sub(pattern, words, text)
    return f"X: {text}" if row is None else f"X, row {row}: {text}"


def _encode_array(x: Any, preprocessing: Preprocessing) -> Array:
    from sklearn.utils.validation import check_array

    columns = preprocessing.columns
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
    if _is_of(x, "polars"):
        return x.with_columns(pl.col(pl.Duration).dt.total_microseconds() / 1e6)
    names = list(map(str, x.columns))
    if len(set(names)) < len(names):
        raise ValueError(f"X: two columns are called {next(n for n in names if names.count(n) > 1)!r}; rename one")
    return pl.DataFrame([_series(name, x.iloc[:, i]) for i, name in enumerate(names)])


def _categorical(x: Any) -> list[str]:
    """Return the columns whose type says that they are categories, whatever their cells look like."""
    kinds = zip(x.columns, x.dtypes, strict=True)
    return [str(name) for name, kind in kinds if str(kind).partition("(")[0] in ("category", "Categorical", "Enum")]


def _series(name: str, column: Any) -> Any:
    """Return a column of pandas as polars has it."""
    import polars as pl

    kind, missing = getattr(column.dtype, "kind", "O"), column.isna().to_numpy()
    if kind in "iuf":
        return pl.Series(name, column.to_numpy(np.float64, na_value=np.nan)).fill_nan(None)
    if kind == "M":
        when = column.dt.tz_convert(None) if getattr(column.dt, "tz", None) is not None else column
        return pl.Series(name, when.to_numpy("datetime64[us]"))
    if kind == "m":
        return pl.Series(name, column.dt.total_seconds().to_numpy(np.float64, na_value=np.nan)).fill_nan(None)
    return pl.Series(
        name, [None if gone else str(cell) for cell, gone in zip(column, missing, strict=True)], dtype=pl.String
    )
