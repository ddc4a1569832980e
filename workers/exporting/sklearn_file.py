"""Writes a model as a fitted Pipeline of scikit-learn, saved by skops: no pickle, nothing to trust."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from common.data.target import CLASSES, LABELS
from common.errors import ConfigError
from common.files import write_bytes
from common.flat import Array
from common.nn.model_file import ModelFile
from common.wording import listed
from workers.exporting.network import SOFTMAX, Network, network
from workers.exporting.sklearn_columns import encoder, offsets, without_counterpart

ACTIVATIONS = {"relu": "relu", "tanh": "tanh", "sigmoid": "logistic"}


def write_sklearn(model: ModelFile, path: Path) -> list[str]:
    """Write the file; return the files. Raises ConfigError and OSError.

    The Pipeline takes a table's columns, as a frame, or encoded features, (rows, n_features), where the data were no
    table or scikit-learn cannot encode a column. Its steps: ``columns``, or ``impute`` where features may be missing
    (NaN); ``scale``; ``mlp``.
    """
    from skops.io import dumps

    write_bytes(path, dumps(pipeline(model)))
    names = without_counterpart(model.facts.preprocessing) if model.facts.preprocessing is not None else []
    why = f" (which takes encoded features: scikit-learn has nothing that encodes {listed(names)} as here)"
    return [f"{path}{why if names else ''}"]


def pipeline(model: ModelFile) -> Any:
    """Return the Pipeline. Raises ConfigError for an activation that scikit-learn does not have."""
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    layers = network(model, "sklearn")
    if layers.hidden and layers.activation not in ACTIVATIONS:
        raise ConfigError(
            f"sklearn: its MLP has no activation {layers.activation}; allowed are {', '.join(ACTIVATIONS)}; use --onnx"
        )
    fill, mean, scale = np.zeros(model.n_features), np.zeros(model.n_features), np.ones(model.n_features)
    fill[model.x_kept], mean[model.x_kept], scale[model.x_kept] = model.x_fill, model.x_mean, model.x_scale
    first, columns, mlp = [], model.facts.preprocessing, _mlp(model, layers)
    if columns is not None and not without_counterpart(columns):
        made, order = encoder(columns, fill + offsets(columns))
        first = [("columns", made)]
        mean, scale, mlp.coefs_[0] = (mean + offsets(columns))[order], scale[order], mlp.coefs_[0][order]
    elif _may_be_missing(model):
        first = [("impute", SimpleImputer(keep_empty_features=True).fit(fill[None]))]
    scaler = StandardScaler().fit(np.zeros((2, model.n_features)))
    scaler.mean_, scaler.scale_, scaler.var_ = mean, scale, scale**2
    return Pipeline([*first, ("scale", scaler), ("mlp", mlp)])


def _may_be_missing(model: ModelFile) -> bool:
    """Say whether training has seen missing numbers; else the Pipeline refuses them, as scikit-learn does."""
    columns = model.facts.preprocessing.columns if model.facts.preprocessing is not None else ()
    return any(column.missing for column in columns) or bool((model.x_fill != model.x_mean).any())


def _mlp(model: ModelFile, layers: Network) -> Any:
    """Return an estimator that was fitted to nothing much, with the layers in place of what it has learned."""
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    kind = MLPRegressor if model.facts.task not in (CLASSES, LABELS) else MLPClassifier
    estimator = kind(
        hidden_layer_sizes=layers.hidden, activation=ACTIVATIONS.get(layers.activation, "relu"), max_iter=1
    )
    y = _some_target(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has not converged
        estimator.fit(np.zeros((len(y), model.n_features), model.facts.dtype), y)
    coefs, intercepts = _coefficients(model, layers)
    assert [c.shape for c in coefs] == [c.shape for c in estimator.coefs_]
    estimator.coefs_, estimator.intercepts_ = coefs, intercepts
    del vars(estimator)[
        "_optimizer"
    ]  # of training, for which skops would ask to be trusted; made anew if training goes on
    return estimator


def _some_target(model: ModelFile) -> Array:
    """Return a target of the kind that the model predicts."""
    if model.facts.task == CLASSES:
        return np.repeat(model.labels, 2)
    if model.facts.task == LABELS:
        return np.repeat([[0], [1]], model.n_targets, axis=1)
    return np.zeros(4) if model.n_targets == 1 else np.zeros((4, model.n_targets))


def _coefficients(model: ModelFile, layers: Network) -> tuple[list[Array], list[Array]]:
    """Return weights and biases: of all features, 0 of those left out; of the target's unit; one output for two."""
    weights, biases = ([np.array(part) for part in parts] for parts in zip(*layers.layers, strict=True))
    first = np.zeros((model.n_features, weights[0].shape[1]), weights[0].dtype)
    first[model.x_kept] = weights[0]
    weights[0] = first
    if model.facts.task == CLASSES and len(model.labels) == 2 and layers.outputs == SOFTMAX:
        # the probability of the second of two is the sigmoid of how much more its output is
        weights[-1], biases[-1] = weights[-1][:, 1:] - weights[-1][:, :1], biases[-1][1:] - biases[-1][:1]
    elif model.facts.task not in (CLASSES, LABELS):
        weights[-1] = weights[-1] * model.y_scale
        biases[-1] = biases[-1] * model.y_scale + model.y_mean
    return weights, biases
