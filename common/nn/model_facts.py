"""What ``model.npz`` says of a model besides its arrays: architecture, preprocessing, names, versions, as JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.config import ACTIVATIONS, DTYPES, MODELS, RunConfig
from common.data.dataset import Dataset
from common.data.preprocessing import Preprocessing
from common.data.target import CLASSES, LABELS, REGRESSION
from common.data.transformer import Transformer
from common.data.whole_numbers import blocks
from common.errors import DataError
from common.flat import Array
from common.nn.functional import LogisticCrossEntropy, Loss, MeanSquaredError, SoftmaxCrossEntropy
from common.option import is_own_model
from common.version import VERSION as RANKWISE

FORMAT, VERSION = "rankwise-model", 1
FACTS = "facts"
"""The array's name."""
LOSSES: dict[str, type[Loss]] = {
    kind.__name__: kind for kind in (MeanSquaredError, SoftmaxCrossEntropy, LogisticCrossEntropy)
}


def baseline(data: Dataset) -> Array:
    """Return what is known of a target without looking at the features, from the training rows, in float64.

    Shares of the classes, (n_classes,); means of the targets in their unit, or shares of labels, (n_targets,).
    """
    if data.task == CLASSES:
        return data.shares
    sums, total = np.zeros(data.n_targets), 0.0
    for some in blocks(len(data.train)):
        rows = data.train[some]
        weight = np.ones(len(rows)) if data.weight is None else data.weight[rows]
        sums += weight @ data.y[rows]
        total += float(weight.sum())
    mean = sums / total
    return mean if data.task == LABELS else np.asarray(mean * data.target_scale + data.target_mean)


def labels_of(data: Dataset) -> list[Any]:
    """Return the label of each class as people know it: a text or a whole number."""
    return [data.label_names[code] for code in data.labels] if data.label_names else data.labels.tolist()


def target_names(names: tuple[str, ...], n: int, what: str = "target") -> list[str]:
    """Return the names of targets; ``target``, or ``target 1`` and so on, where the data have none."""
    if len(names) == n:
        return list(names)
    return [what] if n == 1 else [f"{what} {i}" for i in range(1, n + 1)]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a model's file says besides its arrays.

    ``model``: name, sizes, activation, loss, parameters (shapes by name), and of a class of one's own file and sha256.
    ``n_targets``: 1 for classes. ``n_features``: encoded ones, also those that are not used. ``targets``, ``features``:
    names of both, if known. ``missing``: texts of a table that stand for no value, beside the usual ones.
    ``transformer``: of the user's own, which makes the features of a table's columns instead of ``preprocessing``.
    """

    model: Mapping[str, Any]
    task: str
    n_targets: int
    n_features: int
    targets: tuple[str, ...]
    features: tuple[str, ...]
    preprocessing: Preprocessing | None
    dtype: str
    versions: Mapping[str, str]
    missing: str
    transformer: Transformer | None = None

    @classmethod
    def read(cls, text: str) -> "Facts":
        """Return what ``facts`` wrote. Raises DataError for what cannot be that."""
        try:
            plain = json.loads(text)
            if plain["format"] != FORMAT:
                raise DataError("it is not a model of rankwise")
            if plain["v"] != VERSION:
                raise DataError(f"it has format version {plain['v']!r}; this program knows {VERSION}"[:200])
            columns, model = plain["preprocessing"], plain["model"]
            model["sizes"] = tuple(int(n) for n in model["sizes"])
            model["parameters"] = {name: tuple(shape) for name, shape in model["parameters"].items()}
            facts = cls(
                model, plain["task"], int(plain["n_targets"]), int(plain["n_features"]),
                tuple(map(str, plain["targets"])), tuple(map(str, plain["features"])),
                None if columns is None else Preprocessing.from_dict(columns), plain["dtype"], plain["versions"],
                str(plain["missing"]), Transformer.from_dict(plain["prepare"]) if plain.get("prepare") else None,
            )  # fmt: skip
            allowed = facts.task in (CLASSES, REGRESSION, LABELS) and facts.dtype in DTYPES
            own = is_own_model(model["name"])
            known = model["name"] in MODELS and model["activation"] in ACTIVATIONS and model["loss"] in LOSSES
            if not allowed or not (own or (known and len(model["sizes"]) > 1)):
                raise DataError("it describes a model that this program does not know")
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise DataError(f"its facts are not what this program writes ({error!r})"[:200]) from error
        return facts


def extras(config: RunConfig, data: Dataset, header: Mapping[str, Any]) -> dict[str, Array]:
    """Return what ``model.npz`` holds besides the parameters. ``header``: what the log says of model and versions."""
    model = header["model"]
    described = {
        "name": config.model,
        "activation": config.activation,
        **{name: model[name] for name in ("sizes", "loss", "parameters", "file", "sha256") if name in model},
    }
    columns = data.preprocessing
    facts = {
        "format": FORMAT, "v": VERSION, "versions": {**header["versions"], "rankwise": RANKWISE}, "model": described,
        "task": data.task, "n_targets": data.n_targets, "n_features": data.n_features,
        "targets": list(data.target_names), "features": list(data.feature_names),
        "preprocessing": None if columns is None else columns.as_dict(), "dtype": config.dtype,
        "missing": config.missing, **({"prepare": data.transformer.as_dict()} if data.transformer else {}),
    }  # fmt: skip
    return {**data.arrays(), "baseline": baseline(data), FACTS: np.array(json.dumps(facts))}
