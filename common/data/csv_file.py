"""Reads .csv files: a table of numbers under one line of column names."""

import csv
from pathlib import Path

import numpy as np

from common.config import nearest
from common.data.dataset import Raw
from common.errors import DataError


def read_csv(path: Path, target: str) -> Raw:
    """Read a table whose column ``target`` is to be predicted."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = csv.reader(file)
            names = [name.strip() for name in next(header, [])]
            empty = not any(line.strip() for line in file)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a readable .csv file ({error})") from error
    listed = ", ".join(names[:20])
    if not target:
        raise DataError(f"target: {path} needs one; name the column with --target: {listed}")
    if target not in names:
        raise DataError(f"target: no column {target!r} in {path}{nearest(target, names)}; it has {listed}")
    if len(set(names)) < len(names):
        raise DataError(f"{path}: two columns have the same name; the first line takes one name a column")
    if empty:
        raise DataError(f"{path}: no rows")
    try:
        table = np.loadtxt(
            path, delimiter=",", skiprows=header.line_num, ndmin=2, quotechar='"', comments=None, encoding="utf-8-sig"
        )
    except (OSError, ValueError, MemoryError) as error:
        raise DataError(f"{path}: not a table of numbers ({error})") from error
    if table.shape[1] != len(names):
        raise DataError(f"{path}: {len(names)} column names, but rows of {table.shape[1]} numbers")
    column = names.index(target)
    y = table[:, column]
    if np.array_equal(y, np.round(y)) and np.abs(y).max() < 2**53:  # a whole-number column is class numbers by default
        y = y.astype(np.int64)
    return Raw(path.name, np.delete(table, column, axis=1), y, feature_names=names[:column] + names[column + 1 :])
