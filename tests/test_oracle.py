"""Whole training steps against scikit-learn's MLP, which shares no line with ours."""

import inspect
import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.neural_network import MLPClassifier, MLPRegressor

from common.config import RunConfig
from common.flat import Flat, blocks
from common.nn import models, optimizers
from common.nn.functional import LogisticCrossEntropy, Loss, MeanSquaredError, SoftmaxCrossEntropy
from common.nn.mlp import Mlp
from tests.gradcheck import assert_gradient, loss_grad

RNG = np.random.default_rng(3)
X = RNG.standard_normal((40, 6))
TARGETS = {"classes": RNG.integers(0, 3, 40), "binary": RNG.integers(0, 2, 40), "numbers": RNG.standard_normal((40, 1))}
STEPS = 5
TINY = 1e-30
"""For eps of Adam: scikit-learn adds it before the bias correction, we add it after, as the paper's Algorithm 1."""
SKLEARN_ACTIVATION = {"relu": "relu", "tanh": "tanh", "sigmoid": "logistic"}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"solver": "sgd", "momentum": 0.0},
    "momentum": {"solver": "sgd", "momentum": 0.9, "nesterovs_momentum": False},
    "nesterov": {"solver": "sgd", "momentum": 0.9, "nesterovs_momentum": True},
    "adam": {"solver": "adam", "epsilon": TINY},
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("activation", SKLEARN_ACTIVATION)
@pytest.mark.parametrize("target", TARGETS)
def test_full_batch_steps_equal_scikit_learn(target: str, activation: str, optimizer: str) -> None:
    y = TARGETS[target]
    rate = 0.01
    kind = MLPRegressor if target == "numbers" else MLPClassifier
    theirs = kind(
        hidden_layer_sizes=(5, 4), activation=SKLEARN_ACTIVATION[activation], alpha=0.0, batch_size=len(X),
        learning_rate_init=rate, shuffle=False, random_state=1, max_iter=1, **OPTIMIZERS[optimizer],
    )  # fmt: skip
    flat_y = y.ravel()
    config = RunConfig(model="mlp", activation=activation, hidden=(5, 4), optimizer=optimizer, dtype="float64")
    n_classes = 0 if target == "numbers" else int(y.max()) + 1
    ours = models.build(config, 6, n_classes, 1)
    if target == "binary":  # scikit-learn uses one output for two classes
        ours = Mlp((6, 5, 4, 1), activation, LogisticCrossEntropy())
    flat = Flat(ours.shapes(), np.dtype(np.float64))
    ours.init(flat.params, np.random.default_rng(0))
    start = {name: value.copy() for name, value in flat.params.items()}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs.fit(X, flat_y)  # makes the arrays; then start from ours, with a fresh optimizer
    theirs.coefs_ = [start["W1"], start["W2"], start["W3"]]
    theirs.intercepts_ = [start["b1"], start["b2"], start["b3"]]
    del theirs._optimizer
    update = optimizers.build(config, blocks(flat.param_vector, 7))
    if isinstance(update, optimizers.Adam):
        update.eps = TINY
    for _ in range(STEPS):
        theirs.partial_fit(X, flat_y)
        # scikit-learn's regression loss is half the squared error, so its gradient is half of ours
        loss_grad(ours, flat, X, y, update.begin(rate) / (len(X) * (2 if target == "numbers" else 1)))
        for i, grad in enumerate(blocks(flat.grad_vector, 7)):
            update.update(i, grad)
    for i in range(3):
        np.testing.assert_allclose(flat.params[f"W{i + 1}"], theirs.coefs_[i], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(flat.params[f"b{i + 1}"], theirs.intercepts_[i], rtol=1e-9, atol=1e-12)


LABELS = RNG.integers(0, 2, (40, 3)).astype(float)
WEIGHTS = RNG.uniform(0.2, 3, 40)
WEIGHTED = pytest.mark.skipif(
    "sample_weight" not in inspect.signature(MLPClassifier.partial_fit).parameters, reason="needs scikit-learn 1.7"
)


@WEIGHTED
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("target", [*TARGETS, "labels"])
def test_weighted_steps_equal_scikit_learn(target: str, weighted: bool) -> None:
    """And steps on several labels; scikit-learn adds up their losses, ours is their mean."""
    y, rate = {**TARGETS, "labels": LABELS}[target], 0.05
    weight = WEIGHTS if weighted else None
    kind = MLPRegressor if target == "numbers" else MLPClassifier
    theirs = kind(
        hidden_layer_sizes=(5,), activation="tanh", alpha=0.0, batch_size=len(X), learning_rate_init=rate,
        shuffle=False, random_state=1, max_iter=1, **OPTIMIZERS["sgd"],
    )  # fmt: skip
    config = RunConfig(activation="tanh", hidden=(5,), optimizer="sgd", dtype="float64")
    n_classes, n_targets = (3 if target == "classes" else 2 if target == "binary" else 0), LABELS.shape[1]
    ours = models.build(config, 6, n_classes, n_targets if target == "labels" else 1, labels=target == "labels")
    if target == "binary":
        ours = Mlp((6, 5, 1), "tanh", LogisticCrossEntropy())
    flat = Flat(ours.shapes(), np.dtype(np.float64))
    ours.init(flat.params, np.random.default_rng(0))
    start = {name: value.copy() for name, value in flat.params.items()}
    flat_y = y.ravel() if target == "numbers" else y
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs.fit(X, flat_y)
    theirs.coefs_, theirs.intercepts_ = [start["W1"], start["W2"]], [start["b1"], start["b2"]]
    del theirs._optimizer
    update = optimizers.build(config, blocks(flat.param_vector, 7))
    own_weight = None if weight is None else weight / weight.mean()
    times = {"numbers": 0.5, "labels": n_targets}.get(target, 1)
    for _ in range(STEPS):
        theirs.partial_fit(X, flat_y, sample_weight=weight)
        loss = loss_grad(ours, flat, X, y, update.begin(rate) / len(X) * times, own_weight)
        assert loss / len(X) * times == pytest.approx(theirs.loss_, rel=1e-10)
        for i, grad in enumerate(blocks(flat.grad_vector, 7)):
            update.update(i, grad)
    for i in range(2):
        np.testing.assert_allclose(flat.params[f"W{i + 1}"], theirs.coefs_[i], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(flat.params[f"b{i + 1}"], theirs.intercepts_[i], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("weight", [None, WEIGHTS])
@pytest.mark.parametrize(
    ("loss", "y"),
    [
        (MeanSquaredError(), X[:, :3]),
        (MeanSquaredError(np.array([1.0, 0.25, 4.0])), X[:, :3]),
        (SoftmaxCrossEntropy(), TARGETS["classes"]),
        (LogisticCrossEntropy(), LABELS),
    ],
)
def test_weighted_gradients_are_derivatives(loss: Loss, y: np.ndarray, weight: np.ndarray | None) -> None:
    if isinstance(loss, MeanSquaredError) and loss.weights is not None:
        found, plain = (np.empty((3, 40)) for _ in range(2))
        for made, out in ((loss, found), (MeanSquaredError(), plain)):
            out[:] = 2 * X[:, 3:].T
            made.gradient(out)(y.T.copy(), 1.0, weight)
        np.testing.assert_array_equal(found, plain)  # the weights of outputs are not in the gradient
        return
    assert_gradient(Mlp((6, 4, 3), "tanh", loss), X, y, weight=weight)


@pytest.mark.parametrize(
    "loss",
    [MeanSquaredError(), MeanSquaredError(np.array([1.0, 0.25, 4.0])), SoftmaxCrossEntropy(), LogisticCrossEntropy()],
)
def test_weighted_sums_are_those_of_repeated_rows(loss: Loss) -> None:
    y = TARGETS["classes"] if isinstance(loss, SoftmaxCrossEntropy) else LABELS
    times, out = RNG.integers(1, 4, 40), RNG.standard_normal((40, 3))
    rows = np.repeat(np.arange(40), times)
    weight = times.astype(float)
    assert loss.sum(out, y, weight) == pytest.approx(loss.sum(out[rows], y[rows]), rel=1e-12)
    assert loss.correct(out, y, weight) == loss.correct(out[rows], y[rows])
    target = np.empty((3, 40))
    loss.encode(y, target)
    in_step = loss.gradient(work := out.T.copy())(target, 1.0, weight)
    assert in_step == pytest.approx(loss.sum(out, y, weight), rel=1e-12)
    assert np.isfinite(work).all()


@pytest.mark.parametrize("scale", [1e3, 1e6])
def test_losses_of_labels_do_not_overflow(scale: float) -> None:
    out, loss = scale * RNG.standard_normal((40, 3)), LogisticCrossEntropy()
    target = np.empty((3, 40))
    loss.encode(LABELS, target)
    total = loss.gradient(out.T.copy())(target, 1.0)
    z = np.where(LABELS > 0, out, -out)
    assert total == pytest.approx(np.logaddexp(0, -z).sum() / 3, rel=1e-9)
