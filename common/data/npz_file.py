"""Reads .npz files of NumPy arrays."""

from pathlib import Path

import numpy as np

from common import memory
from common.arrays_file import NUMBERS, ArraysFile, open_arrays
from common.config import RunConfig
from common.data.dataset import Raw, bytes_beside
from common.errors import BrokenFileError, DataError
from common.flat import Array
from common.option import nearest

LISTED = 20
"""Names of arrays that a message lists."""
SETS = ("_val", "_test")
"""What the names of arrays end with that are of a validation or a test set."""
SAMPLE_WEIGHT = "sample_weight"
"""The array of weights that needs no ``--weight``."""


def read_npz(path: Path, config: RunConfig) -> Raw:
    """Read arrays ``X``, ``y`` and, if there, those of a validation and a test set, and weights.

    ``--weight``, ``--group`` and ``--time`` name arrays with one number for each row of ``X``; those of a validation or
    test set end with ``_val`` or ``_test``. Raises DataError, and MemoryLimitError before memory is taken for too much.
    """
    try:
        with open_arrays(path) as arrays:
            have = set(arrays.names)
            if not {"X", "y"} <= have or any((f"X{end}" in have) != (f"y{end}" in have) for end in SETS):
                raise DataError(
                    f"{path}: holds {_listed(have) or 'nothing'}; it takes X and y, and X_test with y_test, X_val with "
                    "y_val"
                )
            _check_memory(path, arrays, config)
            validation, test = (
                (arrays.read(f"X{end}"), arrays.read(f"y{end}")) if f"X{end}" in have else None for end in SETS
            )
            weight = config.weight or (SAMPLE_WEIGHT if SAMPLE_WEIGHT in have else "")
            return Raw(
                path.name, arrays.read("X"), arrays.read("y"), test, validation=validation,
                weight=_by_row(path, arrays, "weight", weight),
                group=_by_row(path, arrays, "group", config.group),
                time=_by_row(path, arrays, "time", config.time),
            )  # fmt: skip
    except BrokenFileError as error:
        raise DataError(f"{path}: not a readable .npz file of plain arrays ({error})") from error


def _by_row(path: Path, arrays: ArraysFile, option: str, name: str) -> Array | None:
    """Return an array of one number a row; with those of the sets that came, if the file has them."""
    if not name:
        return None
    have = set(arrays.names)
    if name not in have:
        raise DataError(f"{option}: no array {name!r} in {path}{nearest(name, have)}; it holds {_listed(have)}")
    ends = [end for end in SETS if f"X{end}" in have]
    named = [name + end for end in ends if name + end in have]
    if named and len(named) < len(ends):
        raise DataError(f"{path}: holds {name} and {named[0]}; give one for each set, or for X alone")
    parts = []
    for part, of in zip([name, *named], ["X", *(f"X{end}" for end in ends)], strict=False):
        shape, n = arrays.shape(part), arrays.shape(of)[:1]
        if shape != n:
            raise DataError(f"{path}: {part} has shape {shape}; it takes {n}, one number for each row of {of}")
        parts.append(arrays.read(part, NUMBERS))
    return np.concatenate(parts) if named else parts[0]


def _listed(have: set[str]) -> str:
    return ", ".join([name[:80] for name in sorted(have)[:LISTED]] + ["..."] * (len(have) > LISTED))


def _check_memory(path: Path, arrays: ArraysFile, config: RunConfig) -> None:
    names = [name + end for end in ("", *SETS) for name in ("X", "y") if name + end in arrays.names]
    shapes = [arrays.shape(name) for name in names]  # which also looks whether they are as long as they claim
    read = arrays.n_bytes(*names)
    rows = sum(shape[0] for shape in shapes[::2] if shape)
    features = shapes[0][1] if len(shapes[0]) == 2 else 0
    beside = bytes_beside(config, rows, features, arrays.n_bytes("y"))
    if len(names) > 2:  # rows of other sets are put behind the others
        beside = max(beside, read)
    memory.check(f"data {path}", read, beside, "arrays of float32, which take half of float64")
