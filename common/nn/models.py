"""What training needs of a model, and the table of the built-in ones."""

from collections.abc import Callable
from typing import Protocol

import numpy as np

from common.config import RunConfig
from common.data.loader import Batch
from common.errors import DataError
from common.files import do_nothing
from common.flat import Array, Flat, Views
from common.named_views import read_only
from common.nn.functional import LogisticCrossEntropy, Loss, MeanSquaredError, SoftmaxCrossEntropy
from common.nn.mlp import Backprop, Mlp, Ready


class Model(Protocol):
    """A user's own model: a loss and these methods; between calls it keeps at most scratch memory, no parameters."""

    @property
    def loss(self) -> Loss:
        """The loss; an attribute will do. Its ``gradient`` is not used: ``loss_grad`` has that in it."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return name and shape of every parameter, in forward order."""

    def init(self, params: Views, rng: np.random.Generator) -> None:
        """Fill the parameters with starting values."""

    def predict(self, params: Views, x: Array) -> Array:
        """Return raw outputs (rows, n_out); valid until the next call."""

    def loss_grad(self, params: Views, x: Array, y: Array, grads: Views, ready: Callable[[str], None]) -> float:
        """Write d(sum of the rows' losses) into ``grads``; return the sum.

        ``x``: (rows, n_in), ``rows`` may be 0. All but ``grads`` is read only. Calls ``ready(name)`` as soon as that
        gradient is final. Where rows have weights, it is given ``weight`` besides, by name: (rows,), what each counts.
        """


class PlainGradient:
    """The steps of a user's own model, which computes loss and gradient in one call; they are scaled afterwards."""

    def __init__(self, model: Model, flat: Flat) -> None:
        self.model, self.flat = model, flat
        self._rows: dict[Batch, tuple[Array, Array, dict[str, Array]]] = {}
        """Features, target and weights of the batches so far, read only: what a model wrote there would stay."""

    def loss_grad(self, batch: Batch, scale: float, ready: Ready | None) -> float:  # noqa: ARG002
        """See Backprop."""
        flat, rows = self.flat, self._rows.get(batch)
        if rows is None:
            weight = {} if batch.weight is None else {"weight": read_only(batch.weight)}
            rows = self._rows[batch] = read_only(batch.x[:, :-1]), read_only(batch.y), weight
        x, y, weight = rows
        loss_grad: Callable[..., float] = self.model.loss_grad
        loss_sum = loss_grad(flat.fixed_params, x, y, flat.grads, do_nothing, **weight)
        np.multiply(flat.grad_vector, scale, out=flat.grad_vector)
        return float(loss_sum)

    def forward(self, batch: Batch, scale: float) -> float:
        """Do all of ``loss_grad``."""
        return self.loss_grad(batch, scale, None)

    def backward(self, batch: Batch, ready: Ready | None) -> None:
        """Do nothing: ``forward`` has done it."""


Gradient = Backprop | PlainGradient
"""A model made ready to compute gradients for a fixed number of rows."""


def gradient(model: Model | Mlp, flat: Flat, n_rows: int) -> Gradient:
    """Make a model ready for steps of ``n_rows`` rows, in memory of its own."""
    if not isinstance(model, Mlp):
        return PlainGradient(model, flat)
    outputs: list[Array | None] = [flat.joined(flat.grad_vector, w, b) for w, b in model.layers]
    inputs, deltas = ([np.empty((n_rows, n + 1), flat.dtype) for n in model.sizes[1:-1]] for _ in range(2))
    return Backprop(model, flat, n_rows, inputs, deltas, outputs)


def loss_grad(model: Mlp, flat: Flat, x: Array, y: Array, weight: Array | None = None) -> float:
    """Write the gradient of the built-in model over some rows into ``flat``; return the sum of their losses."""
    rows = np.concatenate([x, np.ones((len(x), 1), x.dtype)], axis=1)
    target = np.empty((model.sizes[-1], len(x)), flat.dtype)
    model.loss.encode(y, target)
    batch = Batch(rows, rows.T, y, target, total=len(x), equal=True, around=rows, offset=0, start=0, weight=weight)
    return gradient(model, flat, len(x)).loss_grad(batch, 1.0, None)


def build(config: RunConfig, n_features: int, n_classes: int, n_targets: int, *, labels: bool = False) -> Mlp:
    """Make the configured model for the data; ``n_classes`` is 0 for a regression and for several ``labels``.

    Raises DataError where the target does not fit the model.
    """
    sizes = (n_features, *(config.hidden if config.model == "mlp" else ()))
    if labels:
        return Mlp((*sizes, n_targets), config.activation, LogisticCrossEntropy())
    if n_classes == 0:
        return Mlp((*sizes, n_targets), config.activation, MeanSquaredError())
    if config.model != "logistic":
        return Mlp((*sizes, n_classes), config.activation, SoftmaxCrossEntropy())
    if n_classes != 2:
        raise DataError(f"model logistic: the target has {n_classes} classes; it takes 2 (use softmax or mlp)")
    return Mlp((*sizes, 1), config.activation, LogisticCrossEntropy())
