"""Checks a hand-written gradient against central differences."""

from typing import Any

import numpy as np

from common.flat import Array, Flat
from common.models import Model


def assert_gradient(model: Model, x: Array, y: Array, rtol: float = 1e-6, seed: int = 0) -> None:
    """Compare every entry of the model's gradient with (f(p + h) - f(p - h)) / 2h, in float64."""
    flat = Flat(model.shapes(), np.dtype(np.float64))
    rng = np.random.default_rng(seed)
    model.init(flat.p, rng)
    flat.params += 0.1 * rng.standard_normal(flat.n)  # biases start at 0: move them
    flat.grad[:] = np.nan  # every entry must be written
    freed: list[str] = []
    value = model.loss_grad(flat.p, x, y, flat.g, freed.append)
    assert sorted(freed) == sorted(flat.names)
    gradient = flat.grad.copy()
    numeric = np.empty_like(gradient)
    for i in range(flat.n):
        numeric[i] = (_loss(model, flat, i, 1e-6, x, y) - _loss(model, flat, i, -1e-6, x, y)) / 2e-6
    np.testing.assert_allclose(gradient, numeric, rtol=rtol, atol=rtol * max(1.0, float(np.abs(numeric).max())))
    np.testing.assert_allclose(value, model.loss.sum(model.predict(flat.p, x), y), rtol=1e-12)


def _loss(model: Model, flat: Flat, i: int, h: float, x: Any, y: Any) -> float:
    before = flat.params[i]
    flat.params[i] = before + h
    value = model.loss.sum(model.predict(flat.p, x), y)
    flat.params[i] = before
    return value
