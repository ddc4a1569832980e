"""The target of new rows, where the truth is known, as the model knows it: classes from 0, or numbers."""

from collections.abc import Callable

import numpy as np

from common.data.preprocessing import MISSING, UNKNOWN
from common.data.target import CLASSES
from common.errors import DataError
from common.flat import Array
from common.nn.model_file import ModelFile


def as_truth(values: Array, model: ModelFile, where: Callable[[int], str]) -> Array:
    """Return codes of classes, (n,) int64, MISSING or UNKNOWN among them; or numbers, (n, n_targets), NaN if missing.

    ``where``: names a row in messages. Raises DataError for what is no target of this model.
    """
    if model.facts.task == CLASSES:
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if values.ndim != 1:
            raise DataError(f"{where(0)}: y has the shape {values.shape}; the model predicts one label a row")
        return class_codes(values, model.labels)
    values = values.reshape(len(values), -1)
    if values.shape[1] != model.n_targets or values.dtype.kind not in "fiub":
        raise DataError(
            f"{where(0)}: y has the shape {values.shape} of {values.dtype}; the model predicts {model.n_targets} "
            "numbers"
        )
    numbers = values.astype(np.float64)
    wrong = np.argwhere(np.isinf(numbers))
    if len(wrong):
        raise DataError(f"{where(int(wrong[0][0]))}: y: got {numbers[tuple(wrong[0])]}; only finite numbers")
    return numbers


def class_codes(values: Array, labels: Array) -> Array:
    """Return the place of each value among the labels, MISSING for none and UNKNOWN for another one."""
    known = {key(label): place for place, label in enumerate(labels.tolist())}
    different, places = np.unique(values, return_inverse=True)
    codes = [MISSING if one in ("", None) or one != one else known.get(key(one), UNKNOWN) for one in different.tolist()]
    return np.array(codes, np.int64)[places.reshape(-1)]


def key(label: object) -> str:
    """Return a label as a text: 3.0, 3 and "3" are the same one."""
    if isinstance(label, bool):
        return str(label)
    if isinstance(label, float) and label.is_integer():
        return str(int(label))
    return str(label)
