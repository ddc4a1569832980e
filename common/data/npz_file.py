"""Reads .npz files of NumPy arrays."""

from pathlib import Path

from common import memory
from common.arrays_file import ArraysFile, open_arrays
from common.config import RunConfig
from common.data.dataset import Raw, bytes_beside
from common.data.named_arrays import SETS, check_names, read_arrays
from common.errors import BrokenFileError, DataError


def read_npz(path: Path, config: RunConfig) -> Raw:
    """Read arrays ``X``, ``y`` and, if there, those of a validation and a test set, and weights.

    ``--weight``, ``--group`` and ``--time`` name arrays with one number for each row of ``X``; those of a validation or
    test set end with ``_val`` or ``_test``. Raises DataError, and MemoryLimitError before memory is taken for too much.
    """
    try:
        with open_arrays(path) as arrays:
            check_names(str(path), arrays.names)
            _check_memory(path, arrays, config)
            return read_arrays(str(path), path.name, arrays, config)
    except BrokenFileError as error:
        raise DataError(f"{path}: not a readable .npz file of plain arrays ({error})") from error


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
