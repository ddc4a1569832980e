"""What is found out about a model before training: every kind of mistake, and none where there is none."""

import itertools
import random
import re
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from common.errors import ConfigError
from common.flat import Array, Flat, Views
from common.nn import activations, functional, gradient_check, model_check
from common.nn.mlp import Mlp
from common.nn.model_check import CheckResult, ModelCheck
from common.nn.model_trial import TrialRows
from docs.examples.own_model import SkipNet
from tests.faulty_models import FAULTS, MeanLoss, Net, NotOfNoRows, one_entry, spoiled, times
from tests.weighted_model import WeightedNet

SLEPT: list[float] = []
"""Seconds that slow models are said to have taken."""
RNG = np.random.default_rng(3)
ROWS = TrialRows(RNG.standard_normal((7, 5)), RNG.integers(0, 4, 7))


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the check count the time in which it computes, and not that in which other processes have the core."""
    SLEPT.clear()
    monkeypatch.setattr("time.perf_counter", lambda: time.thread_time() + sum(SLEPT))


def fill(model: Any, flat: Flat) -> bool:
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    model.init(flat.params, rng)
    return bool(rng.bit_generator.state != before)


def check(
    kind: Callable[[], Any], dtype: str = "float32", *, rows: TrialRows = ROWS, n_outputs: int = 4, none: bool = True
) -> CheckResult:
    return ModelCheck("own:Net", kind, fill, rows, dtype).run(n_outputs, none_too=none)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_right_model_passes(dtype: str) -> None:
    result = check(Net, dtype)
    assert result.derivatives == 1 + 2 * 5 + 5 * gradient_check.ENTRIES


@pytest.mark.parametrize(("name", "dtype"), [*itertools.product(("W", "a", "S", "V", "c"), ("float32", "float64"))])
def test_a_wrong_gradient_is_found_in_each_parameter(name: str, dtype: str) -> None:
    start = rf"^model own:Net: grads\['{name}'\]\[\d+(, \d+)?\] is (\S+), but the numeric derivative of the loss of 7 "
    end = "; if that is meant, leave this check out with --no-check-model$"
    for factor, hint in ((1 / 7, "that is 1/7 of it: .* do not divide by the rows"), (-1, "its sign is wrong"),
                         (7, "that is 7 times it"), (0, "is this part of the gradient missing"),
                         (2, "it is 2 times as large as it should be"), (1.01, "it is 1.01 times"),
                         (-1 / 7, "that is -1/7 of it")):  # fmt: skip
        with pytest.raises(ConfigError, match=start + rf"rows is \S+; {hint}.*" + end):
            check(spoiled(times(name, factor)), dtype)


class Weighted(WeightedNet):
    def __init__(self) -> None:
        super().__init__(5, 4)


class ForgetsWeights(Weighted):
    """Takes them, and leaves them out of the gradient."""

    def loss_grad(self, *arguments: Any, weight: Array | None = None) -> float:
        super().loss_grad(*arguments)
        return self.loss.sum(self.predict(arguments[0], arguments[1]), arguments[2], weight)


class LossWithoutWeights(Weighted):
    """Takes them, and leaves them out of both losses."""

    def __init__(self) -> None:
        super().__init__()
        self.loss = OwnLoss()

    def loss_grad(self, *arguments: Any, weight: Array | None = None) -> float:
        return super().loss_grad(*arguments)


class OwnLoss(functional.SoftmaxCrossEntropy):
    def sum(self, out: Array, y: Array, weight: Array | None = None) -> float:
        return super().sum(out, y)


WEIGHTED = TrialRows(ROWS.x, ROWS.y, np.linspace(0.5, 2.5, 7))


def test_weights_of_rows_are_in_loss_and_gradient() -> None:
    assert check(Weighted, rows=WEIGHTED).derivatives == check(Weighted).derivatives > 0
    with pytest.raises(ConfigError, match=r"^model own:Net: grads\['W'\]\[.*, but the numeric derivative"):
        check(ForgetsWeights, rows=WEIGHTED)
    with pytest.raises(ConfigError, match=r"loss.sum\(\) is \S+ with weights and without"):
        check(LossWithoutWeights, rows=WEIGHTED)


def test_the_entry_that_is_wrong_is_named_with_both_values() -> None:
    with pytest.raises(ConfigError) as caught:
        check(spoiled(one_entry))
    words = re.search(r"grads\['W'\]\[2, 3\] is (\S+), but .* 7 rows is (\S+); it is 1.5 times", str(caught.value))
    assert words
    assert float(words[1]) == pytest.approx(1.5 * float(words[2]), rel=2e-3)


@pytest.mark.parametrize(("kind", "message"), FAULTS)
def test_what_else_is_wrong_is_said(kind: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^model own:Net: .*{message}"):
        check(kind)


def test_of_no_rows_is_asked_only_where_it_happens() -> None:
    assert check(NotOfNoRows, none=False).derivatives


@pytest.mark.slow
@pytest.mark.any_mpi
@pytest.mark.parametrize("coarse", [False, True], ids=["float64", "float32"])
def test_no_right_model_is_called_wrong(coarse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of any shape, activation, loss, size of its features and dtype; many features are 0, as in pictures."""
    if coarse:
        monkeypatch.setattr(model_check, "FLOAT64_PARAMETERS", 0)
    rng = np.random.default_rng(5)
    kinds = itertools.product(activations.ACTIVATIONS, ("float32", "float64"), ("mse", "softmax", "logistic"), range(3))
    for activation, dtype, loss, seed in kinds:
        n_in, k = int(rng.integers(1, 90)), int(rng.integers(2, 9))
        x = rng.standard_normal((7, n_in)) * rng.choice([1, 1, 30])
        x[:, rng.random(n_in) < 0.3] = 0
        y: Any = rng.standard_normal((7, k)) * rng.choice([1, 1e5])
        made: functional.Loss = functional.MeanSquaredError()
        if loss != "mse":
            k = 1 if loss == "logistic" else k
            y = rng.integers(0, max(2, k), 7)
            made = functional.LogisticCrossEntropy() if loss == "logistic" else functional.SoftmaxCrossEntropy()
        sizes = (n_in, *(int(n) for n in rng.integers(1, 200, seed + 1)), k)
        result = check(lambda s=sizes, a=activation, m=made: Mlp(s, a, m), dtype, rows=TrialRows(x, y), n_outputs=k)  # type: ignore[misc]
        assert result.derivatives > 3


class BatchNorm(Net):
    """Standardises the rows that it gets, by themselves."""

    def predict(self, params: Any, x: Array) -> Array:
        return super().predict(params, self.norm(x))

    def norm(self, x: Array) -> Array:
        return (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) if len(x) else x

    def loss_grad(self, params: Views, x: Array, *others: Any) -> float:
        return super().loss_grad(params, self.norm(x), *others)


class FixedDropOut(BatchNorm):
    """Leaves out the same numbers in every call."""

    def norm(self, x: Array) -> Array:
        return x * (np.random.default_rng(0).random(x.shape[1]) < 0.5)


@pytest.mark.parametrize("kind", [BatchNorm, FixedDropOut])
def test_a_model_may_use_all_rows_or_a_generator_as_long_as_it_repeats(kind: type[Net]) -> None:
    for dtype in ("float32", "float64"):
        assert check(kind, dtype).derivatives > 100


class OwnFloat32(Net):
    """Computes in float32, whatever it gets, into memory made once."""

    def predict(self, params: Any, x: Array) -> Array:
        return self.forward(params, x)[1]

    def forward(self, params: Any, x: Array) -> tuple[Array, Array]:
        hidden, out = super().forward({name: view.astype("f") for name, view in params.items()}, x.astype("f"))
        return hidden, out.astype(np.float64)


class Refuses(Net):
    def predict(self, params: Any, x: Array) -> Array:
        assert x.dtype == np.float32
        return super().predict(params, x)


@pytest.mark.parametrize("kind", [OwnFloat32, Refuses])
def test_a_model_of_one_dtype_is_checked_in_it(kind: type[Net]) -> None:
    assert check(kind).derivatives > 50
    with pytest.raises(ConfigError, match="that is 1/7 of it"):
        check(type("Wrong", (kind,), {"spoil": lambda _, *a: times("V", 1 / 7)(*a)}))


class Domain(Net):
    """Is only defined where it starts."""

    def forward(self, params: Any, x: Array) -> tuple[Array, Array]:
        hidden, out = super().forward(params, x)
        return hidden, out + np.where(params["c"] < -0.01, np.nan, 0) if (params["c"] < -0.01).any() else out


def test_a_model_that_is_not_defined_next_to_its_start_is_checked_there() -> None:
    assert check(Domain).derivatives > 10


class Slow(Net):
    def forward(self, params: Any, x: Array) -> tuple[Array, Array]:
        SLEPT.append(0.05)
        return super().forward(params, x)


class SlowByRow(Net):
    """As loops in Python are; of few rows it is not slow."""

    def forward(self, params: Any, x: Array) -> tuple[Array, Array]:
        SLEPT.append(0.02 * len(x) if len(x) > 2 else 0)
        return super().forward(params, x)


def test_a_slow_model_is_checked_on_few_rows() -> None:
    assert check(SlowByRow, none=False).derivatives > 100
    with pytest.raises(ConfigError, match=r"the numeric derivative of the loss of 2 rows is .* that is 1/2 of it"):
        check(type("Wrong", (SlowByRow,), {"spoil": lambda _, *a: times("V", 1 / len(a[1]))(*a)}), none=False)


class Large(SkipNet):
    hidden = 150_000


@pytest.mark.parametrize(("kind", "most"), [(Slow, 1.5), (lambda: Large(5, 4), 4.0)])
def test_it_takes_no_longer_than_it_may(kind: Callable[[], Any], most: float) -> None:
    assert check(kind, none=False).seconds < most


def test_of_a_model_too_large_the_step_is_still_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_check, "MOST_PARAMETERS", 10)
    assert check(Net).derivatives == 0
    with pytest.raises(ConfigError, match="the first is 1/7 of it"):
        check(MeanLoss)


class Draws(Net):
    def init(self, params: Views, rng: np.random.Generator) -> None:
        super().init(params, rng)
        params["a"][...] = np.random.rand(32) * random.random()


def test_it_leaves_generators_as_they_were() -> None:
    np.random.seed(1)
    random.seed(1)
    before = random.getstate()
    check(Draws)
    assert random.getstate() == before
    assert np.random.rand() == np.random.RandomState(1).rand()
