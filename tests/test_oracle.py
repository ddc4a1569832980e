"""Whole training steps against scikit-learn's MLP, which shares no line with ours."""

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.neural_network import MLPClassifier, MLPRegressor

from common.config import RunConfig
from common.flat import Flat, blocks
from common.nn import models, optimizers
from common.nn.functional import LogisticCrossEntropy
from common.nn.mlp import Mlp
from tests.gradcheck import loss_grad

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
