"""A data set in memory: checked arrays, their fingerprint, and which rows train, validate and test."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from common.config import RunConfig
from common.errors import DataError
from common.flat import Array
from common.rng import Stream, generator

Rows = NDArray[np.int64]
NUMBERS_AT_A_TIME = 1 << 20
"""Of the rows that are worked on in float64 together: the copy that this takes stays at 8 MiB."""
LABELS_BELOW = 2**31


@dataclass(slots=True)
class Raw:
    """What a reader returns, before any check: features, target, and how to start if the source says so."""

    name: str
    x: Array
    y: Array
    test: tuple[Array, Array] | None = None
    """Features and target of a test set that came with the data."""
    feature_names: list[str] = field(default_factory=list)
    initial: dict[str, Array] | None = None
    """Starting parameters of this rank, for sources that bring their own."""


@dataclass(slots=True)
class Dataset:
    """Rows ready to train on; the same on every rank.

    ``x``: (n, n_features), of the file's dtype until ``scale`` brings it to the configured one. ``y``: (n,) int64
    classes or (n, n_targets) of the configured dtype. ``train``, ``validation``, ``test``: row numbers, disjoint and
    complete.
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
    rows: Array = field(default_factory=lambda: np.empty((0, 1)))
    """(n, n_features + 1), once scaled: ``x``, which then is a view of it, and a column of ones for the biases."""
    mean: Array = field(default_factory=lambda: np.empty(0))
    deviation: Array = field(default_factory=lambda: np.empty(0))
    """(n_features,) each, once scaled: what was taken off the features, and what they were divided by."""

    @property
    def n_targets(self) -> int:
        """Columns of a regression's target, 1 for classes."""
        return 1 if self.y.ndim == 1 else self.y.shape[1]

    def scaling(self) -> tuple[Array, Array]:
        """Return mean and deviation of the training rows' features in float64; deviation 1 for constant ones.

        Raises DataError if they do not fit into float64.
        """
        n = len(self.train)

        def rows() -> Iterator[Array]:
            # counted from the first row: a constant column is then exactly 0, however many rows are added up
            return (self.x[self.train[p]].astype(np.float64) - first for p in row_blocks(n, self.x.shape[1]))

        with np.errstate(over="ignore", invalid="ignore"):  # checked below
            first = self.x[self.train[0]].astype(np.float64)
            offset = sum(block.sum(axis=0) for block in rows()) / n
            deviation = np.sqrt(sum(np.square(block - offset).sum(axis=0) for block in rows()) / n)
            mean = first + offset
        wrong = np.flatnonzero(~np.isfinite(deviation))
        if len(wrong):
            raise DataError(
                f"{self.name}: X, column {wrong[0]}: its deviation is too large for float64; scale the column down"
            )
        deviation[is_constant(deviation, mean)] = 1
        return mean, deviation

    def scale(self, mean: Array, deviation: Array, dtype: str) -> None:
        """Replace ``x`` by (x - mean) / deviation, computed in float64 and cast to ``dtype`` only then.

        Raises DataError if a number is too large for it.
        """
        self.mean, self.deviation = mean, deviation
        self.rows = np.ones((len(self.x), self.x.shape[1] + 1), dtype)
        scaled = self.rows[:, :-1]
        with np.errstate(over="ignore", invalid="ignore"):  # checked below
            for block in row_blocks(*self.x.shape):
                scaled[block] = (self.x[block].astype(np.float64) - mean) / deviation
        _check_cast(self.name, "X", scaled)
        self.x = scaled


def row_blocks(n_rows: int, n_columns: int) -> Iterator[slice]:
    """Yield slices of so many rows as are worked on in float64 together."""
    step = max(1, NUMBERS_AT_A_TIME // n_columns)
    return (slice(start, start + step) for start in range(0, n_rows, step))


def is_constant(deviation: Array, mean: Array) -> Array:
    """Say which columns deviate so little from their mean that these are rounding errors, not to be blown up."""
    return np.asarray(deviation <= 1e-12 * np.abs(mean))


def check(raw: Raw, config: RunConfig) -> Dataset:
    """Check what a reader returned and split it.

    Raises DataError, naming the data, the row and column, and the remedy.
    """
    name, x, y, n_test = raw.name, raw.x, raw.y, None
    _check_arrays(raw, x, y)
    if len(x) == 0:
        raise DataError(f"{name}: no rows")
    as_classes = _wants_classes(config, y)
    if raw.test:
        x_test, y_test = raw.test
        _check_arrays(raw, x_test, y_test, "_test")
        n_test = len(x_test)
        if x.shape[1:] != x_test.shape[1:] or y.shape[1:] != y_test.shape[1:]:
            shapes = f"X {x.shape}, y {y.shape} and X_test {x_test.shape}, y_test {y_test.shape}"
            raise DataError(f"{name}: {shapes} do not fit together; they take the same columns")
        x, y = np.concatenate([x, x_test]), np.concatenate([y, y_test])
    if as_classes and y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    sha256, n_classes = _fingerprint(x, y), 0
    if as_classes:
        y, n_classes = _as_classes(name, y, len(y) - (n_test or 0))
    else:
        with np.errstate(over="ignore"):  # checked in the next line
            y = np.ascontiguousarray(y.reshape(len(y), -1), config.dtype)
        _check_cast(name, "y", y)
    train, validation, test = _split(y, n_classes, n_test, config)
    if len(train) == 0:
        raise DataError(f"{name}: no rows left to train on; lower --test-fraction or --validation-fraction")
    if config.patience and len(validation) == 0:
        raise DataError("patience: needs validation rows; raise --validation-fraction or drop --patience")
    return Dataset(name, x, y, n_classes, sha256, train, validation, test, raw.initial)


def _check_arrays(raw: Raw, x: Array, y: Array, suffix: str = "") -> None:
    """Check that features and their target are finite numbers in arrays that fit together."""
    for label, array in (("X", x), ("y", y)):
        if array.dtype.kind not in "fiub":
            raise DataError(f"{raw.name}: {label}{suffix} holds {array.dtype}; it takes numbers")
    if x.ndim != 2 or x.shape[1] == 0:
        raise DataError(f"{raw.name}: X{suffix} has shape {x.shape}; it takes (rows, features)")
    if y.ndim not in (1, 2) or len(y) != len(x) or 0 in y.shape[1:]:
        allowed = f"({len(x)},) or ({len(x)}, targets), as X{suffix} has rows"
        raise DataError(f"{raw.name}: y{suffix} has shape {y.shape}; it takes {allowed}")
    for label, array in (("X", x), ("y", y if y.ndim == 2 else y[:, None])):
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            row, column = np.argwhere(~np.isfinite(array))[0].tolist()
            named = label + suffix == "X" and column < len(raw.feature_names)
            where = f"{label}{suffix}, row {row}, column {repr(raw.feature_names[column]) if named else column}"
            raise DataError(f"{raw.name}: {where}: got {array[row, column]}; only finite numbers, clean the file")


def _wants_classes(config: RunConfig, y: Array) -> bool:
    """Say whether the target is class numbers: as the loss or model says, else by the target's type."""
    if config.model == "linear" or config.loss == "mse":
        return False
    return config.model in ("softmax", "logistic") or config.loss == "cross-entropy" or y.dtype.kind in "iub"


def _check_cast(name: str, label: str, array: Array) -> None:
    if not np.isfinite(array).all():
        remedy = "use --dtype float64 or scale them" if array.dtype == np.float32 else "scale them"
        raise DataError(f"{name}: {label} holds numbers too large for {array.dtype}; {remedy}")


def _as_classes(name: str, y: Array, n_train: int) -> tuple[Array, int]:
    """Return the labels as int64 and the number of classes, which the first ``n_train`` rows decide."""
    regression = "for a regression: --loss mse"
    if y.ndim != 1:
        raise DataError(f"{name}: y has shape {y.shape}; class numbers take one column ({regression})")
    with np.errstate(over="ignore"):
        numbers = y.astype(np.float64)
    wrong = np.flatnonzero((numbers != np.floor(numbers)) | (numbers < 0) | (numbers >= LABELS_BELOW))
    if len(wrong):
        label = f"label {y[wrong[0]]} of row {wrong[0]}"
        raise DataError(f"{name}: {label} is outside the classes; labels are whole numbers from 0 ({regression})")
    labels = numbers.astype(np.int64)
    n_classes = int(labels[:n_train].max()) + 1
    if n_classes > n_train:
        label = f"label {n_classes - 1} asks for {n_classes} classes, more than the {n_train} rows"
        raise DataError(f"{name}: {label}; number the classes from 0 ({regression})")
    outside = np.flatnonzero(labels >= n_classes)
    if len(outside):
        label, classes = f"label {labels[outside[0]]} of test row {outside[0] - n_train}", f"0 to {n_classes - 1}"
        raise DataError(f"{name}: {label} is outside the classes {classes} of the training rows")
    return labels, max(n_classes, 2)


def _fingerprint(x: Array, y: Array) -> str:
    """Return the SHA-256 of shapes, dtypes and bytes of the data as read; which rows are test rows is not included."""
    digest = hashlib.sha256()
    for array in (x, y):
        digest.update(f"{array.shape}{array.dtype.str}".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).reshape(-1).data)
    return digest.hexdigest()


def _split(y: Array, n_classes: int, n_test: int | None, config: RunConfig) -> tuple[Rows, Rows, Rows]:
    """Split rows into train, validation and test; per class where there are classes (stratified).

    ``n_test``: last rows that came as a test set; None: draw one.
    """
    rng = generator(config.seed, Stream.SPLIT)
    rest, given_test = np.split(np.arange(len(y)), [len(y) - (n_test or 0)])
    groups = [np.flatnonzero(y[rest] == c) for c in range(n_classes)] if n_classes else [rest]
    splits = []
    for group in groups:
        order = rng.permutation(group)
        first = round(len(order) * config.test_fraction) if n_test is None else 0
        splits.append(np.split(order, [first, first + round(len(order) * config.validation_fraction)]))
    test, validation, train = (np.sort(np.concatenate(rows)) for rows in zip(*splits, strict=True))
    return train, validation, test if n_test is None else given_test
