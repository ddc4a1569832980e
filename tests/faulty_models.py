"""Models with one mistake each, made of the documentation's example, and what a check says of it."""

from collections.abc import Callable
from typing import Any

import numpy as np

from common.flat import Array, Views
from docs.examples.own_model import SkipNet

Ready = Callable[[str], None]


class Net(SkipNet):
    """The example, for the rows here; ``spoil`` changes the gradient it has written."""

    def __init__(self) -> None:
        super().__init__(5, 4)

    def loss_grad(self, params: Views, x: Array, y: Array, grads: Views, ready: Ready) -> float:
        loss = super().loss_grad(params, x, y, grads, ready)
        self.spoil(params, x, y, grads)
        return loss

    def spoil(self, params: Views, x: Array, y: Array, grads: Views) -> None:
        """Leave it as it is."""


def spoiled(spoil: Callable[..., Any], **more: Any) -> type[Net]:
    return type("Spoiled", (Net,), {"spoil": lambda self, *arguments: spoil(*arguments), **more})


def times(name: str, factor: float) -> Callable[..., None]:
    """Return what multiplies a gradient."""

    def spoil(params: Views, x: Array, y: Array, grads: Views) -> None:
        grads[name][...] *= factor

    return spoil


def one_entry(params: Views, x: Array, y: Array, grads: Views) -> None:
    grads["W"][2, 3] *= 1.5


class MeanLoss(Net):
    def loss_grad(self, params: Views, x: Array, y: Array, grads: Views, ready: Ready) -> float:
        return super().loss_grad(params, x, y, grads, ready) / max(1, len(x))


class Penalty(Net):
    def loss_grad(self, params: Views, x: Array, y: Array, grads: Views, ready: Ready) -> float:
        return super().loss_grad(params, x, y, grads, ready) + 0.1 * float(np.square(params["W"]).sum())


class Elsewhere(Net):
    def loss_grad(self, params: Views, x: Array, y: Array, grads: Views, ready: Ready) -> float:
        other = {name: np.zeros_like(view) for name, view in grads.items()}
        for name in ("c", "a"):
            other[name] = grads[name]
        return super().loss_grad(params, x, y, other, ready)


class Adds(Net):
    def loss_grad(self, params: Views, x: Array, y: Array, grads: Any, ready: Ready) -> float:
        own = {name: np.zeros_like(view) for name, view in grads.items()}
        loss = super().loss_grad(params, x, y, own, ready)
        for name in grads:
            grads[name] += own[name]
        return loss


class InPart(Net):
    def loss_grad(self, params: Views, x: Array, y: Array, grads: Views, ready: Ready) -> float:
        own = {name: np.zeros_like(view) for name, view in grads.items()}
        loss = super().loss_grad(params, x, y, own, ready)
        for name, view in grads.items():
            view[: 3 if name == "W" else None] = own[name][: 3 if name == "W" else None]
        return loss


class Counts(Net):
    calls = 0

    def loss_grad(self, params: Views, x: Array, y: Array, grads: Views, ready: Ready) -> float:
        self.calls += 1
        return super().loss_grad(params, x * self.calls, y, grads, ready)


class NoisyGradient(Net):
    calls = 0

    def spoil(self, params: Views, x: Array, y: Array, grads: Views) -> None:
        self.calls += 1
        grads["V"][1, 2] *= self.calls


class DropOut(Net):
    """Draws from a generator with a seed, which goes on from call to call."""

    def __init__(self) -> None:
        super().__init__()
        self.rng = np.random.default_rng(0)

    def loss_grad(self, params: Views, x: Array, y: Array, grads: Views, ready: Ready) -> float:
        return super().loss_grad(params, 2 * x * (self.rng.random(x.shape) < 0.5), y, grads, ready)


class NoisyOutputs(Net):
    def predict(self, params: Any, x: Array) -> Array:
        return super().predict(params, x) + np.random.standard_normal((len(x), 4))


class KeepsParams(Net):
    kept: Any = None

    def predict(self, params: Any, x: Array) -> Array:
        self.kept = params if self.kept is None else self.kept
        return super().predict(self.kept, x)


class KeepsParamsInStep(KeepsParams):
    def predict(self, params: Any, x: Array) -> Array:
        return SkipNet.predict(self, params, x)

    def loss_grad(self, params: Any, x: Array, y: Array, grads: Views, ready: Ready) -> float:
        self.kept = params if self.kept is None else self.kept
        return super().loss_grad(self.kept, x, y, grads, ready)


class KeepsGrads(Net):
    kept: Any = None

    def loss_grad(self, params: Views, x: Array, y: Array, grads: Any, ready: Ready) -> float:
        self.kept = grads if self.kept is None else self.kept
        return super().loss_grad(params, x, y, self.kept, ready)


class NotOfNoRows(Net):
    def spoil(self, params: Views, x: Array, y: Array, grads: Views) -> None:
        if not len(x):
            grads["a"][1] = np.nan


class EmptyInit(Net):
    def init(self, params: Views, rng: np.random.Generator) -> None:
        for value in params.values():
            value = rng.standard_normal(value.shape)  # noqa: PLW2901


class ReplacingInit(Net):
    def init(self, params: Any, rng: np.random.Generator) -> None:
        params["W"] = rng.standard_normal((5, 32))


class NanInit(Net):
    def init(self, params: Views, rng: np.random.Generator) -> None:
        super().init(params, rng)
        params["S"][3, 1] = np.nan


class ZeroLayers(Net):
    """Without the straight path, two layers of zeros move each other never."""

    def init(self, params: Views, rng: np.random.Generator) -> None:
        """Leave zeros."""

    def forward(self, params: Views, x: Array) -> tuple[Array, Array]:
        hidden = np.tanh(x @ params["W"] + params["a"])
        return hidden, hidden @ params["V"] + params["c"]

    def spoil(self, params: Views, x: Array, y: Array, grads: Views) -> None:
        grads["S"][...] = 0


class NoLoss(Net):
    def loss_grad(self, params: Views, x: Array, y: Array, grads: Views, ready: Ready) -> Any:
        super().loss_grad(params, x, y, grads, ready)


class LossByRow(NoLoss):
    def loss_grad(self, params: Views, x: Array, y: Array, grads: Views, ready: Ready) -> Any:
        super().loss_grad(params, x, y, grads, ready)
        return np.ones(len(x))


class OneAxis(Net):
    def predict(self, params: Any, x: Array) -> Array:
        return super().predict(params, x)[:, 0]


class Classes(Net):
    def predict(self, params: Any, x: Array) -> Array:
        return super().predict(params, x).T


def edit(which: int) -> Callable[..., None]:
    def spoil(*arguments: Any) -> None:
        array = arguments[which]
        array = array["W"] if which == 0 else array
        array += 1

    return spoil


def replace(params: Views, x: Array, y: Array, grads: Any) -> None:
    grads["V"] = grads["V"] * 1


READ_ONLY = r"loss_grad\(\) on 7 rows failed: ValueError: .*read-only; params, x and y can only be read in predict and "


FAULTS: list[tuple[Callable[[], Any], str]] = [
    (MeanLoss, r"loss_grad\(\) returns 2\.\d+ for 7 rows, and loss.sum\(predict\(params, x\), y\) 1\d\.\d+; "
     "the first is 1/7 of it: let loss_grad.* return the sum over the rows, not their mean"),
    (Penalty, r"loss_grad\(\) returns .*; both are the sum of the rows' losses and nothing else: .*--weight-decay"),
    (Elsewhere, r"loss_grad\(\) does not write grads\['W'\], or .*: grads\['W'\]\[...\] = value$"),
    (Adds, r"loss_grad\(\) adds to grads\['W'\], .*: grads\['W'\]\[...\] = value$"),
    (InPart, r"loss_grad\(\) does not write grads\['W'\]\[3, 0\], where the last step's number would stay; "),
    (Counts, r"loss_grad\(\) returns \S+, and \S+ when it is called again alike; a step depends on params"),
    (NoisyGradient, r"loss_grad\(\) writes \S+ to grads\['V'\]\[1, 2\], and \S+ when it is called again alike; "),
    (DropOut, r"loss_grad\(\) returns \S+, and \S+ when it is called again alike; .* draw nothing at random"),
    (NoisyOutputs, r"loss_grad\(\) returns .*; both are the sum of the rows' losses and nothing else: .* no random "),
    (OneAxis, r"predict\(\) returned an array of shape \(7,\); its loss, SoftmaxCrossEntropy, takes \(7, 1\)$"),
    (KeepsParams, r"does predict\(\) take params as they are given, and not from an array kept from an earlier"),
    (KeepsParamsInStep, r"does loss_grad\(\) take params as they are given, and not from an array kept"),
    (KeepsGrads, r"loss_grad\(\) does not write grads\['W'\], or .* such as one that it keeps from an earlier"),
    (NotOfNoRows, r"loss_grad\(\) of no rows: grads\['a'\] is not 0; with this batch size a rank may have none"),
    (EmptyInit, r"init\(\) drew random numbers, but every parameter is 0 .*: params\['W'\]\[...\] = value$"),
    (ReplacingInit, r"init\(\) failed: TypeError: params\['W'\] = ... would replace .*value \(faulty_models.py, "),
    (NanInit, r"init\(\) leaves S\[3, 1\] = nan; training starts from finite numbers$"),
    (ZeroLayers, r"init\(\) leaves W, S, V at 0, where the gradient of every matrix is 0 too, so that"),
    (NoLoss, r"loss_grad\(\) on 7 rows failed: TypeError: it returned None, not the sum of the rows' losses"),
    (LossByRow, r"loss_grad\(\) on 7 rows failed: TypeError: it returned an array of shape \(7,\), not the sum"),
    (Classes, r"predict\(\) returned an array of shape \(4, 7\) for 7 rows; it returns an array, \(rows, "),
    (spoiled(edit(0)), READ_ONLY), (spoiled(edit(1)), READ_ONLY), (spoiled(edit(2)), READ_ONLY),
    (spoiled(replace), r"loss_grad\(\) on 7 rows failed: TypeError: grads\['V'\] = ... would replace an array"),
    (spoiled(times("a", np.inf)), r"loss_grad\(\) writes \S+ to grads\['a'\]\[0\] at the start"),
]  # fmt: skip
"""Models with a mistake each, and what is said of it."""
