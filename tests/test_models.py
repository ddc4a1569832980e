"""Gradients against central differences, and parts of models on their own."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from common.config import ACTIVATIONS
from common.flat import Array, Flat, Views
from common.nn import models
from common.nn.activations import Gelu, Sigmoid
from common.nn.functional import LogisticCrossEntropy, Loss, MeanSquaredError, SoftmaxCrossEntropy
from common.nn.mlp import Mlp
from tests.gradcheck import assert_gradient, make_batch

RNG = np.random.default_rng(5)
ROWS = 7
LOSSES: dict[str, tuple[Loss, int, Any]] = {
    "mse": (MeanSquaredError(), 3, RNG.standard_normal((ROWS, 3))),
    "softmax": (SoftmaxCrossEntropy(), 4, RNG.integers(0, 4, ROWS)),
    "logistic": (LogisticCrossEntropy(), 1, RNG.integers(0, 2, ROWS)),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", [(), (6,), (5, 4, 3)])
def test_gradient_is_numeric(hidden: tuple[int, ...], activation: str, loss: str) -> None:
    function, n_out, y = LOSSES[loss]
    assert_gradient(Mlp((5, *hidden, n_out), activation, function), RNG.standard_normal((ROWS, 5)), y)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_are_in_the_sums_and_not_in_the_gradient(dtype: str) -> None:
    weights = np.array([1e-18, 0.25, 1.0])
    out, y = (RNG.standard_normal((ROWS, 3)).astype(dtype) for _ in range(2))
    expected = float((np.square(out - y) @ weights).sum()) / 3
    gradients = []
    for loss, total in ((MeanSquaredError(), np.square(out - y).sum() / 3), (MeanSquaredError(weights), expected)):
        assert loss.sum(out, y) == pytest.approx(total, rel=1e-6)
        memory = np.ascontiguousarray(out.T)
        assert loss.gradient(memory)(y.T, 0.5) == pytest.approx(total, rel=1e-6)
        gradients.append(memory)
    np.testing.assert_array_equal(gradients[0], gradients[1])


def test_a_loss_made_of_ours_needs_no_weights() -> None:
    class OwnError(MeanSquaredError):
        def __init__(self) -> None:
            """Call nothing."""

    assert OwnError().sum(np.ones((4, 2)), np.zeros((4, 2))) == 4


class OwnModel:
    """A user's model, with the four plain methods: y = w x, squared error."""

    def __init__(self, factor: float = 2.0) -> None:
        self.loss: Loss = MeanSquaredError()
        self.factor = factor

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"w": (5, 3)}

    def init(self, params: Views, rng: np.random.Generator) -> None:
        params["w"][...] = rng.standard_normal((5, 3))

    def predict(self, params: Views, x: Array) -> Array:
        return x @ params["w"]

    def loss_grad(self, params: Views, x: Array, y: Array, grads: Views, ready: Any) -> float:
        error = self.predict(params, x) - y
        grads["w"][...] = self.factor / 3 * x.T @ error
        ready("w")
        return float(np.vdot(error, error)) / 3


def test_a_model_of_ones_own() -> None:
    assert_gradient(OwnModel(), RNG.standard_normal((ROWS, 5)), LOSSES["mse"][2])


def test_gradient_check_finds_a_wrong_gradient() -> None:
    with pytest.raises(AssertionError):
        assert_gradient(OwnModel(factor=2.002), RNG.standard_normal((ROWS, 5)), LOSSES["mse"][2])


@pytest.mark.parametrize("loss", LOSSES)
def test_no_rows_give_zero_gradient(loss: str) -> None:
    function, n_out, y = LOSSES[loss]
    model = Mlp((5, 4, n_out), "gelu", function)
    flat = Flat(model.shapes(), np.dtype(np.float64))
    model.init(flat.params, RNG)
    flat.grad_vector[:] = np.nan
    batch = make_batch(model, np.zeros((1, 5)), y[:1])
    empty = replace(batch, x=batch.x[:0], x_t=batch.x_t[:, :0], y=y[:0], target=np.empty((n_out, 0)))
    assert models.gradient(model, flat, 0).loss_grad(empty, 1.0, None) == 0
    assert not flat.grad_vector.any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_losses_stay_finite_at_extreme_outputs(dtype: str) -> None:
    out = np.array([[1e4, -1e4, 0], [-200, 0, 0], [3e4, 3e4, 3e4]], dtype)
    y = np.array([1, 0, 2])
    expected = 2e4 + (200 + math.log(2)) + math.log(3)
    assert SoftmaxCrossEntropy().sum(out, y) == pytest.approx(expected, rel=1e-6)
    work, target = np.ascontiguousarray(out.T), np.empty((3, 3), dtype)
    SoftmaxCrossEntropy().encode(y, target)
    assert SoftmaxCrossEntropy().gradient(work)(target, 1.0) == pytest.approx(expected, rel=1e-6)
    expected_gradient = np.array([[1, -1, 0], [-1, 0.5, 0.5], [1 / 3, 1 / 3, -2 / 3]])
    np.testing.assert_allclose(work.T, expected_gradient, atol=1e-6)
    z = np.array([[1e4], [-1e4], [0]], dtype)
    labels = np.array([0, 1, 1])
    expected = 2e4 + math.log(2)
    assert LogisticCrossEntropy().sum(z, labels) == pytest.approx(expected, rel=1e-6)
    work = np.ascontiguousarray(z.T)
    assert LogisticCrossEntropy().gradient(work)(labels[None].astype(dtype), 1.0) == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(work, [[1, -1, -0.5]], atol=1e-6)
    big = np.array([-1e30, 0, 1e30], dtype)
    Sigmoid(big, big, big).forward()
    assert big.tolist() == [0, 0.5, 1]


def test_gelu_is_close_to_its_exact_form() -> None:
    z = np.linspace(-6, 6, 101)
    out = np.empty_like(z)
    Gelu(z, out, out).forward()
    exact = [v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in z]
    np.testing.assert_allclose(out, exact, atol=5e-4)  # the tanh form's own error, Hendrycks & Gimpel 2016


@pytest.mark.parametrize(("activation", "deviation"), [("relu", math.sqrt(2 / 400)), ("tanh", math.sqrt(2 / 700))])
def test_initial_weights_have_the_published_spread(activation: str, deviation: float) -> None:
    model = Mlp((400, 300, 2), activation, MeanSquaredError())
    flat = Flat(model.shapes(), np.dtype(np.float32))
    model.init(flat.params, np.random.default_rng(0))
    assert flat.params["W1"].std() == pytest.approx(deviation, rel=0.01)
    assert not flat.params["b1"].any()


def test_parameters_and_gradients_are_views_of_one_vector() -> None:
    flat = Flat(Mlp((5, 4, 3), "relu", MeanSquaredError()).shapes(), np.dtype(np.float32))
    assert flat.names == ["W1", "b1", "W2", "b2"]
    for views, vector in ((flat.params, flat.param_vector), (flat.grads, flat.packet)):
        assert all(np.shares_memory(view, vector) for view in views.values())
    assert flat.grad_vector.ctypes.data % 64 == 0
    flat.param_vector[:] = np.arange(flat.n)
    np.testing.assert_array_equal(np.concatenate([v.ravel() for v in flat.params.values()]), np.arange(flat.n))
