"""The file of a run that says which rows trained, validated and tested."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common import memory
from common.arrays_file import open_arrays
from common.data.dataset import Dataset
from common.data.scaling import Rows
from common.errors import BrokenFileError, DataError
from common.files import write_atomic
from common.run_files import SPLITS_NAME

NAMES = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class SplitRows:
    """Row numbers from 0, sorted: of the data, and behind these of the validation and of the test set that came apart.

    ``given``: (3,), rows of the data, of a validation and of a test set that came apart (0 without one). ``sha256``: of
    the data, as the log has it.
    """

    train: Rows
    validation: Rows
    test: Rows
    given: Rows
    sha256: str


def save_splits(folder: Path, data: Dataset) -> None:
    """Write the row numbers. Raises OSError."""
    rows = {name: np.sort(getattr(data, name)) for name in NAMES}
    given = np.array([data.given.own, data.given.validation or 0, data.given.test or 0])
    arrays = {**rows, "given": given, "sha256": np.array(data.sha256)}
    write_atomic(folder / SPLITS_NAME, lambda file: np.savez(file, allow_pickle=False, **arrays), sync=False)


def load_splits(folder: Path) -> SplitRows:
    """Read the row numbers of a run. Raises DataError, also if the run has none, as those of earlier versions."""
    path = folder / SPLITS_NAME
    try:
        with open_arrays(path) as arrays:
            memory.check(f"splits {path}", arrays.n_bytes())
            rows = [arrays.read(name, "i").astype(np.int64) for name in (*NAMES, "given")]
            sha256 = str(arrays.read("sha256", "U"))
    except BrokenFileError as error:
        there = "" if path.exists() else "; runs of earlier versions have none"
        raise DataError(f"{path}: not readable row numbers of the splits ({error}){there}") from error
    *splits, given = rows
    bad = any(own.ndim != 1 or (len(own) and (own[0] < 0 or (np.diff(own) <= 0).any())) for own in splits)
    if bad or given.shape != (3,) or any(len(own) and own[-1] >= given.sum() for own in splits):
        raise DataError(f"{path}: does not hold sorted row numbers of the splits")
    train, validation, test = splits
    return SplitRows(train, validation, test, given, sha256)
