"""A model class of one's own: two dense layers and a straight path past the first, for classes.

mpirun -np 4 python -m workers.run --model docs.examples.own_model:SkipNet
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.nn.functional import SoftmaxCrossEntropy

Array = NDArray[Any]


class SkipNet:
    """Outputs x S + tanh(x W + a) V + c, under softmax and cross-entropy."""

    hidden = 32

    def __init__(self, n_features: int, n_outputs: int) -> None:
        self.n_features, self.n_outputs = n_features, n_outputs
        self.loss = SoftmaxCrossEntropy()

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return every parameter's shape, in the order of the forward pass."""
        return {
            "W": (self.n_features, self.hidden),
            "a": (self.hidden,),
            "S": (self.n_features, self.n_outputs),
            "V": (self.hidden, self.n_outputs),
            "c": (self.n_outputs,),
        }

    def init(self, params: Mapping[str, Array], rng: np.random.Generator) -> None:
        """Fill the parameters: weights normal with variance 1/n_in, biases 0."""
        for value in params.values():
            value[...] = rng.standard_normal(value.shape) / np.sqrt(len(value)) if value.ndim == 2 else 0

    def predict(self, params: Mapping[str, Array], x: Array) -> Array:
        """Return the outputs before softmax, (rows, n_outputs)."""
        return self.forward(params, x)[1]

    def forward(self, params: Mapping[str, Array], x: Array) -> tuple[Array, Array]:
        """Return the hidden layer, (rows, hidden), and the outputs."""
        hidden = np.tanh(x @ params["W"] + params["a"])
        return hidden, x @ params["S"] + hidden @ params["V"] + params["c"]

    def loss_grad(
        self,
        params: Mapping[str, Array],
        x: Array,
        y: Array,
        grads: Mapping[str, Array],
        ready: Callable[[str], None],
    ) -> float:
        """Write the gradient of the rows' summed loss into ``grads``; return that sum.

        A sum, not a mean: rankwise divides by the rows of all ranks. There may be no rows.
        """
        hidden, out = self.forward(params, x)
        # by the outputs: softmax(out) - onehot(y)
        d_out = np.exp(out - out.max(axis=1, keepdims=True))
        d_out /= d_out.sum(axis=1, keepdims=True)
        d_out[np.arange(len(y)), y] -= 1
        grads["c"][...] = d_out.sum(axis=0)
        grads["V"][...] = hidden.T @ d_out
        grads["S"][...] = x.T @ d_out
        # by what goes into tanh, whose derivative is 1 - tanh^2
        d_hidden = (d_out @ params["V"].T) * (1 - hidden * hidden)
        grads["a"][...] = d_hidden.sum(axis=0)
        grads["W"][...] = x.T @ d_hidden
        for name in reversed(self.shapes()):
            ready(name)
        return self.loss.sum(out, y)
