"""What ``model.npz`` says of a model besides its arrays: architecture, preprocessing, names, versions, as JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.config import ACTIVATIONS, DTYPES, MODELS, RunConfig
from common.data.dataset import Dataset
from common.data.preprocessing import Preprocessing
from common.errors import DataError
from common.flat import Array
from common.nn.functional import LogisticCrossEntropy, Loss, MeanSquaredError, SoftmaxCrossEntropy
from common.nn.meaning import CLASSES, LABELS, REGRESSION
from common.option import is_own_model
from common.version import VERSION as RANKWISE

FORMAT, VERSION = "rankwise-model", 1
FACTS = "facts"
"""The array's name."""
LOSSES: dict[str, type[Loss]] = {
    kind.__name__: kind for kind in (MeanSquaredError, SoftmaxCrossEntropy, LogisticCrossEntropy)
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What a model's file says besides its arrays.

    ``model``: name, sizes, activation, loss, parameters (shapes by name), and of a class of one's own file and sha256.
    ``features``: names of the encoded features, none if the data had none. ``targets``: names, if known.
    """

    model: Mapping[str, Any]
    task: str
    targets: tuple[str, ...]
    features: tuple[str, ...]
    preprocessing: Preprocessing | None
    dtype: str
    versions: Mapping[str, str]

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
                model, plain["task"], tuple(map(str, plain["targets"])), tuple(map(str, plain["features"])),
                None if columns is None else Preprocessing.from_dict(columns), plain["dtype"], plain["versions"],
            )  # fmt: skip
            allowed = facts.task in (CLASSES, REGRESSION, LABELS) and facts.dtype in DTYPES
            own = is_own_model(model["name"])
            known = model["name"] in MODELS and model["activation"] in ACTIVATIONS and model["loss"] in LOSSES
            if not allowed or not (own or (known and len(model["sizes"]) > 1)):
                raise DataError("it describes a model that this program does not know")
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise DataError(f"its facts are not what this program writes ({error!r})"[:200]) from error
        return facts


def task_of(data: Dataset) -> str:
    """Return what a model of these data predicts."""
    return str(getattr(data, "task", CLASSES if data.n_classes else REGRESSION))


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
        "task": task_of(data), "targets": list(data.target_names), "features": list(data.feature_names),
        "preprocessing": None if columns is None else columns.as_dict(), "dtype": config.dtype,
    }  # fmt: skip
    return {**data.arrays(), FACTS: np.array(json.dumps(facts, ensure_ascii=False))}
