"""Checks the arrays of a data source, and takes their fingerprint."""

import hashlib
from collections.abc import Sequence

import numpy as np

from common.data.scaling import all_finite, row_blocks
from common.data.stacked import Matrix, Stacked, is_mapped
from common.errors import DataError
from common.flat import Array


def check_arrays(name: str, x: Matrix, y: Array, feature_names: Sequence[str], suffix: str, *, later: bool) -> None:
    """Check that features and their target are finite numbers in arrays that fit together.

    ``name``: of the data. ``suffix``: of the arrays' names. ``later``: whether features are looked at together with
    their moments, as those of maps are. Raises DataError.
    """
    for label, array in (("X", x), ("y", y)):
        if array.dtype.kind not in "fiub":
            takes = "numbers" if label == "X" else "numbers, or texts (of dtype str: y.astype(str))"
            raise DataError(f"{name}: {label}{suffix} holds {array.dtype}; it takes {takes}")
    if x.ndim != 2 or x.shape[1] == 0:
        raise DataError(f"{name}: X{suffix} has shape {x.shape}; it takes (rows, features){as_rows(x.shape)}")
    if y.ndim not in (1, 2) or len(y) != len(x) or 0 in y.shape[1:]:
        allowed = f"({len(x)},) or ({len(x)}, targets), as X{suffix} has rows"
        raise DataError(f"{name}: y{suffix} has shape {y.shape}; it takes {allowed}")
    for label, array in (("X", x), ("y", y if y.ndim == 2 else y[:, None])):
        if isinstance(array, Stacked) or (label == "X" and (later or is_mapped(array))):
            continue
        if array.dtype.kind == "f" and not all_finite(array):
            row, column = np.argwhere(~np.isfinite(array))[0].tolist()
            named = label + suffix == "X" and column < len(feature_names)
            where = f"{label}{suffix}, row {row}, column {repr(feature_names[column]) if named else column}"
            raise DataError(f"{name}: {where}: got {array[row, column]}; only finite numbers, clean the file")


def as_rows(shape: tuple[int, ...]) -> str:
    """Return how a message goes on that makes rows of pictures and the like."""
    return "; X.reshape(len(X), -1) makes such rows" if len(shape) > 2 else ""


def fingerprint(*arrays: Array) -> str:
    """Return the SHA-256 of shapes, dtypes and bytes of the data as read; which rows are test rows is not included."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape}{array.dtype.str}".encode())
        rows = array.reshape(len(array), -1)
        for block in row_blocks(*rows.shape):  # arrays of Fortran's order are copied, piece by piece
            digest.update(np.ascontiguousarray(rows[block]).view(np.uint8).reshape(-1).data)
    return digest.hexdigest()
