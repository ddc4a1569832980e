"""Checks a hand-written gradient against central differences."""

from typing import Any

import numpy as np

from common.data.loader import Batch
from common.flat import Array, Flat
from common.nn import models
from common.nn.mlp import Mlp
from common.nn.models import Model


def make_batch(model: Model | Mlp, x: Array, y: Array, dtype: str = "float64", weight: Array | None = None) -> Batch:
    """Return rows as the feed lays them out."""
    rows = np.concatenate([x, np.ones((len(x), 1))], axis=1).astype(dtype)
    n_out = model.predict(Flat(model.shapes(), np.dtype(dtype)).params, rows[:1, :-1]).shape[1]
    target = np.empty((n_out, len(x)), dtype)
    model.loss.encode(y, target)
    n = len(x)
    return Batch(rows, rows.T, y, target, total=n, equal=True, around=rows, offset=0, start=0, weight=weight)


def loss_grad(
    model: Model | Mlp, flat: Flat, x: Array, y: Array, scale: float = 1.0, weight: Array | None = None
) -> float:
    """Write the model's gradient over these rows into ``flat``; return the sum of losses."""
    batch = make_batch(model, x, y, flat.dtype.name, weight)
    return models.gradient(model, flat, len(x)).loss_grad(batch, scale, None)


def assert_gradient(
    model: Model | Mlp, x: Array, y: Array, rtol: float = 1e-6, seed: int = 0, weight: Array | None = None
) -> None:
    """Compare every entry of the model's gradient with (f(p + h) - f(p - h)) / 2h, in float64."""
    flat = Flat(model.shapes(), np.dtype(np.float64))
    rng = np.random.default_rng(seed)
    model.init(flat.params, rng)
    flat.param_vector += 0.1 * rng.standard_normal(flat.n)  # biases start at 0: move them
    flat.grad_vector[:] = np.nan  # every entry must be written
    freed: list[int] = []
    batch = make_batch(model, x, y, weight=weight)
    made = models.gradient(model, flat, len(x))
    value = made.loss_grad(batch, 1.0, freed.append)
    if isinstance(model, Mlp):
        assert freed == [flat.slices[w].start for w, _ in reversed(model.layers)]
    gradient = flat.grad_vector.copy()
    numeric = np.empty_like(gradient)
    for i in range(flat.n):
        numeric[i] = (_loss(model, flat, i, 1e-6, x, y, weight) - _loss(model, flat, i, -1e-6, x, y, weight)) / 2e-6
    np.testing.assert_allclose(gradient, numeric, rtol=rtol, atol=rtol * max(1.0, float(np.abs(numeric).max())))
    np.testing.assert_allclose(value, _loss(model, flat, 0, 0.0, x, y, weight), rtol=1e-12)
    assert made.loss_grad(batch, 0.25, None) == value  # memory is reused, and scaling leaves the loss alone
    np.testing.assert_allclose(flat.grad_vector, 0.25 * gradient, rtol=1e-12)


def _loss(model: Model | Mlp, flat: Flat, i: int, h: float, x: Any, y: Any, weight: Array | None) -> float:
    given = () if weight is None else (weight,)  # a loss of one's own need not take any
    before = flat.param_vector[i]
    flat.param_vector[i] = before + h
    value = model.loss.sum(model.predict(flat.params, x), y, *given)
    flat.param_vector[i] = before
    return value
