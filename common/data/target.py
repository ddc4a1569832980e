"""Decides whether a target is classes or numbers, by its values whatever their type, and turns labels into classes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from common.config import RunConfig
from common.errors import DataError
from common.flat import Array
from common.wording import count

FEW, FEW_ROWS = 20, 2
"""Different whole numbers that are taken for classes, and how many rows each must have on average."""
MOST, MOST_ROWS = 1000, 10
"""The same where they are exactly 0 to K-1 or 1 to K, as labels are numbered."""
LABELS_WITHIN = 2**53
"""Labels lie between minus this and this: every whole number in there has a float64 of its own."""
LISTED = 8
"""Labels that a message lists."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a target is ``classes`` or numbers; ``note`` says so, why, and what decides otherwise."""

    classes: bool
    note: str


def decide(config: RunConfig, name: str, y: Array, n_test: int = 0) -> Decision:
    """Decide what the target of all rows is: what model or loss ask for, or else by its values.

    ``auto`` takes one column of whole numbers for classes if at most ``FEW`` are different and each has ``FEW_ROWS``
    rows on average; or if they are 0 to K-1 or 1 to K, with K up to ``MOST`` and ``MOST_ROWS`` rows each. Two different
    whole numbers are classes always. Everything else is a regression. ``n_test``: last rows that came as a test set.
    Raises DataError if all rows have the same.
    """
    if asked := _asked(config):
        classes = asked != "--loss mse" and asked != "--model linear"
        return Decision(classes, f"Task: {'classes' if classes else 'regression'}, because of {asked}.")
    n = f"{len(y):,} rows"
    if y.ndim == 2 and y.shape[1] > 1:
        note = f"Task: regression, because the target has {y.shape[1]} columns; classes take one column of labels."
        one_hot = y.dtype.kind in "iub" or np.isin(y, (0, 1)).all()
        if one_hot and (np.count_nonzero(y, axis=1) == 1).all() and (y.sum(axis=1) == 1).all():
            note += " The columns look like one-hot classes: to train classes, save the label of each row as y."
        return Decision(False, note)
    values = y.reshape(-1)
    if (values == values[0]).all():
        raise DataError(
            f"{name}: the target is {values[0]} in all {n}, so there is nothing to learn; check which column it is, "
            "or train on it all the same with --loss mse"
        )
    fraction = np.flatnonzero(values != np.floor(values))
    if len(fraction):
        shown = f"{values[fraction[0]]:.6g} in {_row(int(fraction[0]), len(y), n_test)}"
        return Decision(
            False, f"Task: regression, because the target has fractions ({shown}); only whole numbers can be classes."
        )
    different = np.unique(values)
    k = len(different)
    counted = f"{k} different whole numbers in {n}"
    if _few(different, len(values)):
        return Decision(True, f"Task: classes, because the target has {counted}; --loss mse trains a regression.")
    if not _have_float64(different):
        return Decision(False, f"Task: regression, because the target has {counted}, and labels lie within 2^53.")
    otherwise = "--loss cross-entropy trains classes" if 2 * k <= len(y) else "classes need two rows each on average"
    return Decision(False, f"Task: regression, because the target has {counted}, too many for labels; {otherwise}.")


def _asked(config: RunConfig) -> str:
    """Return the option that decides, if one does."""
    if config.model in ("linear", "softmax", "logistic"):
        return f"--model {config.model}"
    return "" if config.loss == "auto" else f"--loss {config.loss}"


def _few(different: Array, n: int) -> bool:
    """Say whether whole numbers, sorted, each once, are few enough in ``n`` rows to be class labels."""
    k, low, high = len(different), float(different[0]), float(different[-1])
    if not _have_float64(different):
        return False
    numbered = low in (0, 1) and high - low == k - 1
    return k == 2 or (k <= FEW and n >= FEW_ROWS * k) or (numbered and k <= MOST and n >= MOST_ROWS * k)


def _have_float64(different: Array) -> bool:
    """Say whether whole numbers, sorted, are within the limits of labels."""
    return max(abs(float(different[0])), abs(float(different[-1]))) < LABELS_WITHIN


def _row(i: int, n: int, n_test: int) -> str:
    """Return a row as the file has it: row ``i`` of ``n``, of which the last ``n_test`` came as a test set."""
    return f"row {i}" if i < n - n_test else f"row {i - n + n_test} of y_test"


def to_classes(config: RunConfig, name: str, y: Array, n_test: int = 0) -> tuple[Array, Array]:
    """Return each row's class, int64 from 0, and the labels, int64: the different whole numbers in the data, sorted.

    ``n_test``: see ``decide``. Raises DataError for what cannot be labels.
    """
    regression = f"for a regression: {'--model linear' if config.model in ('softmax', 'logistic') else '--loss mse'}"
    if y.ndim != 1:
        raise DataError(f"{name}: y has shape {y.shape}; labels of classes take one column ({regression})")
    with np.errstate(over="ignore"):
        numbers = y.astype(np.float64)
    wrong = np.flatnonzero((y != np.floor(y)) | ~(np.abs(numbers) < LABELS_WITHIN))
    if len(wrong):
        label = f"label {y[wrong[0]]} of {_row(int(wrong[0]), len(y), n_test)}"
        raise DataError(
            f"{name}: {label} is no class label; these are whole numbers between -2^53 and 2^53 ({regression})"
        )
    labels, classes = np.unique(y.astype(np.int64), return_inverse=True)
    if len(labels) == 1:
        raise DataError(
            f"{name}: the label is {labels[0]} in all {len(y):,} rows; classes need at least two ({regression})"
        )
    if len(labels) > 2 and 2 * len(labels) > len(y):
        raise DataError(
            f"{name}: {len(labels):,} different labels in {len(y):,} rows are too many; classes need two rows each on "
            f"average ({regression})"
        )
    return classes.reshape(-1).astype(np.int64), labels


def label_notes(labels: Array, of_training: Array, where: Callable[[int], int]) -> list[str]:
    """Return what is to be said of labels: how they are numbered, and which have no rows, or none to train on.

    ``of_training``: training rows of each class. ``where``: returns in how many rows a class is in all.
    """
    notes, k = [], len(labels)
    if labels[0] != 0 or labels[-1] != k - 1:
        notes.append(
            f"Labels {listed(labels)} are the classes 0 to {k - 1} of the model, in this order; model.npz keeps them "
            "as classes."
        )
    low, high = int(labels[0]), int(labels[-1])
    if low >= 0 and k < high - low + 1 <= 2 * k:
        missing = np.setdiff1d(np.arange(low, high + 1), labels)
        notes.append(f"No row has the label {listed(missing)}: the model has outputs for the {k} labels that occur.")
    unseen = np.flatnonzero(of_training == 0)
    if len(unseen):
        rows = sum(where(int(c)) for c in unseen)
        others = f"{count(rows, 'other row')} {'has' if rows == 1 else 'have'}"
        notes.append(
            f"Warning: no training row has the label {listed(labels[unseen])}, which {others}, so "
            "that the model cannot learn it; lower --test-fraction and --validation-fraction, or give more rows."
        )
    return notes


def listed(labels: Array) -> str:
    """Return labels for a message, of many only the first and the last."""
    texts = [str(label) for label in labels.tolist()]
    if len(texts) <= LISTED:
        return ", ".join(texts)
    return f"{', '.join(texts[: LISTED - 1])}, ... {texts[-1]}"
