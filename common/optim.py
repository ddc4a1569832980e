"""Update rules: each changes a parameter vector (or any slice of it) in place, given its mean gradient."""

from typing import Protocol

import numpy as np

from common.config import RunConfig
from common.flat import Array


class Optimizer(Protocol):
    """An update rule with its state; the vectors given to ``step`` always have the length it was made for."""

    def step(self, params: Array, grad: Array, lr: float) -> None:
        """Change ``params`` in place; ``grad`` is the mean gradient and may be overwritten."""

    def state(self) -> dict[str, Array]:
        """Return the live state arrays by name."""


class Sgd:
    """p -= lr (g + wd p)."""

    def __init__(self, n: int, dtype: np.dtype[np.floating], weight_decay: float) -> None:
        self.weight_decay = weight_decay
        self.tmp = np.zeros(n if weight_decay else 0, dtype)

    def _decayed(self, params: Array, grad: Array) -> None:
        """Add the gradient of wd/2 |p|^2 (L2)."""
        if self.weight_decay:
            np.multiply(params, self.weight_decay, out=self.tmp)
            np.add(grad, self.tmp, out=grad)

    def step(self, params: Array, grad: Array, lr: float) -> None:
        """Take one step against the gradient."""
        self._decayed(params, grad)
        np.multiply(grad, lr, out=grad)
        np.subtract(params, grad, out=params)

    def state(self) -> dict[str, Array]:
        """Return nothing: plain SGD has no state."""
        return {}


class Momentum(Sgd):
    """v = m v + g; p -= lr v (Polyak 1964, with the rate outside v: it may change on the way)."""

    nesterov = False

    def __init__(self, n: int, dtype: np.dtype[np.floating], weight_decay: float, momentum: float) -> None:
        super().__init__(n, dtype, weight_decay)
        self.momentum = momentum
        self.velocity = np.zeros(n, dtype)
        self.tmp = np.zeros(n, dtype)

    def step(self, params: Array, grad: Array, lr: float) -> None:
        """Update the velocity, then the parameters."""
        self._decayed(params, grad)
        np.multiply(self.velocity, self.momentum, out=self.velocity)
        np.add(self.velocity, grad, out=self.velocity)
        if self.nesterov:
            np.multiply(self.velocity, self.momentum, out=self.tmp)
            np.add(self.tmp, grad, out=self.tmp)
            np.multiply(self.tmp, lr, out=self.tmp)
        else:
            np.multiply(self.velocity, lr, out=self.tmp)
        np.subtract(params, self.tmp, out=params)

    def state(self) -> dict[str, Array]:
        """Return the velocity."""
        return {"velocity": self.velocity}


class Nesterov(Momentum):
    """v = m v + g; p -= lr (g + m v) (Sutskever et al. 2013, section 2, in the form PyTorch uses)."""

    nesterov = True


class Adam(Sgd):
    """Kingma & Ba 2015, Algorithm 1, eps outside the root; b1 0.9, b2 0.999, eps 1e-8; L2 enters the gradient."""

    b1, b2, eps = 0.9, 0.999, 1e-8
    decoupled = False

    def __init__(self, n: int, dtype: np.dtype[np.floating], weight_decay: float) -> None:
        super().__init__(n, dtype, weight_decay)
        self.m = np.zeros(n, dtype)
        self.v = np.zeros(n, dtype)
        self.tmp = np.zeros(n, dtype)
        self.t = np.zeros(1, np.int64)

    def step(self, params: Array, grad: Array, lr: float) -> None:
        """M = b1 m + (1-b1) g; v = b2 v + (1-b2) g^2; p -= lr m^ / (sqrt(v^) + eps), ^ bias-corrected."""
        if self.decoupled:
            np.multiply(params, 1 - lr * self.weight_decay, out=params)
        else:
            self._decayed(params, grad)
        self.t += 1
        t = int(self.t[0])
        np.multiply(self.m, self.b1, out=self.m)
        np.multiply(grad, 1 - self.b1, out=self.tmp)
        np.add(self.m, self.tmp, out=self.m)
        np.multiply(self.v, self.b2, out=self.v)
        np.multiply(grad, grad, out=self.tmp)
        np.multiply(self.tmp, 1 - self.b2, out=self.tmp)
        np.add(self.v, self.tmp, out=self.v)
        np.divide(self.v, 1 - self.b2**t, out=self.tmp)
        np.sqrt(self.tmp, out=self.tmp)
        np.add(self.tmp, self.eps, out=self.tmp)
        np.divide(self.m, self.tmp, out=self.tmp)
        np.multiply(self.tmp, lr / (1 - self.b1**t), out=self.tmp)
        np.subtract(params, self.tmp, out=params)

    def state(self) -> dict[str, Array]:
        """Return both moments and the step count."""
        return {"m": self.m, "v": self.v, "t": self.t}


class AdamW(Adam):
    """Adam with decoupled weight decay, p *= 1 - lr wd (Loshchilov & Hutter 2019, Algorithm 2, schedule in lr)."""

    decoupled = True


def build(config: RunConfig, n: int) -> Optimizer:
    """Make the configured optimizer for n parameters."""
    dtype = np.dtype(config.dtype)
    if config.optimizer in ("momentum", "nesterov"):
        kind = Momentum if config.optimizer == "momentum" else Nesterov
        return kind(n, dtype, config.weight_decay, config.momentum)
    plain = {"sgd": Sgd, "adam": Adam, "adamw": AdamW}
    return plain[config.optimizer](n, dtype, config.weight_decay)
