"""A whole model in one file: reads ``model.npz``, and predicts with it, in NumPy alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common import memory
from common.arrays_file import NUMBERS, open_arrays
from common.data.target import CLASSES, LABELS, REGRESSION
from common.errors import BrokenFileError, DataError
from common.flat import Array
from common.named_views import NamedViews, read_only
from common.nn import custom_model, meaning
from common.nn.mlp import Mlp
from common.nn.model_facts import FACTS, LOSSES, Facts, target_names
from common.nn.models import Model
from common.option import is_own_model

BLOCK = 256
"""Rows of one forward pass. Always so many: a row's prediction is then the same bits whichever rows are beside it."""
MOST_FACTS = 64 << 20
"""Characters: a million names of features."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A trained model.

    ``x_kept``: (n_used,) places of the encoded features that it takes; ``x_mean``, ``x_scale``, ``x_fill``: (n_used,)
    float64 each, how these are scaled, and what stands for one that is missing. ``labels``: (n_classes,) int64, or
    texts; empty for a regression, which has ``y_mean`` and ``y_scale``, (n_targets,) float64. ``n_features``: encoded
    ones, before ``x_kept`` is taken. ``baseline``: shares of classes or labels, or means of targets, in training rows.
    """

    path: Path
    facts: Facts
    parameters: Mapping[str, Array]
    model: Model | Mlp
    n_features: int
    x_kept: Array
    x_mean: Array
    x_scale: Array
    x_fill: Array
    labels: Array
    y_mean: Array
    y_scale: Array
    baseline: Array | None

    @classmethod
    def load(cls, path: Path, trust: Callable[[Facts], object] = lambda _: None) -> "ModelFile":
        """Read a file. Raises DataError for whatever is wrong with it, ConfigError for a class of one's own.

        ``trust``: is asked before a class of one's own is imported; raises what keeps from that.
        """
        try:
            with open_arrays(path) as arrays:
                if FACTS not in arrays.names:
                    raise DataError(
                        f"{path}: it does not say which model it holds, so nothing can be predicted; it is of an "
                        f"earlier version, or no model: train a new run from its parameters, --from {path}"
                    )
                memory.check(f"model {path}", arrays.n_bytes())
                if arrays.n_bytes(FACTS) > 4 * MOST_FACTS:
                    raise BrokenFileError(f"its facts have more than {MOST_FACTS:,} characters")
                found = {name: arrays.read(name, NUMBERS + "U") for name in arrays.names}
        except BrokenFileError as error:
            raise DataError(f"{path}: not a readable {path.suffix or 'model'} file of a model ({error})") from error
        try:
            return cls._made(path, found, trust)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error

    @classmethod
    def _made(cls, path: Path, found: dict[str, Array], trust: Callable[[Facts], object]) -> "ModelFile":
        facts = Facts.read(str(found.pop(FACTS)))
        shapes = facts.model["parameters"]
        if absent := [name for name in shapes if name not in found]:
            raise DataError(f"it holds no {', '.join(absent[:4])}")
        parameters = {name: found[name] for name in shapes}
        wrong = [name for name, array in parameters.items() if array.shape != shapes[name] or array.dtype.kind != "f"]
        if wrong:
            raise DataError(f"{', '.join(wrong[:4])} is not of the shape that its facts give")
        mean = _numbers(found, "x_mean")
        n_used = len(mean)
        kept = np.asarray(found.get("x_kept", np.arange(n_used)))
        n_features = facts.n_features
        within = not len(kept) or (int(kept.min()) >= 0 and int(kept.max()) < n_features)
        if kept.shape != (n_used,) or kept.dtype.kind not in "iu" or not within:
            raise DataError("x_kept does not name a place for each feature")
        labels, n = _labels(found, facts.task), facts.n_targets if facts.task == REGRESSION else 0
        y_mean, y_scale = (_numbers(found, name, n) if n else np.empty(0) for name in ("y_mean", "y_scale"))
        baseline = _numbers(found, "baseline", len(labels) or facts.n_targets) if "baseline" in found else None
        trust(facts)
        return cls(
            path, facts, NamedViews("params", {name: read_only(array) for name, array in parameters.items()}),
            _model(facts, n_used, len(labels)), n_features, kept, mean, _numbers(found, "x_scale", n_used),
            _numbers(found, "x_fill", n_used) if "x_fill" in found else mean, labels, y_mean, y_scale, baseline,
        )  # fmt: skip

    @property
    def n_targets(self) -> int:
        """Columns that are predicted, 1 for classes."""
        return self.facts.n_targets

    @property
    def target_names(self) -> list[str]:
        """Names of what is predicted: of the targets, or ``prediction`` where the data had none."""
        return target_names(self.facts.targets, self.n_targets, "prediction")

    def scaled(self, x: Array) -> Array:
        """Return encoded features, (n, n_features), as the model takes them, (n, n_used) of its dtype."""
        used = x[:, self.x_kept].astype(np.float64)
        np.copyto(used, self.x_fill, where=np.isnan(used))
        used -= self.x_mean
        used /= self.x_scale
        with np.errstate(over="ignore"):
            return used.astype(self.facts.dtype)

    def outputs(self, x: Array) -> Array:
        """Return the model's raw outputs, (n, n_out), for encoded features, (n, n_features); NaN is a missing one."""
        rows = [self._block(x[start : start + BLOCK]) for start in range(0, len(x), BLOCK)]
        return np.concatenate(rows) if rows else np.empty((0, self._block(x).shape[1]), self.facts.dtype)

    def _block(self, x: Array) -> Array:
        if not isinstance(self.model, Mlp):
            name, rows = self.facts.model["name"], read_only(self.scaled(x))
            out = custom_model.attempt(name, "predict()", lambda: self.model.predict(self.parameters, rows))
            return np.array(out)
        rows = np.zeros((BLOCK, len(self.x_kept)), self.facts.dtype)
        rows[: len(x)] = self.scaled(x)
        with np.errstate(all="ignore"):
            return self.model.predict(self.parameters, rows)[: len(x)].copy()

    def probabilities(self, out: Array) -> Array:
        """Return those of the classes, (n, n_classes), or of each label, (n, n_targets), in float64, from raw outputs.

        Raises DataError where these are no probabilities.
        """
        return meaning.probabilities(self.facts.task, self.model.loss, out)

    def places(self, out: Array) -> Array:
        """Return the class of each row, (n,) from 0, from raw outputs."""
        return meaning.places(out)

    def predicted(self, out: Array) -> Array:
        """Return what raw outputs mean: labels, (n,); numbers in the target's unit, (n,) or (n, n_targets); 0 or 1."""
        if self.facts.task == CLASSES:
            return np.asarray(self.labels[self.places(out)])
        if self.facts.task == LABELS:
            return (out > 0).astype(np.int64)
        values = out.astype(np.float64) * self.y_scale + self.y_mean
        return values[:, 0] if values.shape[1] == 1 else values

    def predict(self, x: Array) -> Array:
        """Return labels or numbers for encoded features, (n, n_features): see ``predicted``."""
        return self.predicted(self.outputs(x))

    def predict_proba(self, x: Array) -> Array:
        """Return the probabilities of each class or label. Raises DataError if there are none."""
        return self.probabilities(self.outputs(x))

    def encode(self, cells: Mapping[str, Array]) -> Array:
        """Return encoded features, as they were prepared for training, from the cells of a table's columns."""
        assert self.facts.preprocessing is not None
        return self.facts.preprocessing.encode(cells, "float32")

    def predict_table(self, cells: Mapping[str, Array]) -> Array:
        """Return labels or numbers for the cells of a table's columns, as ``Preprocessing.encode`` takes them."""
        return self.predict(self.encode(cells))


def _numbers(found: Mapping[str, Array], name: str, n: int | None = None) -> Array:
    array = found.get(name)
    if array is None or array.ndim != 1 or array.dtype.kind not in "fiu" or (n is not None and len(array) != n):
        raise DataError(f"{name} is not there, or not a number for each feature or target")
    return array.astype(np.float64)


def _labels(found: Mapping[str, Array], task: str) -> Array:
    """Return the label of each output."""
    if task != CLASSES:
        return np.empty(0, np.int64)
    classes, names = found.get("classes"), found.get("label_names")
    if classes is None or classes.ndim != 1 or classes.dtype.kind not in "iu" or len(classes) < 2:
        raise DataError("classes is not there, or not a label for each output")
    if names is None:
        return classes
    if names.ndim != 1 or names.dtype.kind != "U" or classes.min() < 0 or classes.max() >= len(names):
        raise DataError("label_names does not hold a text for each label")
    return np.asarray(names[classes])


def _model(facts: Facts, n_used: int, n_classes: int) -> Model | Mlp:
    """Return an object of the model that the parameters are of."""
    told, shapes, n_targets = facts.model, facts.model["parameters"], facts.n_targets
    if is_own_model(told["name"]):
        model: Model | Mlp = custom_model.load(told["name"], n_used, n_classes, n_targets, labels=facts.task == LABELS)
    else:
        model = Mlp(told["sizes"], told["activation"], LOSSES[told["loss"]]())
        n_out = 1 if told["loss"] == "LogisticCrossEntropy" and n_classes == 2 else n_classes or n_targets
        if (told["sizes"][0], told["sizes"][-1]) != (n_used, n_out):
            raise DataError("its sizes do not fit its features and targets")
    if model.shapes() != shapes:
        raise DataError("its parameters are not those of the model that it names")
    return model
