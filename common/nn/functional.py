"""Losses, each with its gradient, as sums over rows, so that ranks can add them up."""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import numpy as np

from common.flat import Array
from common.nn.activations import Sigmoid


class LossStep(Protocol):
    """A loss tied to the memory of one pass."""

    def __call__(self, target: Array, scale: float, weight: Array | None = None) -> float:
        """Return the sum of the rows' losses; overwrite the model's outputs with ``scale`` times its gradient.

        ``target``: (n_out, rows), as ``Loss.encode`` wrote it. ``weight``: (rows,), what each row counts in both, 1
        unless given.
        """


class Loss:
    """A loss over the model's raw outputs, as the sum over rows."""

    def gradient(self, out: Array) -> LossStep:
        """Return the loss tied to the memory of one pass: ``out``, (n_out, rows), the model's raw outputs.

        Transposed, because then a softmax adds along the long axis.
        """
        raise NotImplementedError

    def encode(self, y: Array, out: Array) -> None:
        """Write the rows' targets as a ``LossStep`` takes them: ``out`` (n_out, rows)."""

    def sum(self, out: Array, y: Array, weight: Array | None = None) -> float:
        """Return the sum of the rows' losses in float64; ``out``: (rows, n_out), not changed; ``weight``: (rows,)."""
        raise NotImplementedError

    def correct(self, out: Array, y: Array, weight: Array | None = None) -> float:  # noqa: ARG002
        """Return how many rows are classified right, each counted by its weight; 0 for a regression."""
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


class _WeightedSum:
    """Adds up a matrix, (n_out, rows), times the weights of its rows; its memory is taken when it is first needed."""

    def __init__(self, like: Array) -> None:
        self.like = like
        self.product, self.by_row = np.empty((0, 0), like.dtype), np.empty(0, like.dtype)

    def __call__(self, one: Array, other: Array, weight: Array, by_output: Array) -> float:
        """Return the sum of one * other * weight by row * by_output."""
        if self.product.shape != self.like.shape:
            self.product, self.by_row = np.empty_like(self.like), np.empty(self.like.shape[1], self.like.dtype)
        return float(np.dot(by_output, np.multiply(one, other, out=self.product), self.by_row).dot(weight))


def _total(by_row: Array, weight: Array | None) -> float:
    """Return the sum of rows' losses in float64."""
    return float(by_row.sum(dtype=np.float64) if weight is None else by_row.astype(np.float64).dot(weight))


def _count(right: Array, weight: Array | None) -> float:
    """Return how many rows are right, each counted by its weight."""
    return int(np.count_nonzero(right)) if weight is None else float(weight[right].sum())


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
        weighted, by_output = _WeightedSum(out), np.ones(n_out) if self.weights is None else self.weights
        by_output = by_output.astype(out.dtype)

        def step(target: Array, scale: float, weight: Array | None = None) -> float:
            np.subtract(out, target, out=out)
            if weight is None:
                total = float(squares()) / n_out
            else:
                total = weighted(out, out, weight, by_output) / n_out
                np.multiply(out, weight, out=out)
            multiply(2 * scale / n_out)
            return total

        return step

    def encode(self, y: Array, out: Array) -> None:
        """Transpose."""
        np.copyto(out, y.T)

    def sum(self, out: Array, y: Array, weight: Array | None = None) -> float:
        """Return sum_rows mean_outputs (out - y)^2."""
        weights = np.ones(out.shape[1]) if self.weights is None else self.weights
        squares = np.square(out - y)
        by_output = squares.sum(axis=0, dtype=np.float64) if weight is None else weight @ squares
        return float(by_output.dot(weights)) / int(out.shape[1])


class SoftmaxCrossEntropy(Loss):
    """log(sum_k exp(out_k)) - out_y per row; y: (rows,) int64 class numbers, n_out classes."""

    def gradient(self, out: Array) -> LossStep:
        """softmax(out) - onehot(y).

        Each row's own maximum is taken off first, so no exponential overflows and no row underflows to log 0.
        """
        flat, one, multiply = out.reshape(-1), np.ones((), out.dtype), _multiplier(out)
        by_row, logs = (np.empty(out.shape[1], out.dtype) for _ in range(2))
        weighted, by_output = _WeightedSum(out), np.ones(out.shape[0], out.dtype)

        def step(target: Array, scale: float, weight: Array | None = None) -> float:
            np.maximum.reduce(out, axis=0, out=by_row)
            np.subtract(out, by_row, out=out)
            if weight is None:
                of_class = float(flat.dot(target.reshape(-1)))
            else:
                of_class = weighted(out, target, weight, by_output)
            np.exp(out, out=out)
            np.add.reduce(out, axis=0, out=by_row)
            np.log(by_row, out=logs)
            total: float = float(np.add.reduce(logs) if weight is None else logs.dot(weight)) - of_class
            np.divide(one, by_row, out=by_row)
            np.multiply(out, by_row, out=out)
            np.subtract(out, target, out=out)
            if weight is not None:
                np.multiply(out, weight, out=out)
            multiply(scale)
            return total

        return step

    def encode(self, y: Array, out: Array) -> None:
        """Write 1 at each row's class and 0 elsewhere."""
        out.fill(0)
        out[y, np.arange(len(y))] = 1

    def sum(self, out: Array, y: Array, weight: Array | None = None) -> float:
        """Return the sum of the rows' cross-entropies."""
        shifted = out - out.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(shifted).sum(axis=1))
        return _total(log_sum - shifted[np.arange(len(y)), y], weight)

    def correct(self, out: Array, y: Array, weight: Array | None = None) -> float:
        """Count rows whose largest output is their class."""
        return _count(out.argmax(axis=1) == y, weight)


class LogisticCrossEntropy(Loss):
    """Mean over the outputs of max(z, 0) - z y + log(1 + exp(-|z|)), summed over rows; y: 0 or 1.

    For one output z and y: (rows,), two classes; or for several labels, each on or off, and y: (rows, n_out).
    """

    def gradient(self, out: Array) -> LossStep:
        """(sigmoid(out) - y) / n_out."""
        sigmoid, multiply, n_out = Sigmoid(out, out, out), _multiplier(out), int(out.shape[0])
        flat, tmp, terms = out.reshape(-1), sigmoid.tmp, sigmoid.tmp.reshape(-1)
        zeros, ones = np.zeros_like(out), np.ones(out.size, out.dtype)
        weighted, by_output = _WeightedSum(out), np.ones(n_out, out.dtype)
        all_ones = ones.reshape(out.shape)

        def added(weight: Array | None) -> float:
            return float(terms.dot(ones)) if weight is None else weighted(tmp, all_ones, weight, by_output)

        def step(target: Array, scale: float, weight: Array | None = None) -> float:
            np.maximum(out, zeros, out=tmp)
            total = added(weight)
            if weight is None:
                total -= float(flat.dot(target.reshape(-1)))
            else:
                total -= weighted(out, target, weight, by_output)
            np.absolute(out, out=tmp)
            np.negative(tmp, out=tmp)
            np.exp(tmp, out=tmp)
            np.log1p(tmp, out=tmp)
            total += added(weight)
            sigmoid.forward()
            np.subtract(out, target, out=out)
            if weight is not None:
                np.multiply(out, weight, out=out)
            multiply(scale / n_out)
            return total / n_out

        return step

    def encode(self, y: Array, out: Array) -> None:
        """Copy, transposed."""
        out[...] = y.T

    def sum(self, out: Array, y: Array, weight: Array | None = None) -> float:
        """Return the sum of the rows' cross-entropies."""
        y = y.reshape(out.shape)
        terms = np.maximum(out, 0) - out * y + np.log1p(np.exp(-np.abs(out)))
        return _total(terms.mean(axis=1) if out.shape[1] > 1 else terms[:, 0], weight)

    def correct(self, out: Array, y: Array, weight: Array | None = None) -> float:
        """Count rows all of whose outputs are on the right side of 0."""
        return _count(((out > 0) == (y.reshape(out.shape) > 0)).all(axis=1), weight)
