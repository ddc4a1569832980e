"""Reads .npz files of NumPy arrays."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from common.data.dataset import Raw
from common.errors import DataError
from common.files import open_regular

BROKEN = (
    OSError, ValueError, EOFError, KeyError, TypeError, AttributeError, RuntimeError, MemoryError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What NumPy and zipfile are seen to raise on files that are no .npz (a lone .npy has no ``with``: TypeError)."""


def read_npz(path: Path) -> Raw:
    """Read arrays ``X``, ``y`` and, if there, ``X_test``, ``y_test``."""
    try:
        # opened here: np.load leaves the file open when it is broken
        with open_regular(path) as file, np.load(file, allow_pickle=False) as arrays:
            have = set(arrays.files)
            if not {"X", "y"} <= have or ("X_test" in have) != ("y_test" in have):
                raise DataError(
                    f"{path}: holds {', '.join(sorted(have)) or 'nothing'}; it takes X and y, and X_test with y_test"
                )
            test = (arrays["X_test"], arrays["y_test"]) if "X_test" in have else None
            return Raw(path.name, arrays["X"], arrays["y"], test)
    except BROKEN as error:
        raise DataError(f"{path}: not a readable .npz file of plain arrays ({error})") from error
