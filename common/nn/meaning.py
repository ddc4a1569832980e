"""What a model's raw outputs mean: classes, probabilities, numbers in the target's unit."""

import numpy as np

from common.data.target import CLASSES, LABELS, REGRESSION
from common.errors import DataError
from common.flat import Array
from common.nn.functional import LogisticCrossEntropy, Loss, SoftmaxCrossEntropy


def has_probabilities(task: str, loss: Loss) -> bool:
    """Say whether outputs can be told as probabilities: not those of a regression, or of an unknown loss."""
    return task == LABELS or (task == CLASSES and isinstance(loss, SoftmaxCrossEntropy | LogisticCrossEntropy))


def probabilities(task: str, loss: Loss, out: Array) -> Array:
    """Return those of the classes, (n, n_classes), or of each label, (n, n_labels), in float64, of (n, n_out).

    Raises DataError where these are no probabilities.
    """
    if not has_probabilities(task, loss):
        raise DataError(
            "a regression predicts no probabilities" if task == REGRESSION else
            f"what {type(loss).__name__}, a loss of one's own, makes of outputs is no probabilities"
        )  # fmt: skip
    out = out.astype(np.float64)
    if task == LABELS:
        return _sigmoid(out)
    if isinstance(loss, LogisticCrossEntropy):
        p = _sigmoid(out[:, :1])
        return np.concatenate([1 - p, p], axis=1)
    out = np.exp(out - out.max(axis=1, keepdims=True))
    return np.asarray(out / out.sum(axis=1, keepdims=True))


def places(out: Array) -> Array:
    """Return the class of each row, (n,) from 0."""
    return (out[:, 0] > 0).astype(np.int64) if out.shape[1] == 1 else np.asarray(out.argmax(axis=1))


def _sigmoid(z: Array) -> Array:
    """Return 1 / (1 + exp(-z)), exact for small ones, too."""
    e = np.exp(-np.abs(z))
    return np.asarray(np.where(z >= 0, 1, e) / (1 + e))
