"""A data set in memory: checked arrays, their fingerprint, and which rows train, validate and test."""

import hashlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from common.config import RunConfig
from common.errors import DataError
from common.flat import Array
from common.streams import Stream, generator

Rows = NDArray[np.int64]


@dataclass(slots=True)
class Raw:
    """What a reader hands over, before any check: features, target, and how to start if the source says so."""

    name: str
    x: Array
    y: Array
    n_test: int | None = None
    """The last ``n_test`` rows are a test set that came with the data."""
    feature_names: list[str] = field(default_factory=list)
    initial: dict[str, Array] | None = None
    """Starting parameters of this rank, for sources that bring their own."""


@dataclass(slots=True)
class Dataset:
    """Rows ready to train on; the same on every rank.

    ``x``: (n, n_features) of the configured dtype. ``y``: (n,) int64 classes or (n, n_targets) of that dtype.
    ``train``, ``validation``, ``test``: row numbers, disjoint and complete.
    """

    name: str
    x: Array
    y: Array
    n_classes: int
    sha256: str
    train: Rows
    validation: Rows
    test: Rows
    initial: dict[str, Array] | None

    @property
    def n_targets(self) -> int:
        """Columns of a regression's target, 1 for classes."""
        return 1 if self.y.ndim == 1 else self.y.shape[1]


def check(raw: Raw, config: RunConfig) -> Dataset:
    """Check what a reader returned and split it.

    Raises DataError, naming the data, the row and column, and the remedy.
    """
    name, x, y = raw.name, raw.x, raw.y
    if x.ndim != 2 or x.shape[1] == 0:
        raise DataError(f"{name}: X has shape {x.shape}; it takes (rows, features)")
    if len(x) == 0:
        raise DataError(f"{name}: no rows")
    if y.ndim == 2 and y.shape[1] == 1 and _wants_classes(config, y):
        y = y[:, 0]
    if y.ndim not in (1, 2) or len(y) != len(x):
        raise DataError(f"{name}: y has shape {y.shape}; it takes ({len(x)},) or ({len(x)}, targets), as X has rows")
    for label, array in (("X", x), ("y", y)):
        if array.dtype.kind not in "fiub":
            raise DataError(f"{name}: {label} holds {array.dtype}; it takes numbers")
    _check_finite(raw, x, y)
    sha256 = _fingerprint(x, y)
    dtype = np.dtype(config.dtype)
    n_classes = 0
    if _wants_classes(config, y):
        y, n_classes = _as_classes(name, y, len(y) - (raw.n_test or 0))
    else:
        y = np.ascontiguousarray(y.reshape(len(y), -1), dtype)
    train, validation, test = _split(y, n_classes, raw.n_test, config)
    if len(train) == 0:
        raise DataError(f"{name}: no rows left to train on; lower --test-fraction or --validation-fraction")
    # A copy of its own: the features are scaled in place.
    with np.errstate(over="ignore"):  # checked in the next line
        features = np.array(x, dtype, order="C")
    if not np.isfinite(features).all():
        raise DataError(f"{name}: X holds numbers too large for {config.dtype}; use --dtype float64 or scale them")
    return Dataset(name, features, y, n_classes, sha256, train, validation, test, raw.initial)


def _wants_classes(config: RunConfig, y: Array) -> bool:
    """Say whether the target is class numbers: as the loss or model says, else by the target's type."""
    if config.model == "linear" or config.loss == "mse":
        return False
    if config.model in ("softmax", "logistic") or config.loss == "cross-entropy":
        return True
    return y.dtype.kind in "iub"


def _check_finite(raw: Raw, x: Array, y: Array) -> None:
    for label, array in (("X", x), ("y", y)):
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            place = np.argwhere(~np.isfinite(array))[0]
            row, column = int(place[0]), int(place[1]) if array.ndim == 2 else 0
            named = label == "X" and column < len(raw.feature_names)
            where = f"column {raw.feature_names[column]!r}" if named else f"column {column}"
            value = array[tuple(place)]
            raise DataError(
                f"{raw.name}: {label}, row {row}, {where}: got {value}; only finite numbers, clean the file"
            )


def _as_classes(name: str, y: Array, n_train: int) -> tuple[Array, int]:
    if y.ndim != 1:
        raise DataError(f"{name}: y has shape {y.shape}; class numbers take one column (for a regression: --loss mse)")
    labels = y.astype(np.int64)
    wrong = np.flatnonzero((labels != y) | (labels < 0))
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"{name}: label {y[row]} of row {row} is outside the classes; labels are whole numbers from 0 "
            "(for a regression: --loss mse)"
        )
    n_classes = int(labels[:n_train].max()) + 1
    if n_classes > n_train:
        raise DataError(
            f"{name}: label {n_classes - 1} asks for {n_classes} classes, more than the {n_train} rows; "
            "number the classes from 0, or for a regression say --loss mse"
        )
    outside = np.flatnonzero(labels >= n_classes)
    if len(outside):
        row = int(outside[0])
        raise DataError(
            f"{name}: label {labels[row]} of test row {row - n_train} is outside the classes 0 to {n_classes - 1} "
            "of the training rows"
        )
    return labels, max(n_classes, 2)


def _fingerprint(x: Array, y: Array) -> str:
    """Return the SHA-256 of shapes, dtypes and bytes of the data as read, the last rows' test role not included."""
    digest = hashlib.sha256()
    for array in (x, y):
        digest.update(f"{array.shape}{array.dtype.str}".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).reshape(-1).data)
    return digest.hexdigest()


def _split(y: Array, n_classes: int, n_test: int | None, config: RunConfig) -> tuple[Rows, Rows, Rows]:
    """Deal rows to train, validation and test; per class where there are classes (stratified)."""
    n = len(y)
    rng = generator(config.seed, Stream.SPLIT)
    given_test = np.arange(n - (n_test or 0), n)
    rest = np.arange(n - (n_test or 0))
    groups = [np.flatnonzero(y[rest] == c) for c in range(n_classes)] if n_classes else [rest]
    fractions = (0.0 if n_test is not None else config.test_fraction, config.validation_fraction)
    parts: list[list[Rows]] = [[], [], []]
    for group in groups:
        order = rng.permutation(group)
        first = round(len(order) * fractions[0])
        second = first + round(len(order) * fractions[1])
        for part, rows in zip(parts, (order[:first], order[first:second], order[second:]), strict=True):
            part.append(rows)
    test, validation, train = (np.sort(np.concatenate(part)).astype(np.int64) for part in parts)
    return train, validation, given_test if n_test is not None else test
