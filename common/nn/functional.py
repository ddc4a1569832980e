"""Activations and losses, each with its gradient; losses are sums over rows, so ranks can add them up."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from common.flat import Array


class Activation:
    """An elementwise function, tied to the memory of one layer so that no call allocates.

    Made with ``z``, ``a``: pre-activation and activation, which are the same memory unless ``needs_input``, and ``d``:
    gradient by ``a``. All are contiguous, of the same shape. ``tmp``: scratch memory of that shape.
    """

    needs_input = False
    """Whether ``backward`` reads the pre-activation; if not, ``a`` overwrites it."""
    keeps_one = False
    """Whether f(1) = 1: then a column of ones stays one."""

    def __init__(self, z: Array, a: Array, d: Array) -> None:
        self.z, self.a, self.d = z, a, d
        self.tmp = np.empty(z.shape, z.dtype)

    def forward(self) -> None:
        """Write f(z) into ``a``."""

    def backward(self) -> None:
        """Multiply ``d`` by f'(z). ``z`` may be overwritten, ``a`` may not: others may still read it."""


class Relu(Activation):
    """max(z, 0); the gradient at 0 is 0.

    The gradient works on bits: read as an integer, a float above 0 is above 0; its negative, shifted right by all bits
    but one, is a mask of ones, or of zeros where the number is 0. Comparing would make a bool array, and NumPy would
    convert it in a buffer of its own in every call.
    """

    keeps_one = True

    def __init__(self, z: Array, a: Array, d: Array) -> None:
        super().__init__(z, a, d)
        self.zeros = np.zeros(z.shape, z.dtype)  # NumPy compares two arrays 2.5 times as fast as array and number
        whole = np.dtype(f"i{z.itemsize}")
        self.a_bits, self.d_bits, self.mask = a.view(whole), d.view(whole), self.tmp.view(whole)
        self.shift = np.array(8 * z.itemsize - 1, whole)

    def forward(self) -> None:
        """Write max(z, 0)."""
        np.maximum(self.z, self.zeros, out=self.a)

    def backward(self) -> None:
        """Keep d where a > 0."""
        np.negative(self.a_bits, out=self.mask)
        np.right_shift(self.mask, self.shift, out=self.mask)
        np.bitwise_and(self.d_bits, self.mask, out=self.d_bits)


class Tanh(Activation):
    """tanh(z), f' = 1 - a^2."""

    def forward(self) -> None:
        """Write tanh(z)."""
        np.tanh(self.z, out=self.a)

    def backward(self) -> None:
        """Multiply d by 1 - a^2."""
        np.multiply(self.a, self.a, out=self.tmp)
        np.subtract(1, self.tmp, out=self.tmp)
        np.multiply(self.d, self.tmp, out=self.d)


class Sigmoid(Activation):
    """1 / (1 + exp(-z)), computed as (1 + tanh(z/2)) / 2, which cannot overflow; f' = a (1 - a)."""

    def forward(self) -> None:
        """Write the logistic function of z."""
        np.multiply(self.z, 0.5, out=self.a)
        np.tanh(self.a, out=self.a)
        np.multiply(self.a, 0.5, out=self.a)
        np.add(self.a, 0.5, out=self.a)

    def backward(self) -> None:
        """Multiply d by a (1 - a)."""
        np.subtract(1, self.a, out=self.tmp)
        np.multiply(self.tmp, self.a, out=self.tmp)
        np.multiply(self.d, self.tmp, out=self.d)


class Gelu(Activation):
    """z Phi(z) in the tanh form, z/2 (1 + t), t = tanh(c (z + k z^3)), c = sqrt(2/pi), k = 0.044715.

    Hendrycks & Gimpel 2016, arXiv 1606.08415, section 2. NumPy has no erf for the exact form.
    """

    needs_input = True
    C = float(np.sqrt(2 / np.pi))
    K = 0.044715

    def __init__(self, z: Array, a: Array, d: Array) -> None:
        super().__init__(z, a, d)
        self.slope = np.empty(z.shape, z.dtype)

    def _t(self, out: Array) -> None:
        np.multiply(self.z, self.z, out=out)
        np.multiply(out, self.C * self.K, out=out)
        np.add(out, self.C, out=out)
        np.multiply(out, self.z, out=out)
        np.tanh(out, out=out)

    def forward(self) -> None:
        """Write z/2 (1 + t)."""
        self._t(self.a)
        np.add(self.a, 1, out=self.a)
        np.multiply(self.a, self.z, out=self.a)
        np.multiply(self.a, 0.5, out=self.a)

    def backward(self) -> None:
        """Multiply d by (1 + t)/2 + z/2 (1 - t^2) c (1 + 3 k z^2)."""
        z, t, slope = self.z, self.tmp, self.slope
        self._t(t)
        np.multiply(z, z, out=slope)
        np.multiply(slope, 3 * self.K * self.C, out=slope)
        np.add(slope, self.C, out=slope)
        np.multiply(slope, z, out=slope)  # c z (1 + 3 k z^2)
        np.multiply(slope, 0.5, out=slope)
        np.add(t, 1, out=t)  # 1 + t
        np.multiply(slope, t, out=slope)
        np.subtract(2, t, out=z)  # 1 - t, so that slope = z/2 (1 - t^2) c (...) after the next line
        np.multiply(slope, z, out=slope)
        np.multiply(t, 0.5, out=t)
        np.add(slope, t, out=slope)
        np.multiply(self.d, slope, out=self.d)


ACTIVATIONS: dict[str, type[Activation]] = {"relu": Relu, "tanh": Tanh, "sigmoid": Sigmoid, "gelu": Gelu}


LossStep = Callable[[Array, float], float]
"""Takes the target, (n_out, rows), as ``Loss.encode`` wrote it, and a scale. Returns the sum of the rows' losses and
overwrites the model's outputs with the scale times its gradient."""


class Loss:
    """A loss over the model's raw outputs, as the sum over rows."""

    def gradient(self, out: Array) -> LossStep:
        """Return the loss tied to the memory of one pass: ``out``, (n_out, rows), the model's raw outputs.

        Transposed, because then a softmax adds along the long axis.
        """
        raise NotImplementedError

    def encode(self, y: Array, out: Array) -> None:
        """Write the rows' targets as a ``LossStep`` takes them: ``out`` (n_out, rows)."""

    def sum(self, out: Array, y: Array) -> float:
        """Return the sum of the rows' losses in float64; ``out``: (rows, n_out), not changed."""
        raise NotImplementedError

    def correct(self, out: Array, y: Array) -> int:  # noqa: ARG002
        """Return how many rows are classified right; 0 for a regression."""
        return 0


def _multiplier(out: Array) -> Callable[[float], None]:
    factor = np.empty((), out.dtype)  # a multiplication by an array without axes takes half as long

    def multiply(by: float) -> None:
        if by != 1:
            factor[()] = by
            np.multiply(out, factor, out=out)

    return multiply


def _squares(out: Array, weights: Array | None) -> Callable[[], Any]:
    """Return what sums the squares of ``out``, (n_out, rows), times the weights by output if there are any."""
    flat, squares, by_row = out.reshape(-1), np.empty_like(out), np.empty(out.shape[1], out.dtype)
    if weights is None:
        return partial(flat.dot, flat)
    by_output, ones = weights.astype(out.dtype), np.ones_like(by_row)
    return lambda: np.dot(by_output, np.multiply(out, out, out=squares), by_row).dot(ones)


class MeanSquaredError(Loss):
    """Mean over the outputs of (out - y)^2, summed over rows; y: (rows, n_out) float.

    ``weights``: (n_out,), what each output's square counts in the sums that are returned, 1 unless given. They are not
    in the gradient: standardised targets all count alike, and the sums are still in the targets' own units.
    """

    weights: Array | None = None
    """Here too, for subclasses that have an ``__init__`` of their own."""

    def __init__(self, weights: Array | None = None) -> None:
        self.weights = None if weights is None or (weights == 1).all() else weights

    def gradient(self, out: Array) -> LossStep:
        """2 (out - y) / n_out."""
        squares, n_out, multiply = _squares(out, self.weights), int(out.shape[0]), _multiplier(out)

        def step(target: Array, scale: float) -> float:
            np.subtract(out, target, out=out)
            total = float(squares()) / n_out
            multiply(2 * scale / n_out)
            return total

        return step

    def encode(self, y: Array, out: Array) -> None:
        """Transpose."""
        np.copyto(out, y.T)

    def sum(self, out: Array, y: Array) -> float:
        """Return sum_rows mean_outputs (out - y)^2."""
        weights = np.ones(out.shape[1]) if self.weights is None else self.weights
        return float(np.square(out - y).sum(axis=0, dtype=np.float64).dot(weights)) / int(out.shape[1])


class SoftmaxCrossEntropy(Loss):
    """log(sum_k exp(out_k)) - out_y per row; y: (rows,) int64 class numbers, n_out classes."""

    def gradient(self, out: Array) -> LossStep:
        """softmax(out) - onehot(y).

        Each row's own maximum is taken off first, so no exponential overflows and no row underflows to log 0.
        """
        flat, one, multiply = out.reshape(-1), np.ones((), out.dtype), _multiplier(out)
        by_row, logs = (np.empty(out.shape[1], out.dtype) for _ in range(2))

        def step(target: Array, scale: float) -> float:
            np.maximum.reduce(out, axis=0, out=by_row)
            np.subtract(out, by_row, out=out)
            of_class = float(flat.dot(target.reshape(-1)))
            np.exp(out, out=out)
            np.add.reduce(out, axis=0, out=by_row)
            np.log(by_row, out=logs)
            total: float = float(np.add.reduce(logs)) - of_class
            np.divide(one, by_row, out=by_row)
            np.multiply(out, by_row, out=out)
            np.subtract(out, target, out=out)
            multiply(scale)
            return total

        return step

    def encode(self, y: Array, out: Array) -> None:
        """Write 1 at each row's class and 0 elsewhere."""
        out.fill(0)
        out[y, np.arange(len(y))] = 1

    def sum(self, out: Array, y: Array) -> float:
        """Return the sum of the rows' cross-entropies."""
        shifted = out - out.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(shifted).sum(axis=1))
        return float((log_sum - shifted[np.arange(len(y)), y]).sum(dtype=np.float64))

    def correct(self, out: Array, y: Array) -> int:
        """Count rows whose largest output is their class."""
        return int(np.count_nonzero(out.argmax(axis=1) == y))


class LogisticCrossEntropy(Loss):
    """max(z, 0) - z y + log(1 + exp(-|z|)) per row, for one output z and y: (rows,) in {0, 1}."""

    def gradient(self, out: Array) -> LossStep:
        """sigmoid(out) - y."""
        sigmoid, multiply = Sigmoid(out, out, out), _multiplier(out)
        flat, tmp, by_row = out.reshape(-1), sigmoid.tmp, sigmoid.tmp.reshape(-1)
        zeros, ones = np.zeros_like(out), np.ones(out.size, out.dtype)

        def step(target: Array, scale: float) -> float:
            np.maximum(out, zeros, out=tmp)
            total = float(by_row.dot(ones)) - float(flat.dot(target.reshape(-1)))
            np.absolute(out, out=tmp)
            np.negative(tmp, out=tmp)
            np.exp(tmp, out=tmp)
            np.log1p(tmp, out=tmp)
            total += float(by_row.dot(ones))
            sigmoid.forward()
            np.subtract(out, target, out=out)
            multiply(scale)
            return total

        return step

    def encode(self, y: Array, out: Array) -> None:
        """Copy."""
        out[0] = y

    def sum(self, out: Array, y: Array) -> float:
        """Return the sum of the rows' cross-entropies."""
        z = out[:, 0]
        return float((np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z)))).sum(dtype=np.float64))

    def correct(self, out: Array, y: Array) -> int:
        """Count rows on the right side of z = 0."""
        return int(np.count_nonzero((out[:, 0] > 0) == (y > 0)))
