"""Decides whether a target is classes or numbers, by its values whatever their type, and turns labels into classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.config import RunConfig
from common.data import whole_numbers
from common.data.scaling import Rows
from common.data.split import Given
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


CLASSES, REGRESSION, LABELS = "classes", "regression", "labels"
"""What can be trained: one of several classes; numbers; several labels at once, each 0 or 1."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What is trained; ``note`` says so, why, and what decides otherwise."""

    task: str
    note: str

    @property
    def classes(self) -> bool:
        """Whether the target is one of several classes."""
        return self.task == CLASSES


def decide(config: RunConfig, name: str, y: Array, given: Given | None = None, used: Rows | None = None) -> Decision:
    """Decide what the target of all rows is: what model or loss ask for, or else by its values.

    ``auto`` takes one column of whole numbers for classes if at most ``FEW`` are different and each has ``FEW_ROWS``
    rows on average; or if they are 0 to K-1 or 1 to K, with K up to ``MOST`` and ``MOST_ROWS`` rows each. Two different
    whole numbers are classes always. Several columns of 0 and 1 are labels, unless each row has one 1, as one-hot
    classes have. Everything else is a regression. ``given``: which rows came as sets of their own. ``used``: those that
    count, all unless given. Raises DataError if all rows have the same.
    """
    given = Given(len(y)) if given is None else given
    if used is not None and len(used) < len(y):
        y = y[used]
    if asked := _asked(config):
        task = REGRESSION if asked in ("--loss mse", "--model linear") else CLASSES
        if task == CLASSES and config.model != "softmax" and _are_binary(y):
            task = LABELS
        return Decision(task, f"Task: {task}, because of {asked}.")
    n = f"{len(y):,} rows"
    if (y == y[0]).all():
        several = y.ndim == 2 and y.shape[1] > 1
        what = f"the target's {y.shape[1]} columns are the same" if several else f"the target is {y[0].item()}"
        check = (
            "check which columns they are, or train on them" if several else "check which column it is, or train on it"
        )
        raise DataError(
            f"{name}: {what} in all {n}, so there is nothing to learn; {check} all the same with --loss mse"
        )
    if y.ndim == 2 and y.shape[1] > 1:
        return _decide_columns(y)
    values = y.reshape(-1)
    fraction = whole_numbers.first_fraction(values)
    if fraction is not None:
        first = fraction if used is None else int(used[fraction])
        shown = f"{values[fraction]} in {given.row(first)}"
        return Decision(
            REGRESSION,
            f"Task: regression, because the target has fractions ({shown}); only whole numbers can be classes.",
        )
    different = whole_numbers.different(values)
    k = len(different)
    counted = f"{k:,} different whole numbers in {n}"
    if _few(different, len(values)):
        return Decision(CLASSES, f"Task: classes, because the target has {counted}; --loss mse trains a regression.")
    if not _have_float64(different):
        return Decision(REGRESSION, f"Task: regression, because the target has {counted}, and labels lie within 2^53.")
    otherwise = "--loss cross-entropy trains classes" if 2 * k <= len(y) else "classes need two rows each on average"
    return Decision(
        REGRESSION, f"Task: regression, because the target has {counted}, too many for labels; {otherwise}."
    )


def decide_texts(config: RunConfig, name: str, y: Array, used: Rows, texts: Sequence[str]) -> Decision:
    """Decide what codes of texts are: classes. Raises DataError where an option asks for numbers."""
    if (asked := _asked(config)) in ("--loss mse", "--model linear"):
        raise DataError(
            f"{name}: {asked} trains a regression, but the target is texts ({listed(np.array(texts))}); leave {asked} "
            "out, or give a column of numbers as --target"
        )
    k = int(np.count_nonzero(whole_numbers.counted(y.reshape(-1), len(texts), None if len(used) == len(y) else used)))
    n = f"{len(used):,} rows"
    return Decision(CLASSES, f"Task: classes, because the target has {count(k, 'different text')} in {n}.")


def _decide_columns(y: Array) -> Decision:
    """Decide what a target of several columns is, some of which vary."""
    n_columns = y.shape[1]
    if not _are_binary(y):
        return Decision(
            REGRESSION,
            f"Task: regression, because the target has {n_columns} columns; classes take one column of labels, and "
            "several labels take columns of 0 and 1.",
        )
    if (np.count_nonzero(y, axis=1) == 1).all():
        return Decision(
            REGRESSION,
            f"Task: regression, because the target has {n_columns} columns; classes take one column of labels. The "
            "columns look like one-hot classes: to train classes, save the label of each row as y; --loss "
            "cross-entropy trains each column as a label of its own.",
        )
    return Decision(
        LABELS,
        f"Task: {n_columns} labels, each on or off, because the target has {n_columns} columns of 0 and 1; --loss mse "
        "trains a regression.",
    )


def _are_binary(y: Array) -> bool:
    """Say whether a target is several columns of 0 and 1."""
    return y.ndim == 2 and y.shape[1] > 1 and bool(((y == 0) | (y == 1)).all())


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


def to_classes(
    config: RunConfig, name: str, y: Array, given: Given, used: Rows, texts: Sequence[str] = ()
) -> tuple[Array, Array]:
    """Return each row's class, int64 from 0, and the labels, int64: the different whole numbers in the data, sorted.

    ``given``, ``used``: see ``decide``; rows that do not count have any class. ``texts``: what they stand for, if that
    is texts. Raises DataError for what cannot be labels.
    """
    other = "--model linear" if config.model in ("softmax", "logistic") else "--loss mse"
    regression = f" (for a regression: {other})"
    if y.ndim != 1:
        raise DataError(
            f"{name}: y has shape {y.shape}; labels of classes take one column, and several labels take columns of 0 "
            f"and 1{regression}"
        )
    wrong = whole_numbers.first_fraction(y)
    if wrong is None and not all(abs(float(extreme)) < LABELS_WITHIN for extreme in (y.min(), y.max())):
        with np.errstate(over="ignore"):
            wrong = int(np.flatnonzero(~(np.abs(y.astype(np.float64)) < LABELS_WITHIN))[0])
    if wrong is not None:
        label = f"label {y[wrong]} of {given.row(wrong)}"
        raise DataError(
            f"{name}: {label} is no class label; these are whole numbers between -2^53 and 2^53{regression}"
        )
    labels = whole_numbers.different(y if len(used) == len(y) else y[used]).astype(np.int64)
    otherwise = "; check which column it is" if texts else regression
    if len(labels) == 1:
        label = repr(texts[labels[0]]) if texts else labels[0]
        raise DataError(f"{name}: the label is {label} in all {len(used):,} rows; classes need at least two{otherwise}")
    if len(labels) > 2 and 2 * len(labels) > len(used):
        raise DataError(
            f"{name}: {len(labels):,} different {'texts' if texts else 'labels'} in {len(used):,} rows are too many; "
            f"classes need two rows each on average{otherwise}"
        )
    return whole_numbers.places(y, labels), labels


def label_notes(labels: Array, whole: Array, of_training: Array, *, drawn: bool) -> list[str]:
    """Return what is to be said of labels: how numbers are numbered, and which have no rows, or none to train on.

    ``whole``, ``of_training``: all rows, and training rows, of each. ``drawn``: whether the others are drawn from all.
    """
    notes, k = [], len(labels)
    texts = labels.dtype.kind == "U"
    if not texts and (labels[0] != 0 or labels[-1] != k - 1):
        notes.append(
            f"Labels {listed(labels)} are the classes 0 to {k - 1} of the model, in this order; model.npz keeps them "
            "as classes."
        )
    low, high = (0, k - 1) if texts else (int(labels[0]), int(labels[-1]))
    if low >= 0 and k < high - low + 1 <= 2 * k:
        missing = np.setdiff1d(np.arange(low, high + 1), labels)
        notes.append(f"No row has the label {listed(missing)}: the model has outputs for the {k} labels that occur.")
    unseen = np.flatnonzero(of_training == 0)
    if len(unseen):
        rows = int(whole[unseen].sum())
        others = f"{count(rows, 'other row')} {'has' if rows == 1 else 'have'}"
        notes.append(
            f"Warning: no training row has the label {listed(labels[unseen])}, which {others}, so "
            "that the model cannot learn it; "
            + ("lower --test-fraction and --validation-fraction, or " if drawn else "")
            + "give more rows to train on."
        )
    return notes


def listed(labels: Array) -> str:
    """Return labels for a message, of many only the first and the last."""
    texts = [repr(label) if isinstance(label, str) else str(label) for label in labels[: LISTED + 1].tolist()]
    if len(texts) <= LISTED:
        return ", ".join(texts)
    last = labels[-1].item()
    return f"{', '.join(texts[: LISTED - 1])}, ... {last!r}"
