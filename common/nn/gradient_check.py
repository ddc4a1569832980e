"""Compares the gradient that a model wrote with numeric derivatives: by parameter, and by single entries."""

import math
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from common.errors import ConfigError
from common.flat import Array, Flat
from common.nn.model_trial import ModelTrial, TrialRows, place
from common.nn.numeric_derivative import Mismatch, NumericDerivative, repeated, signs

ENTRIES = 32
"""Single entries of each parameter, as long as there is time."""
FROM_START = 0.1
"""How far from the starting point the gradient is compared, as a fraction of a parameter's size: at it biases are 0, a
relu may be on its kink, and a matrix of zeros hides what is behind it."""

POINTS = 2
"""At so many more points a derivative must be wrong too."""
STEEPEST = 0.3
"""How much a derivative may be, as a fraction of the loss."""


def usual_size(view: Array) -> float:
    """Return the size of a parameter's numbers, or if all are 0 a size that they may have."""
    flat = view.reshape(-1)
    rms = math.sqrt(float(np.dot(flat, flat)) / flat.size)
    return rms or (1 / math.sqrt(len(view)) if view.ndim > 1 else 1.0)


def _signs_of(gradient: Array, rng: np.random.Generator) -> Array:
    direction = np.sign(gradient)
    np.copyto(direction, signs(gradient, rng), where=direction == 0)
    return direction


def leave_start(flat: Flat, rng: np.random.Generator) -> None:
    """Move all parameters a little."""
    for view in flat.params.values():
        step = repeated(rng.standard_normal, view.size, view.dtype)
        step *= FROM_START * usual_size(view)
        np.add(view, step.reshape(view.shape), out=view)


def compare(trial: ModelTrial, flat: Flat, rows: TrialRows, rng: np.random.Generator, loss: float, until: float) -> int:
    """Compare the gradient in ``flat`` until the time is up; return how many derivatives agreed.

    ``loss``: of the rows, as ``predict`` gives it. Raises ConfigError.
    """
    return _Comparison(trial, flat, rows, rng, loss).run(until)


class _Comparison:
    def __init__(self, trial: ModelTrial, flat: Flat, rows: TrialRows, rng: np.random.Generator, loss: float) -> None:
        self.trial, self.flat, self.rows, self.rng = trial, flat, rows, rng
        self.numeric = NumericDerivative(lambda: trial.loss(flat, rows), loss, flat.param_vector, rng)
        self.sizes = {name: usual_size(view) for name, view in flat.params.items()}

    def run(self, until: float) -> int:
        if self._confirmed(self._of_all):
            raise self._found_somewhere()
        for random in (True, False):
            for name in self.flat.names:
                if time.perf_counter() > until:
                    return self.numeric.count
                if mismatch := self._confirmed(partial(self._of_parameter, name, random=random)):
                    raise self._found_in(name, mismatch, random=random)
        for k in range(ENTRIES):
            for name in self.flat.names:
                if time.perf_counter() > until:
                    return self.numeric.count
                i = self._entry(name, k)
                if mismatch := self._confirmed(partial(self._of_entry, name, i)):
                    raise self._error(name, i, mismatch)
        return self.numeric.count

    def _confirmed(self, compare: Callable[[], Mismatch | None]) -> Mismatch | None:
        """Compare a derivative; if it is wrong, again at other points: kinks lie elsewhere there, mistakes do not."""
        mismatch = compare()
        for _ in range(POINTS):
            if mismatch is None:
                return None
            leave_start(self.flat, self.rng)
            self.trial.loss_grad(self.flat, self.rows)
            self.numeric.value = self.trial.loss(self.flat, self.rows)
            mismatch = compare()
        return mismatch

    def _of_all(self) -> Mismatch | None:
        """Compare the derivative along the gradient's signs, random ones where it is 0, in all parameters at once."""
        direction = _signs_of(self.flat.grad_vector, self.rng)
        for name, size in self.sizes.items():
            direction[self.flat.slices[name]] *= size
        return self._along(slice(0, self.flat.n), direction)

    def _of_parameter(self, name: str, *, random: bool) -> Mismatch | None:
        """Compare the derivative along a direction of one parameter: the gradient's signs, or signs at random."""
        return self._along(self.flat.slices[name], self._direction(name, random=random), small=random)

    def _direction(self, name: str, *, random: bool) -> Array:
        gradient = self.flat.grad_vector[self.flat.slices[name]]
        direction = signs(gradient, self.rng) if random else np.sign(gradient)
        direction *= self.sizes[name]
        return direction

    def _along(self, where: slice, direction: Array, *, small: bool = False) -> Mismatch | None:
        """Compare a derivative; ``small``: it may be so by chance, compared to the gradient.

        Many numbers that move together, each a little, move the loss a lot: then the direction is made shorter.
        """
        if not direction.any():
            return None
        gradient = self.flat.grad_vector[where]
        usual = math.sqrt(float(np.square(direction * gradient).sum())) if small else 0.0
        slope = max(usual, abs(float(np.dot(direction, gradient))))
        if slope > STEEPEST * abs(self.numeric.value) > 0:
            shorter = STEEPEST * abs(self.numeric.value) / slope
            direction, usual = direction * direction.dtype.type(shorter), usual * shorter
        return self.numeric.compare(self.flat.param_vector[where], direction, gradient, usual)

    def _entry(self, name: str, k: int) -> int:
        """Return the ``k``-th entry to look at: first the one with the largest gradient."""
        gradient = self.flat.grads[name].reshape(-1)
        return int(np.abs(gradient).argmax()) if k == 0 else int(self.rng.integers(gradient.size))

    def _of_entry(self, name: str, i: int) -> Mismatch | None:
        """Compare the derivative by one entry."""
        start, size, flat = self.flat.slices[name].start + i, self.sizes[name], self.flat
        where = slice(start, start + 1)
        usual = size * float(np.abs(flat.grads[name]).max())
        found = self.numeric.compare(
            flat.param_vector[where], np.array([size], flat.dtype), flat.grad_vector[where], usual
        )
        return found and Mismatch(found.analytic / size, found.numeric / size)

    def _found_somewhere(self) -> ConfigError:
        """Return the error for a derivative along all parameters: for the parameter that is furthest off."""
        pairs = [(name, random) for name in self.flat.names for random in (False, True)]
        found = [(one, *pair) for pair in pairs if (one := self._of_parameter(pair[0], random=pair[1]))]
        if not found:
            return self.trial.error("numeric derivatives of the loss contradict the gradient", meant=True)
        mismatch, name, random = max(found, key=lambda each: abs(each[0].analytic - each[0].numeric))
        return self._found_in(name, mismatch, random=random)

    def _found_in(self, name: str, mismatch: Mismatch, *, random: bool) -> ConfigError:
        """Return the error for a parameter: with its largest entry if that is wrong, else one found by halving."""
        largest = self._entry(name, 0)
        if found := self._of_entry(name, largest):
            return self._error(name, largest, found)
        direction, begin = self._direction(name, random=random), self.flat.slices[name].start
        low, high = 0, len(direction)
        while high - low > 1:
            middle = (low + high) // 2
            halves = ((low, middle), (middle, high))
            wrong = [
                half for half in halves
                if self._along(slice(begin + half[0], begin + half[1]), direction[slice(*half)], small=random)
            ]  # fmt: skip
            if not wrong:
                break
            low, high = wrong[0]
        if high - low == 1 and (found := self._of_entry(name, low)):
            return self._error(name, low, found)
        return self._error(name, None, mismatch)

    def _error(self, name: str, i: int | None, mismatch: Mismatch) -> ConfigError:
        analytic, numeric = mismatch.analytic, mismatch.numeric
        if i is None:
            where = f"grads[{name!r}] (along a direction of all its entries)"
        else:
            view = self.flat.grads[name]
            where = place(f"grads[{name!r}]", np.arange(view.size).reshape(view.shape) == i)
        return self.trial.error(
            f"{where} is {analytic:.4g}, but the numeric derivative of the loss of {len(self.rows.x)} rows is "
            f"{numeric:.4g}; {self._hint(name, analytic, numeric)}",
            meant=True,
        )

    def _hint(self, name: str, analytic: float, numeric: float) -> str:
        n = len(self.rows.x)
        if abs(analytic) < 1e-6 * abs(numeric):
            return f"is this part of the gradient missing? Write it with grads[{name!r}][...] = value"
        if abs(numeric) < 1e-6 * abs(analytic):
            return (
                f"does predict() take params[{name!r}] from where it is given, and not an array that it keeps from an "
                "earlier call?"
            )
        ratio = analytic / numeric
        for known, hint in (
            (-1.0, "its sign is wrong"),
            (1 / n, f"that is 1/{n} of it: write the gradient of the rows' sum, and do not divide by the rows"),
            (-1 / n, f"that is -1/{n} of it: the sign is wrong, and the rows' sum is wanted, not their mean"),
            (float(n), f"that is {n} times it: it is multiplied by the number of rows"),
        ):
            if math.isclose(ratio, known, rel_tol=0.02):
                return hint
        return f"it is {ratio:.3g} times as large as it should be; look at how grads[{name!r}] is computed"
