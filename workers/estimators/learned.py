"""What a run has learned, as an estimator keeps it: the model, and the losses by epoch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.arrays_file import open_arrays
from common.errors import BrokenFileError, RankwiseError
from common.flat import Array
from common.run_files import LOG_NAME, MODEL_NAME
from ps.logfile.deduplicated import DeduplicatedReader

ROWS = 4096
"""Rows that are predicted at a time."""


@dataclass(frozen=True, slots=True)
class Network:
    """The model of a run. ``arrays``: of its model.npz, in float64."""

    arrays: dict[str, Array]
    activation: str
    model: str

    @classmethod
    def load(cls, path: Path, activation: str, model: str) -> "Network":
        """Read it. Raises RankwiseError."""
        try:
            with open_arrays(path) as file:
                arrays = {name: file.read(name) for name in file.names}
        except (BrokenFileError, OSError) as error:
            raise RankwiseError(f"{path}: not a readable model ({error})") from error
        return cls(
            {k: v.astype(np.float64) if v.dtype.kind == "f" else v for k, v in arrays.items()}, activation, model
        )

    def outputs(self, x: Array) -> Array:
        """Return raw outputs, (n, n_out) float64: scores of classes, or numbers in the target's unit."""
        return np.concatenate([self._some(x[i : i + ROWS]) for i in range(0, max(1, len(x)), ROWS)])

    def _some(self, x: Array) -> Array:
        a = self.arrays
        out = (x.astype(np.float64) - a["x_mean"]) / a["x_scale"]
        layers = [""] if "W" in a else [str(i) for i in range(1, 1 + sum(name.startswith("W") for name in a))]
        for i, layer in enumerate(layers):
            if i:
                out = ACTIVATIONS[self.activation](out)
            out = out @ a[f"W{layer}"] + a[f"b{layer}"]
        return np.asarray(out if "classes" in a else out * a["y_scale"] + a["y_mean"])


def _gelu(z: Array) -> Array:
    return np.asarray(0.5 * z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))))


ACTIVATIONS: dict[str, Any] = {
    "relu": lambda z: np.maximum(z, 0),
    "tanh": np.tanh,
    "sigmoid": lambda z: (1 + np.tanh(z / 2)) / 2,
    "gelu": _gelu,
}


@dataclass(frozen=True, slots=True)
class Learned:
    """``losses``, ``validation_losses``: by epoch. ``header``: the first record of the run's log."""

    network: Network
    losses: list[float]
    validation_losses: list[float]
    header: dict[str, Any]

    @classmethod
    def read(cls, run: Path) -> "Learned":
        """Read what a run has left. Raises RankwiseError."""
        header: dict[str, Any] = {}
        losses, validation = [], []
        for record in DeduplicatedReader(run / LOG_NAME).records():
            if record["kind"] == "header":
                header = record
            elif record["kind"] == "epoch":
                losses.append(float(record["loss"]))
                if record["validation_loss"] is not None:
                    validation.append(float(record["validation_loss"]))
        config = header["config"]
        network = Network.load(run / MODEL_NAME, config["activation"], config["model"])
        return cls(network, losses, validation, header)


def probabilities(outputs: Array) -> Array:
    """Return the probability of each class, (n, classes): softmax of scores, or of one score the logistic function."""
    if outputs.shape[1] == 1:
        outputs = np.hstack([np.zeros_like(outputs), outputs])
    e = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))
