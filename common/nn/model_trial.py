"""Calls of a model that is tried before training: whatever goes wrong in one is a message."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.errors import ConfigError
from common.files import do_nothing
from common.flat import Array, Flat
from common.named_views import read_only
from common.nn import models
from common.nn.custom_model import attempt
from common.nn.functional import Loss
from common.nn.mlp import Mlp
from common.nn.models import Model


@dataclass(frozen=True, slots=True)
class TrialRows:
    """What a model is tried on: features and target of at least one row, and what rows count, if not 1."""

    x: Array
    y: Array
    weight: Array | None = None

    def of_dtype(self, dtype: np.dtype[Any]) -> "TrialRows":
        """Return them read only, with numbers of a dtype; class numbers stay whole."""
        y = self.y.astype(dtype) if self.y.dtype.kind == "f" else self.y
        weight = None if self.weight is None else read_only(self.weight.astype(dtype))
        return TrialRows(read_only(self.x.astype(dtype)), read_only(y), weight)

    def first(self, n: int) -> "TrialRows":
        """Return at most the first ``n`` of them."""
        return TrialRows(self.x[:n], self.y[:n], None if self.weight is None else self.weight[:n])

    @property
    def unweighted(self) -> "TrialRows":
        """The same, each of which counts 1."""
        return TrialRows(self.x, self.y)

    def weights(self) -> tuple[Array, ...]:
        """Return the weights as a last argument, none if there are none."""
        return () if self.weight is None else (self.weight,)


class ModelTrial:
    """A model under the name that messages give it. All methods raise ConfigError."""

    def __init__(self, name: str, model: Model | Mlp) -> None:
        self.name, self.model = name, model
        self.largest = 0.0
        """The largest number that ``predict`` returned last: losses are as exact as it is."""

    def error(self, text: str, *, meant: bool = False) -> ConfigError:
        """Return the error that something is wrong with the model; ``meant``: unless its author wants it so."""
        way_out = "; if that is meant, leave this check out with --no-check-model" if meant else ""
        return ConfigError(f"model {self.name}: {text}{way_out}")

    def attempt(self, what: str, act: Callable[[], Any]) -> Any:
        """Do something; what it raises is an error of the model."""
        return attempt(self.name, what, act)

    def loss_grad(self, flat: Flat, rows: TrialRows) -> float:
        """Have the gradient over some rows written into ``flat``; return the loss."""
        model = self.model

        def act() -> float:
            if isinstance(model, Mlp):
                return models.loss_grad(model, flat, rows.x, rows.y, *rows.weights())
            loss_grad: Callable[..., Any] = model.loss_grad
            weight = {} if rows.weight is None else {"weight": rows.weight}
            value = loss_grad(flat.fixed_params, rows.x, rows.y, flat.grads, do_nothing, **weight)
            if value is None or np.ndim(value):
                got = "None" if value is None else f"an array of shape {np.shape(value)}"
                raise TypeError(f"it returned {got}, not the sum of the rows' losses as one number")
            return float(value)

        value: float = self.attempt(f"loss_grad() on {len(rows.x)} rows", act)
        return value

    def loss(self, flat: Flat, rows: TrialRows) -> float:
        """Return the loss over some rows by way of ``predict``."""
        loss, n = self.model.loss, len(rows.x)
        out = self.attempt(f"predict() on {n} rows", lambda: self.model.predict(flat.fixed_params, rows.x))
        if not isinstance(out, np.ndarray) or not out.ndim or len(out) != n:
            got = f"an array of shape {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
            raise self.error(f"predict() returned {got} for {n} rows; it returns an array, (rows, outputs)")
        if isinstance(loss, Loss) and out.ndim != 2:
            takes = (n, 1) if out.ndim == 1 else "(rows, outputs)"
            raise self.error(
                f"predict() returned an array of shape {out.shape}; its loss, {type(loss).__name__}, takes {takes}"
            )
        of = f"of outputs {out.shape} and y {rows.y.shape}"

        def total() -> float:
            self.largest = float(np.abs(out).max(initial=0.0))
            return float(loss.sum(out, rows.y, *rows.weights()))

        value: float = self.attempt(f"loss.sum() {of}", total)
        self.attempt(f"loss.correct() {of}", lambda: float(loss.correct(out, rows.y, *rows.weights())))
        return value

    def encode(self, flat: Flat, rows: TrialRows, n_outputs: int) -> None:
        """Have the loss encode the target, as the loader of batches does."""
        target = np.empty((n_outputs, len(rows.x)), flat.dtype)
        self.attempt(f"loss.encode() into {target.shape}", lambda: self.model.loss.encode(rows.y, target))


def place(name: str, wrong: Array) -> str:
    """Return an array's name with the index of its first entry that is wrong."""
    index = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
    return f"{name}[{', '.join(str(int(i)) for i in index)}]" if wrong.ndim else f"{name}[()]"
