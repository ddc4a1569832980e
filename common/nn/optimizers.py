"""Update rules: each changes blocks of parameters in place, given their mean gradient."""

from collections.abc import Sequence

import numpy as np

from common.config import RunConfig
from common.flat import Array


class Optimizer:
    """An update rule with its state for the blocks of parameters it was made with: all of them, or a rank's slices.

    Per step: ``begin`` once, then ``update`` for every block. ``t``: steps begun; ``tmp``: scratch memory for a block.
    """

    names: tuple[str, ...] = ()
    """Of the state arrays, which start at 0."""

    def __init__(self, blocks: Sequence[Array], config: RunConfig) -> None:
        self.params, self.weight_decay, self.momentum = list(blocks), config.weight_decay, config.momentum
        self.lr, self.t = 0.0, 0
        self.arrays = {name: [np.zeros_like(p) for p in self.params] for name in self.names}
        scratch = np.empty(max((p.size for p in self.params), default=0), config.dtype)
        self.tmp = [scratch[: p.size].reshape(p.shape) for p in self.params]

    def begin(self, lr: float) -> float:
        """Start a step; return what the mean gradient comes multiplied by (SGD: the rate, which spares it a pass)."""
        self.lr = lr
        self.t += 1
        return 1.0

    def undo_begin(self) -> None:
        """Take back the last ``begin``, whose step updates nothing."""
        self.t -= 1

    def update(self, block: int, grad: Array) -> None:
        """Change a block in place; ``grad`` has its shape and may be overwritten."""

    def state(self) -> dict[str, list[Array]]:
        """Return the live state arrays by name, one a block, of its shape."""
        return self.arrays

    def counts(self) -> dict[str, int]:
        """Return the rest of the state: whole numbers by name."""
        return {}

    def restore(self, counts: dict[str, int]) -> None:
        """Set these numbers; the arrays of ``state`` are filled in place."""

    def _decayed(self, block: int, grad: Array) -> None:
        """Add the gradient of wd/2 |p|^2 (L2)."""
        if self.weight_decay:
            np.multiply(self.params[block], self.weight_decay, out=self.tmp[block])
            np.add(grad, self.tmp[block], out=grad)


class Sgd(Optimizer):
    """p -= lr (g + wd p), as p = (1 - lr wd) p - lr g."""

    def begin(self, lr: float) -> float:
        """See Optimizer."""
        self.lr, self.t = lr, self.t + 1
        return lr

    def update(self, block: int, grad: Array) -> None:
        """Take one step against the gradient, which has the rate in it."""
        params = self.params[block]
        if self.weight_decay:
            np.multiply(params, 1 - self.lr * self.weight_decay, out=params)
        np.subtract(params, grad, out=params)


class Momentum(Optimizer):
    """v = m v + g; p -= lr v (Polyak 1964, with the rate outside v: it may change on the way)."""

    names = ("velocity",)
    nesterov = False

    def update(self, block: int, grad: Array) -> None:
        """Update the velocity, then the parameters."""
        self._decayed(block, grad)
        velocity, tmp, params = self.arrays["velocity"][block], self.tmp[block], self.params[block]
        np.multiply(velocity, self.momentum, out=velocity)
        np.add(velocity, grad, out=velocity)
        if self.nesterov:
            np.multiply(velocity, self.momentum, out=tmp)
            np.add(tmp, grad, out=tmp)
            np.multiply(tmp, self.lr, out=tmp)
        else:
            np.multiply(velocity, self.lr, out=tmp)
        np.subtract(params, tmp, out=params)


class Nesterov(Momentum):
    """v = m v + g; p -= lr (g + m v) (Sutskever et al. 2013, section 2, in the form PyTorch uses)."""

    nesterov = True


class Adam(Optimizer):
    """Kingma & Ba 2015, Algorithm 1, eps outside the root; b1 0.9, b2 0.999, eps 1e-8; L2 enters the gradient."""

    names = ("m", "v")
    b1, b2, eps = 0.9, 0.999, 1e-8
    decoupled = False

    def update(self, block: int, grad: Array) -> None:
        """M = b1 m + (1-b1) g; v = b2 v + (1-b2) g^2; p -= lr m^ / (sqrt(v^) + eps), ^ bias-corrected."""
        params, tmp, t = self.params[block], self.tmp[block], self.t
        m, v = self.arrays["m"][block], self.arrays["v"][block]
        if self.decoupled:
            np.multiply(params, 1 - self.lr * self.weight_decay, out=params)
        else:
            self._decayed(block, grad)
        np.multiply(m, self.b1, out=m)
        np.multiply(grad, 1 - self.b1, out=tmp)
        np.add(m, tmp, out=m)
        np.multiply(v, self.b2, out=v)
        np.multiply(grad, grad, out=tmp)
        np.multiply(tmp, 1 - self.b2, out=tmp)
        np.add(v, tmp, out=v)
        np.divide(v, 1 - self.b2**t, out=tmp)
        np.sqrt(tmp, out=tmp)
        np.add(tmp, self.eps, out=tmp)
        np.divide(m, tmp, out=tmp)
        np.multiply(tmp, self.lr / (1 - self.b1**t), out=tmp)
        np.subtract(params, tmp, out=params)

    def counts(self) -> dict[str, int]:
        """Return the steps done."""
        return {"t": self.t}

    def restore(self, counts: dict[str, int]) -> None:
        """Continue after so many steps."""
        self.t = counts["t"]


class AdamW(Adam):
    """Adam with decoupled weight decay, p *= 1 - lr wd (Loshchilov & Hutter 2019, Algorithm 2, schedule in lr)."""

    decoupled = True


RULES: dict[str, type[Optimizer]] = {
    "sgd": Sgd, "momentum": Momentum, "nesterov": Nesterov, "adam": Adam, "adamw": AdamW,
}  # fmt: skip


def build(config: RunConfig, blocks: Sequence[Array]) -> Optimizer:
    """Make the configured optimizer for these blocks of parameters."""
    return RULES[config.optimizer](blocks, config)
