"""Derivatives of a loss by central differences, compared with what a model says they are.

A difference alone proves nothing: a step too large meets curvature or the kink of a relu, one too small meets
rounding. So a derivative counts as wrong only if none of several steps agrees with it, while these agree among each
other, beyond what rounding was measured to do.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from common.flat import Array


@dataclass(frozen=True, slots=True)
class Precision:
    """What can be expected of differences.

    ``steps``: as fractions of a parameter's usual size. ``tolerance``: relative; a derivative this close is right, and
    one that is off by more than ``wrong`` in all steps is not.
    """

    steps: tuple[float, ...]
    tolerance: float
    wrong: float
    nudge: float
    """By how much numbers are moved, as a fraction, to see rounding: too little to see curvature."""


FINE = Precision((1e-4, 1e-5, 1e-3, 1e-6), 2e-5, 1e-4, 1e-7)
"""For losses in float64."""
COARSE = Precision((1e-2, 3e-3, 3e-2, 1e-1), 5e-2, 0.25, 1e-4)
"""For those in float32, whatever the parameters are."""
ROUGH = 1e-9
"""A loss that rounding moves by more than this fraction is no float64 one."""
PLATEAU = 0.1
"""Differences of two steps agree if they are apart by less than this fraction."""
CLEARLY = 10
"""How many times as far off as the steps are apart a derivative must be."""

SLOW_S = 0.02
"""To see what rounding does, a loss that takes long is computed twice only."""
DRAWN = 1 << 16
"""Random numbers drawn for a vector."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A derivative as the model's gradient says and as differences say."""

    analytic: float
    numeric: float


class NumericDerivative:
    """Compares derivatives of ``loss``, a function of the numbers in ``vector``, which are moved and put back.

    ``value``: of the loss where these are.
    ``count``: derivatives that agreed; those of which nothing can be said do not count.
    """

    def __init__(self, loss: Callable[[], float], value: float, vector: Array, rng: np.random.Generator) -> None:
        self.loss, self.value, self.vector, self.count = loss, value, vector, 0
        self.precision, epsilon = COARSE, float(np.finfo(np.float32).eps)
        if vector.dtype == np.float64:
            self.precision, epsilon = FINE, float(np.finfo(np.float64).eps)
        self.rounding = 16 * epsilon * abs(value)
        if self.precision is FINE and (measured := self._rounding(rng)) > self.rounding:
            self.rounding = measured
            if measured > ROUGH * abs(value):  # the model computes in float32, whatever it gets
                self.precision = COARSE
                self.rounding = max(measured, self._rounding(rng))

    def compare(self, block: Array, direction: Array, gradient: Array, usual: float) -> Mismatch | None:
        """Return how the derivative of the loss along a direction is off, if it clearly is.

        ``block``: what is moved, a view of ``vector``; ``direction`` and ``gradient``: of its shape. ``usual``: the
        size that such a derivative has; nothing is made of one that is off by a small part of this.
        """
        base, found = block.copy(), dict[float, tuple[float, float]]()
        try:
            for h in self.precision.steps:
                numeric, analytic = self._difference(block, base, direction, gradient, h)
                if not math.isfinite(numeric):
                    continue
                size = max(abs(numeric), abs(analytic), 0.1 * usual)
                if abs(numeric - analytic) <= self.precision.tolerance * size + 3 * self.rounding / h:
                    self.count += 1
                    return None
                found[h] = numeric, analytic
        finally:
            block[...] = base
        return self._judge([found[h] for h in sorted(found)])

    def _difference(
        self, block: Array, base: Array, direction: Array, gradient: Array, h: float
    ) -> tuple[float, float]:
        """Return (f(p + h d) - f(p - h d)) / 2h, and what the gradient says of the two points as they are rounded."""
        step = np.multiply(direction, h, dtype=block.dtype)
        np.add(base, step, out=block)
        above = self.loss()
        moved = block.copy()
        np.subtract(base, step, out=block)
        numeric = (above - self.loss()) / (2 * h)
        np.subtract(moved, block, out=moved)
        return numeric, float(np.dot(gradient, moved)) / (2 * h)

    def _judge(self, found: list[tuple[float, float]]) -> Mismatch | None:
        """Return a mismatch if steps next to each other agree that there is one."""
        if any(numeric for numeric, _ in found):  # a step that the rounding swallows gives exactly 0
            found = [pair for pair in found if pair[0]]
        apart = [(abs(low[0] - high[0]), high) for low, high in pairwise(found)]
        if not apart:
            return None
        spread, (numeric, analytic) = min(apart)
        off = min(abs(numeric - analytic) for numeric, analytic in found)
        size = max(abs(numeric), abs(analytic))
        if spread > PLATEAU * size or off <= max(CLEARLY * spread, self.precision.wrong * size):
            return None
        return Mismatch(analytic, numeric)

    def _rounding(self, rng: np.random.Generator) -> float:
        """Return by how much rounding moves the loss: what is left of f(p + d) + f(p - d) - 2 f(p) for tiny d."""
        base, most = self.vector.copy(), 0.0
        direction, began = base * signs(self.vector, rng), time.perf_counter()
        for part in (1, 0.6, 0.3):
            step = direction * self.vector.dtype.type(part * self.precision.nudge)
            np.add(base, step, out=self.vector)
            above = self.loss()
            np.subtract(base, step, out=self.vector)
            left = abs(above + self.loss() - 2 * self.value)
            most = max(most, left if math.isfinite(left) else 0.0)
            if time.perf_counter() - began > SLOW_S:
                break
        self.vector[...] = base
        return most


def repeated(draw: Callable[[int], Array], n: int, dtype: np.dtype[Any]) -> Array:
    """Return n numbers, of which a long vector's repeat: drawing takes longer than using them."""
    few = draw(min(n, DRAWN)).astype(dtype)
    return few if len(few) == n else np.resize(few, n)


def signs(vector: Array, rng: np.random.Generator) -> Array:
    """Return +1 and -1 at random, of a vector's length and dtype."""
    return repeated(lambda n: 1 - 2 * rng.integers(0, 2, n), len(vector), vector.dtype)
