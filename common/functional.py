"""Activations and losses, each beside its gradient; losses are sums over rows, so ranks can add them up."""

from typing import Protocol

import numpy as np

from common.flat import Array


class Activation(Protocol):
    """An elementwise function that works in place."""

    needs_input: bool
    """Whether ``backward`` reads the pre-activation; if not, the caller may overwrite it."""

    def forward(self, z: Array, out: Array) -> None:
        """Write f(z) into ``out``; both (rows, units), ``out`` may be ``z`` unless ``needs_input``."""

    def backward(self, z: Array, a: Array, d: Array, scratch: Array) -> None:
        """Multiply ``d`` in place by f'(z), given a = f(z); ``scratch`` is overwritten."""


class Relu:
    """max(z, 0); the gradient at 0 is 0."""

    needs_input = False

    def forward(self, z: Array, out: Array) -> None:
        """Write max(z, 0)."""
        np.maximum(z, 0, out=out)

    def backward(self, z: Array, a: Array, d: Array, scratch: Array) -> None:  # noqa: ARG002
        """Keep d where a > 0; compare and multiply, since a masked assignment is many times slower."""
        np.greater(a, 0, out=scratch)
        np.multiply(d, scratch, out=d)


class Tanh:
    """tanh(z), f' = 1 - a^2."""

    needs_input = False

    def forward(self, z: Array, out: Array) -> None:
        """Write tanh(z)."""
        np.tanh(z, out=out)

    def backward(self, z: Array, a: Array, d: Array, scratch: Array) -> None:  # noqa: ARG002
        """Multiply d by 1 - a^2."""
        np.multiply(a, a, out=scratch)
        np.subtract(1, scratch, out=scratch)
        np.multiply(d, scratch, out=d)


class Sigmoid:
    """1 / (1 + exp(-z)), computed as (1 + tanh(z/2)) / 2, which cannot overflow; f' = a (1 - a)."""

    needs_input = False

    def forward(self, z: Array, out: Array) -> None:
        """Write the logistic function of z."""
        np.multiply(z, 0.5, out=out)
        np.tanh(out, out=out)
        np.multiply(out, 0.5, out=out)
        np.add(out, 0.5, out=out)

    def backward(self, z: Array, a: Array, d: Array, scratch: Array) -> None:  # noqa: ARG002
        """Multiply d by a (1 - a)."""
        np.subtract(1, a, out=scratch)
        np.multiply(scratch, a, out=scratch)
        np.multiply(d, scratch, out=d)


class Gelu:
    """z Phi(z) in the tanh form, z/2 (1 + t), t = tanh(c (z + k z^3)), c = sqrt(2/pi), k = 0.044715.

    Hendrycks & Gimpel 2016, arXiv 1606.08415, section 2. NumPy has no erf for the exact form.
    """

    needs_input = True
    C = float(np.sqrt(2 / np.pi))
    K = 0.044715

    def _t(self, z: Array, out: Array) -> None:
        np.multiply(z, z, out=out)
        np.multiply(out, self.C * self.K, out=out)
        np.add(out, self.C, out=out)
        np.multiply(out, z, out=out)
        np.tanh(out, out=out)

    def forward(self, z: Array, out: Array) -> None:
        """Write z/2 (1 + t); ``out`` is not ``z``."""
        self._t(z, out)
        np.add(out, 1, out=out)
        np.multiply(out, z, out=out)
        np.multiply(out, 0.5, out=out)

    def backward(self, z: Array, a: Array, d: Array, scratch: Array) -> None:
        """Multiply d by (1 + t)/2 + z/2 (1 - t^2) c (1 + 3 k z^2); overwrites ``a``, which is done with."""
        self._t(z, scratch)
        np.multiply(z, z, out=a)
        np.multiply(a, 3 * self.K * self.C, out=a)
        np.add(a, self.C, out=a)
        np.multiply(a, z, out=a)  # a = c z (1 + 3 k z^2)
        np.multiply(a, 0.5, out=a)
        np.add(scratch, 1, out=scratch)  # scratch = 1 + t
        np.multiply(a, scratch, out=a)
        np.subtract(2, scratch, out=z)  # z = 1 - t, so that a = z/2 (1 - t^2) c (...) after the next line
        np.multiply(a, z, out=a)
        np.multiply(scratch, 0.5, out=scratch)
        np.add(a, scratch, out=a)
        np.multiply(d, a, out=d)


ACTIVATIONS: dict[str, type[Activation]] = {"relu": Relu, "tanh": Tanh, "sigmoid": Sigmoid, "gelu": Gelu}


class Loss(Protocol):
    """A loss over the model's raw outputs, as the sum over rows."""

    def sum(self, out: Array, y: Array) -> float:
        """Return the sum of the rows' losses in float64; ``out``: (rows, n_out), not changed."""

    def sum_grad(self, out: Array, y: Array) -> float:
        """Return the same sum and overwrite ``out`` with its gradient."""

    def correct(self, out: Array, y: Array) -> int:
        """Return how many rows are classified right; 0 for a regression."""


class MeanSquaredError:
    """Mean over the outputs of (out - y)^2, summed over rows; y: (rows, n_out) float."""

    def sum(self, out: Array, y: Array) -> float:
        """Return sum_rows mean_outputs (out - y)^2."""
        return float(np.square(out - y).sum(dtype=np.float64)) / int(out.shape[1])

    def sum_grad(self, out: Array, y: Array) -> float:
        """Overwrite ``out`` with 2 (out - y) / n_out."""
        np.subtract(out, y, out=out)
        flat = out.reshape(-1)
        total = float(np.dot(flat, flat)) / int(out.shape[1])
        np.multiply(out, 2 / out.shape[1], out=out)
        return total

    def correct(self, out: Array, y: Array) -> int:  # noqa: ARG002
        """Return 0: a regression has no right or wrong."""
        return 0


class SoftmaxCrossEntropy:
    """log(sum_k exp(out_k)) - out_y per row; y: (rows,) int64 class numbers, n_out classes.

    Each row's own maximum is taken off first, so no exponential overflows and no row underflows to log 0.
    """

    def sum(self, out: Array, y: Array) -> float:
        """Return the sum of the rows' cross-entropies."""
        shifted = out - out.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(shifted).sum(axis=1))
        return float((log_sum - shifted[np.arange(len(y)), y]).sum(dtype=np.float64))

    def sum_grad(self, out: Array, y: Array) -> float:
        """Overwrite ``out`` with softmax(out) - onehot(y)."""
        rows = np.arange(len(y))
        np.subtract(out, out.max(axis=1, keepdims=True), out=out)
        of_class = out[rows, y]
        np.exp(out, out=out)
        sums = out.sum(axis=1, keepdims=True)
        np.divide(out, sums, out=out)
        out[rows, y] -= 1
        return float((np.log(sums[:, 0]) - of_class).sum(dtype=np.float64))

    def correct(self, out: Array, y: Array) -> int:
        """Count rows whose largest output is their class."""
        return int(np.count_nonzero(out.argmax(axis=1) == y))


class LogisticCrossEntropy:
    """max(z, 0) - z y + log(1 + exp(-|z|)) per row, for one output z and y: (rows,) in {0, 1}."""

    def sum(self, out: Array, y: Array) -> float:
        """Return the sum of the rows' cross-entropies."""
        z = out[:, 0]
        return float((np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z)))).sum(dtype=np.float64))

    def sum_grad(self, out: Array, y: Array) -> float:
        """Overwrite ``out`` with sigmoid(out) - y."""
        total = self.sum(out, y)
        Sigmoid().forward(out, out)
        out[:, 0] -= y
        return total

    def correct(self, out: Array, y: Array) -> int:
        """Count rows on the right side of z = 0."""
        return int(np.count_nonzero((out[:, 0] > 0) == (y > 0)))
