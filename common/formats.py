"""Readers of data: built-in sets, .npz and .csv files; each returns arrays and checks nothing but the file."""

import csv
import zipfile
import zlib
from importlib import resources
from pathlib import Path

import numpy as np

from common.config import BUILT_IN_DATA, RunConfig, file_kind, nearest
from common.dataset import Raw
from common.errors import DataError
from common.reference import draw_ranks

_BROKEN = (
    OSError, ValueError, EOFError, KeyError, TypeError, AttributeError, RuntimeError, MemoryError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What NumPy and zipfile are seen to raise on files that are no .npz (a lone .npy has no ``with``: TypeError)."""


def read(config: RunConfig, rank: int, size: int) -> Raw:
    """Read the configured data on this rank.

    Raises DataError if the file is missing, broken or of no known kind.
    """
    if config.data == "digits":
        return _digits()
    if config.data == "reference":
        return draw_ranks(rank, size)
    path, kind = Path(config.data), file_kind(config.data)
    if not kind:
        raise DataError(
            f"data: unknown set {config.data!r} {nearest(config.data, BUILT_IN_DATA)}; "
            f"choose {' or '.join(BUILT_IN_DATA)}, or give the path of an .npz or .csv file".replace(" ;", ";")
        )
    if not path.is_file():
        raise DataError(f"data: no file {path}; the path is taken from where the job was started")
    return _npz(path) if kind == ".npz" else _csv(path, config.target)


def _digits() -> Raw:
    """1,797 handwritten digits, 8x8 pixels of 0 to 16 (UCI optical digits, CC BY 4.0: see NOTICE)."""
    with resources.files("common").joinpath("data/digits.npz").open("rb") as file, np.load(file) as arrays:
        return Raw("digits", arrays["X"].astype(np.float32), arrays["y"])


def _npz(path: Path) -> Raw:
    """Read arrays ``X``, ``y`` and, if there, ``X_test``, ``y_test``."""
    try:
        # opened here: np.load leaves the file open when it is broken
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            have = set(arrays.files)
            missing = {"X", "y"} - have
            if missing or ("X_test" in have) != ("y_test" in have):
                raise DataError(
                    f"{path}: holds {', '.join(sorted(have)) or 'nothing'}; it takes X and y, and X_test with y_test"
                )
            test = {"x_test": arrays["X_test"], "y_test": arrays["y_test"]} if "X_test" in have else {}
            return Raw(path.name, arrays["X"], arrays["y"], **test)
    except DataError:
        raise
    except _BROKEN as error:
        raise DataError(f"{path}: not a readable .npz file of plain arrays ({error})") from error


def _csv(path: Path, target: str) -> Raw:
    """Read a table of numbers under one line of column names."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = csv.reader(file)
            names = [name.strip() for name in next(header, [])]
            empty = not any(line.strip() for line in file)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a readable .csv file ({error})") from error
    if not target:
        raise DataError(f"target: {path} needs one; name the column with --target: {', '.join(names[:20])}")
    if target not in names:
        raise DataError(
            f"target: no column {target!r} in {path} {nearest(target, names)}; it has {', '.join(names[:20])}".replace(
                " ;", ";"
            )
        )
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
