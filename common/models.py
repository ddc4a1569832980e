"""The model protocol and the multilayer perceptron, of which linear, softmax and logistic regression are cases."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from common.config import RunConfig
from common.errors import DataError
from common.flat import Array, Views
from common.functional import (
    ACTIVATIONS,
    LogisticCrossEntropy,
    Loss,
    MeanSquaredError,
    SoftmaxCrossEntropy,
)


class Model(Protocol):
    """What training needs of a model; it keeps scratch memory at most, no parameters, between calls."""

    loss: Loss

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return name and shape of every parameter, in forward order."""

    def init(self, params: Views, rng: np.random.Generator) -> None:
        """Fill the parameters with starting values."""

    def predict(self, params: Views, x: Array) -> Array:
        """Return raw outputs (rows, n_out); valid until the next call."""

    def loss_grad(self, params: Views, x: Array, y: Array, grads: Views, ready: Callable[[str], None]) -> float:
        """Write d(sum of the rows' losses) into ``grads``; return the sum.

        ``x``: (rows, n_in), ``rows`` may be 0, read only. Calls ``ready(name)`` as soon as that gradient is final.
        """


@dataclass(slots=True)
class _Scratch:
    """Memory of one pass over a fixed number of rows, one entry a layer."""

    z: list[Array]
    a: list[Array]
    d: list[Array]
    tmp: list[Array]


class Mlp:
    """Dense layers out = a W + b, with an activation between them and none after the last.

    Parameters ``W1`` (n_in, n_1), ``b1`` (n_1,), ``W2``, ...; just ``W`` and ``b`` when there is one layer.
    """

    def __init__(self, sizes: tuple[int, ...], activation: str, loss: Loss) -> None:
        self.sizes = sizes
        self.loss = loss
        self.activation_name = activation
        self.activation = ACTIVATIONS[activation]()
        n_layers = len(sizes) - 1
        suffixes = [""] if n_layers == 1 else [str(i) for i in range(1, n_layers + 1)]
        self.layers = [("W" + s, "b" + s) for s in suffixes]
        self._scratch: dict[tuple[int, str], _Scratch] = {}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of W1, b1, W2, b2, ..."""
        shapes: dict[str, tuple[int, ...]] = {}
        for (w, b), n_in, n_out in zip(self.layers, self.sizes, self.sizes[1:], strict=False):
            shapes[w] = (n_in, n_out)
            shapes[b] = (n_out,)
        return shapes

    def init(self, params: Views, rng: np.random.Generator) -> None:
        """Draw weights, set biases to 0.

        Before relu and gelu: normal, variance 2/n_in (He et al. 2015, eq. 10). Otherwise uniform within
        +-sqrt(6/(n_in + n_out)) (Glorot & Bengio 2010, eq. 16). Drawn in float64, whatever the parameters are.
        """
        for i, (w, b) in enumerate(self.layers):
            n_in, n_out = params[w].shape
            last = i == len(self.layers) - 1
            if self.activation_name in ("relu", "gelu") and not last:
                params[w][...] = rng.standard_normal((n_in, n_out)) * np.sqrt(2 / n_in)
            else:
                bound = np.sqrt(6 / (n_in + n_out))
                params[w][...] = rng.uniform(-bound, bound, (n_in, n_out))
            params[b][...] = 0

    def predict(self, params: Views, x: Array) -> Array:
        """Return raw outputs (rows, n_out)."""
        return self._forward(params, x, self._memory(x))

    def loss_grad(self, params: Views, x: Array, y: Array, grads: Views, ready: Callable[[str], None]) -> float:
        """Forward, then backward from the last layer to the first; see Model."""
        memory = self._memory(x)
        delta = self._forward(params, x, memory)
        total = self.loss.sum_grad(delta, y)
        for i in reversed(range(len(self.layers))):
            w, b = self.layers[i]
            before = x if i == 0 else memory.a[i - 1]
            np.matmul(before.T, delta, out=grads[w])
            np.add.reduce(delta, axis=0, out=grads[b])
            ready(b)
            ready(w)
            if i > 0:  # nobody needs the gradient by the input
                np.matmul(delta, params[w].T, out=memory.d[i - 1])
                delta = memory.d[i - 1]
                self.activation.backward(memory.z[i - 1], memory.a[i - 1], delta, memory.tmp[i - 1])
        return total

    def _forward(self, params: Views, x: Array, memory: _Scratch) -> Array:
        a = x
        for i, (w, b) in enumerate(self.layers):
            z = memory.z[i]
            np.matmul(a, params[w], out=z)
            np.add(z, params[b], out=z)
            if i < len(self.layers) - 1:
                a = memory.a[i]
                self.activation.forward(z, a)
        return memory.z[-1]

    def _memory(self, x: Array) -> _Scratch:
        """Return the scratch for this number of rows, made once: batches come in two or three sizes."""
        key = (len(x), x.dtype.char)
        if key not in self._scratch:
            z = [np.empty((len(x), n), x.dtype) for n in self.sizes[1:]]
            hidden = z[:-1]
            a = [np.empty_like(h) for h in hidden] if self.activation.needs_input else hidden
            self._scratch[key] = _Scratch(z, a, [np.empty_like(h) for h in hidden], [np.empty_like(h) for h in hidden])
        return self._scratch[key]


def build(config: RunConfig, n_features: int, n_classes: int, n_targets: int) -> Mlp:
    """Make the configured model for the data; ``n_classes`` is 0 for a regression.

    Raises DataError where the target does not fit the model.
    """
    hidden = config.hidden if config.model == "mlp" else ()
    loss: Loss
    if n_classes == 0:
        n_out, loss = n_targets, MeanSquaredError()
    elif config.model == "logistic":
        if n_classes != 2:
            raise DataError(f"model logistic: the target has {n_classes} classes; it takes 2 (use softmax or mlp)")
        n_out, loss = 1, LogisticCrossEntropy()
    else:
        n_out, loss = n_classes, SoftmaxCrossEntropy()
    return Mlp((n_features, *hidden, n_out), config.activation, loss)
