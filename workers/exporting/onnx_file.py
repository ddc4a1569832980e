"""Writes a model as ONNX, with all that stands between a row as it comes and what it is predicted to be."""

import json
from pathlib import Path

import numpy as np

from common.data.target import CLASSES, LABELS
from common.errors import ConfigError
from common.files import write_bytes
from common.nn.activations import Gelu
from common.nn.model_file import ModelFile
from workers.exporting.graph import DOUBLE, INT64, TEXT, TYPES, Graph
from workers.exporting.network import NUMBERS, SOFTMAX, Network, network
from workers.exporting.onnx_columns import encoded

MATRIX = "X"
OPERATORS = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid"}


def write_onnx(model: ModelFile, path: Path) -> list[str]:
    """Write the file; return the files. Raises ConfigError and OSError.

    Inputs: the columns of a table (see ``onnx_columns``), or ``X``, (rows, n_features) doubles. Outputs: ``label``,
    (rows,) texts or whole numbers, and ``probabilities``, (rows, n_classes); for several labels (rows, n_labels) each;
    of a regression ``prediction``, (rows, n_targets) doubles.
    """
    if model.facts.transformer is not None:
        raise ConfigError(
            f"onnx: features are made by {model.facts.transformer.name}, a transformer of your own, which has no form "
            "in ONNX here; use --sklearn, whose Pipeline takes what the transformer returns"
        )
    layers, graph, kind = network(model, "onnx"), Graph(), TYPES[model.facts.dtype]
    if model.facts.preprocessing is not None:
        x = graph.cast(encoded(graph, model.facts.preprocessing), DOUBLE)
    else:
        x = graph.input(MATRIX, DOUBLE, model.n_features)
    out = _layers(graph, layers, graph.cast(_scaled(graph, model, x), kind))
    _outputs(graph, model, layers.outputs, out)
    facts = {
        "task": model.facts.task,
        "targets": json.dumps(model.target_names),
        "features": json.dumps(list(model.facts.features)),
        "versions": json.dumps(dict(model.facts.versions)),
    }
    write_bytes(path, graph.model(facts).SerializeToString())
    return [str(path)]


def _scaled(graph: Graph, model: ModelFile, x: str) -> str:
    """Return the features that are used, none missing, scaled, all in double."""
    if len(model.x_kept) != model.n_features or (np.diff(model.x_kept) != 1).any():
        x = graph.node("Gather", x, model.x_kept.astype(np.int64), axis=1)
    x = graph.node("Where", graph.node("IsNaN", x), model.x_fill[None], x)
    return graph.node("Div", graph.node("Sub", x, model.x_mean[None]), model.x_scale[None])


def _layers(graph: Graph, layers: Network, x: str) -> str:
    for i, (weights, bias) in enumerate(layers.layers, 1):
        x = graph.node("Add", graph.node("MatMul", x, np.asarray(weights)), np.asarray(bias))
        if i < len(layers.layers):
            x = _gelu(graph, x, bias.dtype.type) if layers.activation == "gelu" else graph.node(
                OPERATORS[layers.activation], x
            )  # fmt: skip
    return x


def _gelu(graph: Graph, z: str, kind: type) -> str:
    """Return the tanh form, which ``common/nn/activations.py`` has."""
    cube = graph.node("Mul", graph.node("Mul", z, z), z)
    inner = graph.node("Add", z, graph.node("Mul", cube, kind(Gelu.K)))
    t = graph.node("Tanh", graph.node("Mul", inner, kind(Gelu.C)))
    return graph.node("Mul", graph.node("Mul", z, kind(0.5)), graph.node("Add", t, kind(1)))


def _outputs(graph: Graph, model: ModelFile, outputs: str, out: str) -> None:
    kind, one = TYPES[model.facts.dtype], np.dtype(model.facts.dtype).type(1)
    if outputs == NUMBERS:
        out = graph.node("Add", graph.node("Mul", graph.cast(out, DOUBLE), model.y_scale[None]), model.y_mean[None])
        graph.output("prediction", out, DOUBLE, model.n_targets)
        return
    p = graph.node("Softmax", out, axis=1) if outputs == SOFTMAX else graph.node("Sigmoid", out)
    if model.facts.task == LABELS:
        graph.output("label", graph.cast(graph.node("Greater", out, one * 0), INT64), INT64, model.n_targets)
        graph.output("probabilities", p, kind, model.n_targets)
        return
    assert model.facts.task == CLASSES
    if outputs == SOFTMAX:
        places = graph.node("ArgMax", out, axis=1, keepdims=0)
    else:
        holds = graph.node("Greater", out, one * 0)
        places = graph.node("Squeeze", graph.cast(holds, INT64), np.array([1], np.int64))
        p = graph.node("Concat", graph.node("Sub", one, p), p, axis=1)
    label = graph.node("Gather", model.labels, places, axis=0)
    graph.output("label", label, TEXT if model.labels.dtype.kind == "U" else INT64, None)
    graph.output("probabilities", p, kind, len(model.labels))
