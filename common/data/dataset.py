"""A data set in memory: checked arrays, their fingerprint, and which rows train, validate and test."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from common.config import RunConfig
from common.data.arrays_check import fingerprint
from common.data.feature_scaling import Scaling
from common.data.features import Features, held_bytes
from common.data.index_columns import FEWEST_ROWS, counting_columns
from common.data.joined_sets import joined
from common.data.preprocessing import Preprocessing
from common.data.scaling import Rows, check_deviation, note_on_digits, row_numbers, scaling, standardize
from common.data.split import Given, split_rows
from common.data.stacked import Matrix, Stacked, is_mapped
from common.data.target import CLASSES, LABELS, REGRESSION, decide, decide_texts, label_notes, to_classes
from common.data.transformer import Transformer
from common.data.weights import counted, normalised, weight_notes
from common.data.whole_numbers import blocks
from common.data.whole_numbers import counted as counted_rows
from common.errors import DataError
from common.flat import Array

BY_ROW = ("weight", "group", "time")
"""Options that name a column, or an array, which says something of each row and is no feature."""


@dataclass(slots=True)
class Raw:
    """What a reader returns, before any check: features, target, and how to start if the source says so."""

    name: str
    x: Matrix
    y: Array
    test: tuple[Matrix, Array] | None = None
    """Features and target of a test set that came with the data."""
    feature_names: list[str] = field(default_factory=list)
    initial: dict[str, Array] | None = None
    """Starting parameters of this rank, for sources that bring their own."""
    notes: list[str] = field(default_factory=list)
    """Sentences on what the reader decided, each with the option that decides otherwise."""
    validation: tuple[Matrix, Array] | None = None
    """Features and target of a validation set that came with the data."""
    weight: Array | None = None
    """What each row of ``x`` counts, (n,); or of all rows, with those of validation and test behind them. None: 1."""
    group: Array | None = None
    """Numbers, of as many rows as ``weight``: rows of one group stay in one split."""
    time: Array | None = None
    """The same, seconds: the latest rows are the test set."""
    names: dict[str, str] = field(default_factory=dict)
    """Of these three, where the options do not name them, as when they were named for a preparation."""
    labels: Array | None = None
    """(n_classes,) int64: all labels that ``y`` may hold, sorted, also those of no row; None: those that it holds."""
    label_names: list[str] = field(default_factory=list)
    """Where ``y`` holds codes of texts from 0: the texts."""
    target_names: list[str] = field(default_factory=list)
    """Names of the columns of ``y``."""
    columns: list[dict[str, Any]] = field(default_factory=list)
    """Of a table: name, type, missing, distinct of each column, and what became of it."""
    preprocessing: Preprocessing | None = None
    """How ``x`` came from the columns of a table; missing numbers are NaN then."""
    sparse: bool = False
    """Whether they come from a format that leaves zeros out, so that a file need not have all features."""
    sha256: str = ""
    """Of all arrays, where a source knows it, so that nobody reads them for that."""


@dataclass(slots=True)
class Dataset:
    """Rows ready to train on; the same on every rank.

    ``x``: (n, n_features) as read, a map or in memory, until ``training_features`` makes of it what a model takes; then
    (n, used features). ``y``: (n,) int64 classes from 0, or (n, n_targets) numbers, of the file's dtype until
    ``scale_target``. ``train``, ``validation``, ``test``: row numbers, disjoint and complete.
    """

    name: str
    x: Matrix | Features
    y: Array
    n_classes: int
    sha256: str
    """Of what was read; of mapped features as well once ranks have looked at these together (``add_digests``)."""
    train: Rows
    validation: Rows
    test: Rows
    initial: dict[str, Array] | None
    x_scaling: Scaling = field(default_factory=lambda: Scaling.plain(0))
    """How features were scaled, once they are."""
    target_mean: Array = field(default_factory=lambda: np.empty(0))
    target_scale: Array = field(default_factory=lambda: np.empty(0))
    """(n_targets,) each in float64: what was taken off a regression's target, and what it was divided by."""
    labels: Array = field(default_factory=lambda: np.empty(0, np.int64))
    """(n_classes,) int64: the label of each class in the data."""
    notes: tuple[str, ...] = ()
    """Sentences on what was decided about the data and why, each with the option that decides otherwise."""
    feature_names: tuple[str, ...] = ()
    target_names: tuple[str, ...] = ()
    """Of the columns, where the data name them."""
    columns: tuple[dict[str, Any], ...] = ()  # of a table: see Raw
    label_names: tuple[str, ...] = ()
    """Where labels are codes of texts: the texts."""
    preprocessing: Preprocessing | None = None
    """How the features came from the columns of a table."""
    transformer: Transformer | None = None
    """The one of the user's own that has made the features, once it has."""
    shares: Array = field(default_factory=lambda: np.empty(0))
    """(n_classes,): of the training rows, with their weights as they came, in which classes do not count alike."""
    weight: Array | None = None
    """(n,) float64 with mean 1 over the rows of each split: what each row counts; None: 1."""
    test_weight: float = 1.0
    """The mean weight of the test rows as they came, in which counts of rows are told."""
    task: str = REGRESSION
    """``classes``, ``regression``, or ``labels``: several columns of 0 and 1, each of its own."""
    given: Given = field(default_factory=lambda: Given(0))
    """Which rows came as sets of their own."""
    unread: bool = False
    """Whether ``sha256`` leaves the features out: they are mapped, and ranks share the reading."""

    def standardized(self) -> Array | None:
        """Return for each feature of a table whether it is brought to mean 0 and deviation 1; None for arrays."""
        if self.transformer is not None:
            return np.ones(self.x.shape[1], bool)
        return None if self.preprocessing is None else self.preprocessing.standardized()

    @property
    def n_features(self) -> int:
        """Features in the data, also those that are not used."""
        return self.x_scaling.n_features or self.x.shape[1]

    @property
    def n_targets(self) -> int:
        """Columns of a regression's target, 1 for classes."""
        return 1 if self.y.ndim == 1 else self.y.shape[1]

    def arrays(self) -> dict[str, Array]:
        """Return what predicting needs besides the parameters, as ``model.npz`` has it."""
        target = (
            {"classes": self.labels} if self.n_classes else {"y_mean": self.target_mean, "y_scale": self.target_scale}
        )
        if self.task == LABELS:
            target = {}
        texts = {"label_names": np.array(self.label_names)} if self.label_names else {}
        return {**self.x_scaling.arrays(), **target, **texts}

    def target_facts(self) -> dict[str, list[float]]:
        """Return what a checkpoint says of the target."""
        return {
            "y_mean": self.target_mean.tolist(),
            "y_scale": self.target_scale.tolist(),
            "classes": self.labels.tolist(),
        }

    def target_scaling(self) -> tuple[Array, Array]:
        """Return mean and deviation, in float64, of a regression's target in the training rows; 1 for constant ones.

        Raises DataError if they do not fit into float64, or its squared error does not.
        """
        where = f"{self.name}: y"
        mean, deviation = scaling(where, self.y, self.train, self.weight)
        with np.errstate(over="ignore"):
            check_deviation(where, np.square(deviation) * len(self.y))
        return mean, deviation

    def scale_target(self, mean: Array, scale: Array, dtype: str, option: str = "") -> None:
        """Replace a regression's ``y`` by (y - mean) / scale, computed in float64 and cast to ``dtype`` only then.

        ``option``: which keeps it as it is, if that is one. Raises DataError if a number is too large for it.
        """
        where = f"{self.name}: y"
        self.target_mean, self.target_scale = mean, scale
        scaled = np.empty(self.y.shape, dtype)
        standardize(where, self.y, mean, scale, scaled)
        if not mean.any():
            self.notes += (*note_on_digits(where, self.y, self.train, scaled.dtype, option),)
        self.notes += (*self._notes_on_constants(),)
        self.y = scaled

    def keep_target(self, dtype: str) -> None:
        """Cast labels, each 0 or 1, to ``dtype``."""
        self.notes += (*self._notes_on_constants(),)
        self.y = self.y.astype(dtype)

    def _notes_on_constants(self) -> list[str]:
        """Warn of columns of the target that do not vary."""
        first = self.y[self.train[0]]
        same = [(self.y[self.train[some]] == first).all(axis=0) for some in blocks(len(self.train))]
        constant = np.flatnonzero(np.logical_and.reduce(same))
        if len(constant):
            which = "the target is" if self.n_targets == 1 else f"column {constant[0]} of the target is"
            if len(constant) > 1:
                which = f"columns {', '.join(map(str, constant))} of the target are"
            return [f"Warning: {which} the same in all training rows, so there is nothing to learn there."]
        return []


def bytes_beside(config: RunConfig, n_rows: int, n_features: int, y_bytes: int, *, mapped: bool = False) -> int:
    """Return what a job takes beside a file's arrays: scaled features if they are held, and copies of the target."""
    return held_bytes(n_rows, n_features, config.dtype, mapped=mapped) + 3 * y_bytes


def check(raw: Raw, config: RunConfig) -> Dataset:
    """Check what a reader returned and split it.

    Raises DataError, naming the data, the row and column, and the remedy.
    """
    name, (x, y, given) = raw.name, joined(raw)
    weight, used = None, row_numbers(given.n)
    called = {option: getattr(config, option) or raw.names.get(option, "") for option in BY_ROW}
    if raw.weight is not None:
        what = f"--weight {called['weight']}" if called["weight"] else "sample_weight"
        weight, used = counted(name, what, raw.weight, given)
    for what, values in (("group", raw.group), ("time", raw.time)):
        if values is not None and len(values) not in (given.own, given.n):
            raise DataError(f"{name}: {what} has {len(values):,} values, but there are {given.own:,} rows")
    texts = raw.label_names
    kind = decide_texts(config, name, y, used, texts) if texts else decide(config, name, y, given, used)
    if kind.task != REGRESSION and y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    extra = [values for values in (raw.weight, raw.group, raw.time) if values is not None]
    unread, labels = is_mapped(x), np.empty(0, np.int64)
    sha256 = raw.sha256 or fingerprint(*([] if isinstance(x, Stacked) or unread else [x]), y, *extra)
    if kind.task == CLASSES:
        to_known = (np.searchsorted(raw.labels, y), raw.labels) if raw.labels is not None else None
        y, labels = to_known or to_classes(config, name, y, given, used, texts)
    else:
        y = y.reshape(len(y), -1)
    shown = np.array(texts)[labels] if texts else labels
    splits = split_rows(
        name, config, given, called,
        classes=(y, len(labels)) if len(labels) else None, group=raw.group, time=raw.time, used=used,
    )  # fmt: skip
    train = splits.train
    if len(train) == 0:
        raise DataError(f"{name}: no rows left to train on; lower --test-fraction or --validation-fraction")
    if config.patience and len(splits.validation) == 0:
        raise DataError("patience: needs validation rows; raise --validation-fraction or drop --patience")
    notes = [*raw.notes, *([] if raw.feature_names else _notes_on_columns(x, given)), kind.note, splits.note]
    if kind.task == CLASSES:
        rows = None if len(used) == len(y) else used
        whole, of_training = (counted_rows(y, len(labels), some) for some in (rows, train))
        notes += (
            _notes_on_labels(name, shown, whole, of_training, drawn=given.own == given.n) if raw.labels is None else []
        )
    target_names = raw.target_names
    if kind.task == LABELS and not target_names:
        target_names = [f"label {i}" for i in range(y.shape[1])]
    balanced = config.class_weight == "balanced"
    if balanced and kind.task != CLASSES:
        raise DataError(f"{name}: --class-weight balanced is for classes, and this is not; leave it out ({kind.note})")
    test_weight = 1.0 if weight is None or not len(splits.test) else float(weight[splits.test].mean())
    shares = counted_rows(y, len(labels), train, weight) if len(labels) else np.empty(0)
    if weight is not None or balanced:
        weight = normalised(given.n, weight, splits, y if balanced else None)
        notes += weight_notes(raw.weight, given.n - len(used), weight, y if balanced else None, shown, splits)
    return Dataset(
        name, x, y, len(labels), sha256, train, splits.validation, splits.test, raw.initial, labels=labels,
        notes=tuple(note for note in notes if note), feature_names=tuple(raw.feature_names),
        target_names=tuple(target_names), label_names=tuple(raw.label_names), preprocessing=raw.preprocessing,
        columns=tuple(raw.columns), shares=shares / shares.sum() if len(labels) else shares,
        weight=weight, test_weight=test_weight, task=kind.task, given=given, unread=unread and not raw.sha256,
    )  # fmt: skip


def _notes_on_columns(x: Matrix, given: Given) -> list[str]:
    """Return what is to be said of columns without names; a test set may be numbered on from the rows before it."""
    n = given.own
    own = x.first(n) if isinstance(x, Stacked) else x[:n]
    counts = sorted({*counting_columns(own), *counting_columns(x)}) if n >= FEWEST_ROWS else []
    return [
        f"Warning: X, column {i} numbers the rows and is trained on; if it is an index, save X without it."
        for i in counts
    ]


def _notes_on_labels(name: str, labels: Array, whole: Array, of_training: Array, *, drawn: bool) -> list[str]:
    """Return what is to be said of the labels. Raises DataError if training rows have one only.

    ``whole``, ``of_training``: all rows, and training rows, of each. ``drawn``: whether the others are drawn from all.
    """
    if np.count_nonzero(of_training) == 1:
        raise DataError(
            f"{name}: all {of_training.sum():,} training rows have the label {labels[of_training.argmax()]}; classes "
            "need rows of two labels to train on"
        )
    return label_notes(labels, whole, of_training, drawn=drawn)
