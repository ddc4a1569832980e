"""Models of one layer, written as the end of a run writes them: what they predict is plain to see."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.config import RunConfig
from common.data import training_features
from common.data.dataset import Raw, check
from common.flat import Array
from common.nn import model_facts
from common.nn.model_file import ModelFile


def numbers_model(folder: Path, n: int, names: Sequence[str] = (), **more: Any) -> ModelFile:
    """Return a model of numbers that adds up its ``n`` features, which may have names."""
    x = np.random.default_rng(0).normal(size=(50, n))
    raw = Raw("sum", x, x.sum(axis=1), feature_names=list(names), target_names=["sum"], **more)
    return _saved(folder, raw, "linear", np.ones((n, 1)))


def classes_model(folder: Path, weights: Array, labels: Sequence[str] | Array, **more: Any) -> ModelFile:
    """Return a model of classes whose outputs are features times ``weights``, (features, classes)."""
    n_features, n = weights.shape
    x, y = np.random.default_rng(0).normal(size=(20 * n, n_features)), np.arange(20 * n) % n
    texts = [] if isinstance(labels, np.ndarray) else list(labels)
    y = y if texts else np.asarray(labels)[y]
    return _saved(folder, Raw("classes", x, y, label_names=texts, **more), "softmax", weights)


def _saved(folder: Path, raw: Raw, model: str, weights: Array) -> ModelFile:
    config = RunConfig(model=model, dtype="float64", standardize=False, standardize_target=False)
    data = check(raw, config)
    training_features.scale(data, training_features.tables(data, 0, 1), "float64", standardize=False, given=None)
    if not data.n_classes:
        data.scale_target(np.zeros(1), np.ones(1), "float64")
    n_features, n_out = weights.shape
    loss = "SoftmaxCrossEntropy" if data.n_classes else "MeanSquaredError"
    described = {"sizes": [n_features, n_out], "loss": loss, "parameters": {"W": [n_features, n_out], "b": [n_out]}}
    facts = model_facts.extras(config, data, {"versions": {}, "model": described})
    np.savez(folder / "model.npz", allow_pickle=False, W=weights.astype(np.float64), b=np.zeros(n_out), **facts)
    return ModelFile.load(folder / "model.npz")
