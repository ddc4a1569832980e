"""Reads .npz files of NumPy arrays."""

from pathlib import Path

from common import memory
from common.arrays_file import ArraysFile, open_arrays
from common.config import RunConfig
from common.data.dataset import Raw, bytes_beside
from common.errors import BrokenFileError, DataError

LISTED = 20
"""Names of arrays that a message lists."""


def read_npz(path: Path, config: RunConfig) -> Raw:
    """Read arrays ``X``, ``y`` and, if there, ``X_test``, ``y_test``.

    Raises DataError, and MemoryLimitError before memory is taken for too much.
    """
    try:
        with open_arrays(path) as arrays:
            have = set(arrays.names)
            if not {"X", "y"} <= have or ("X_test" in have) != ("y_test" in have):
                names = [name[:80] for name in sorted(have)[:LISTED]] + ["..."] * (len(have) > LISTED)
                raise DataError(
                    f"{path}: holds {', '.join(names) or 'nothing'}; it takes X and y, and X_test with y_test"
                )
            _check_memory(path, arrays, config)
            test = (arrays.read("X_test"), arrays.read("y_test")) if "X_test" in have else None
            return Raw(path.name, arrays.read("X"), arrays.read("y"), test)
    except BrokenFileError as error:
        raise DataError(f"{path}: not a readable .npz file of plain arrays ({error})") from error


def _check_memory(path: Path, arrays: ArraysFile, config: RunConfig) -> None:
    names = [name for name in ("X", "y", "X_test", "y_test") if name in arrays.names]
    shapes = [arrays.shape(name) for name in names]  # which also looks whether they are as long as they claim
    read = arrays.n_bytes(*names)
    rows = sum(shape[0] for shape in shapes[::2] if shape)
    features = shapes[0][1] if len(shapes[0]) == 2 else 0
    beside = bytes_beside(config, rows, features, arrays.n_bytes("y"))
    if len(names) > 2:  # rows of the test set are put behind the others
        beside = max(beside, read)
    memory.check(f"data {path}", read, beside, "arrays of float32, which take half of float64")
