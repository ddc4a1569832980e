"""The multilayer perceptron, of which linear, softmax and logistic regression are cases with one layer."""

import copy
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from common.data.loader import Batch
from common.flat import Array, Flat, Views
from common.nn.activations import ACTIVATIONS, Activation
from common.nn.functional import Loss

Ready = Callable[[int], None]
DRAWN = 1 << 20
"""Initial weights drawn at a time."""


class Mlp:
    """Dense layers out = a W + b, with an activation between them and none after the last.

    Parameters ``W1`` (n_in, n_1), ``b1`` (n_1,), ``W2``, ...; just ``W`` and ``b`` when there is one layer. A bias
    follows its weights, so [W; b] is one matrix, and inputs end with a column of ones: the bias costs no pass.
    """

    def __init__(self, sizes: tuple[int, ...], activation: str, loss: Loss) -> None:
        self.sizes, self.activation_name, self.loss = sizes, activation, loss
        suffixes = [""] if len(sizes) == 2 else [str(i) for i in range(1, len(sizes))]
        self.layers = [("W" + s, "b" + s) for s in suffixes]
        self._forwards: dict[int, tuple[list[Array], list[Activation]]] = {}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of W1, b1, W2, b2, ..."""
        shapes: dict[str, tuple[int, ...]] = {}
        for (w, b), (n_in, n_out) in zip(self.layers, pairwise(self.sizes), strict=True):
            shapes |= {w: (n_in, n_out), b: (n_out,)}
        return shapes

    def init(self, params: Views, rng: np.random.Generator) -> None:
        """Draw weights, set biases to 0.

        Before relu and gelu: normal, variance 2/n_in (He et al. 2015, eq. 10). Otherwise uniform within
        +-sqrt(6/(n_in + n_out)) (Glorot & Bengio 2010, eq. 16). Drawn in float64, whatever the parameters are.
        """
        for w, b in self.layers:
            n_in, n_out = params[w].shape
            rows = max(1, DRAWN // n_out)  # at a time: float64 is twice float32, for the largest matrix there is
            for start in range(0, n_in, rows):
                some = params[w][start : start + rows]
                if self.activation_name in ("relu", "gelu") and (w, b) != self.layers[-1]:
                    some[...] = rng.standard_normal(some.shape) * np.sqrt(2 / n_in)
                else:
                    bound = np.sqrt(6 / (n_in + n_out))
                    some[...] = rng.uniform(-bound, bound, some.shape)
            params[b][...] = 0

    def predict(self, params: Views, x: Array) -> Array:
        """Return raw outputs (rows, n_out), valid until the next call."""
        if len(x) not in self._forwards:
            z: list[Array] = [np.empty((len(x), n), x.dtype) for n in self.sizes[1:]]
            kind = ACTIVATIONS[self.activation_name]
            outs = [np.empty_like(v) if kind.needs_input else v for v in z[:-1]]
            self._forwards[len(x)] = z, [kind(v, w, w) for v, w in zip(z, outs, strict=False)]
        z, activations = self._forwards[len(x)]
        a: Array = x
        for (w, b), out, activation in zip(self.layers, z, [*activations, None], strict=True):
            np.matmul(a, params[w], out=out)
            np.add(out, params[b], out=out)
            if activation is not None:
                activation.forward()
                a = activation.a
        return z[-1]


class Backprop:
    """Forward and backward of one step for a fixed number of rows, without allocating: all views are made here.

    ``inputs[i]``, ``deltas[i]``: memory for the input of layer i + 1 and for its gradient, (rows, n + 1) with
    n = ``sizes[i + 1]``. ``outputs[i]``: where the gradient of layer i, (n_in + 1, n_out), goes; None leaves it out.
    """

    def __init__(
        self, model: Mlp, flat: Flat, n_rows: int, inputs: list[Array], deltas: list[Array], outputs: list[Array | None]
    ) -> None:
        self.n_layers = len(model.layers)
        self.inputs, self.deltas, self.outputs = inputs, deltas, outputs
        self.starts = [flat.slices[w].start for w, _ in model.layers]
        kind = ACTIVATIONS[model.activation_name]
        self.keeps_one = kind.keeps_one
        self.weights = [flat.joined(flat.param_vector, w, b) for w, b in model.layers]
        self.weights_t = [w.T for w in self.weights]
        self.inputs_t = [a.T for a in inputs]
        self.ones = [a[:, -1] for a in inputs]
        before = [np.empty_like(a) if kind.needs_input else a for a in inputs]
        for rows in (*inputs, *before):
            rows[:, -1] = 1
        self.z = [z[:, :-1] for z in before]
        self.activations = [kind(*memory) for memory in zip(before, inputs, deltas, strict=True)]
        self.delta_views = [d[:, :-1] for d in deltas]
        # np.dot takes half the time of np.matmul to begin, but copies deltas, which are not contiguous
        self.products = [np.matmul] * (self.n_layers - 1) + [np.dot]
        self.out = np.empty((model.sizes[-1], n_rows), flat.dtype)
        self.out_t = self.out.T
        self.loss_step = model.loss.gradient(self.out)

    def with_outputs(self, outputs: list[Array | None]) -> "Backprop":
        """Return one that uses the same memory, but writes the gradients elsewhere, or leaves some out."""
        other = copy.copy(self)
        other.outputs = outputs
        return other

    def loss_grad(self, batch: Batch, scale: float, ready: Ready | None) -> float:
        """Write ``scale`` times the gradient of the sum of the rows' losses; return that sum, unscaled.

        Calls ``ready(start)`` when the flat gradient is final from ``start`` on.
        """
        loss_sum = self.forward(batch, scale)
        self.backward(batch, ready)
        return loss_sum

    def forward(self, batch: Batch, scale: float) -> float:
        """Run up to the loss, whose scaled gradient is then in ``out``; return its sum."""
        a, a_t = batch.x, batch.x_t
        for i, activation in enumerate(self.activations):
            np.matmul(a, self.weights[i], out=self.z[i])
            activation.forward()
            if not self.keeps_one:
                self.ones[i].fill(1)
            a, a_t = self.inputs[i], self.inputs_t[i]
        np.dot(self.weights_t[-1], a_t, self.out)
        return self.loss_step(batch.target, scale, batch.weight)

    def backward(self, batch: Batch, ready: Ready | None) -> None:
        """Run from the loss's gradient back to the first layer, whose input needs none."""
        delta = self.out_t
        for i in range(self.n_layers - 1, -1, -1):
            gradient = self.outputs[i]
            if gradient is not None:
                self.products[i](self.inputs_t[i - 1] if i else batch.x_t, delta, gradient)
                if ready is not None:
                    ready(self.starts[i])
            if i:
                self.products[i](delta, self.weights_t[i], self.deltas[i - 1])
                self.activations[i - 1].backward()
                delta = self.delta_views[i - 1]
