"""Delay compensation: a gradient of older parameters is corrected for how far they have moved since."""

from collections.abc import Sequence

import numpy as np

from common.config import RunConfig
from common.flat import Array
from common.nn.optimizers import Optimizer

MEAN_SQUARE = "mean_square"
"""The name of the adaptive variant's state, which is saved with the optimizer's."""


class Compensation:
    """DC-ASGD (Zheng et al. 2017, arXiv 1609.08326): g + lambda g g (w - w_pulled), element by element.

    g g stands for the diagonal of the Hessian, so g must be a mean gradient. Variant ``constant`` (c in the paper) has
    one lambda; ``adaptive`` (a) has lambda_0 / sqrt(s + 1e-7) for each number, s = m s + (1 - m) g g over all pushes.
    Keeps the parameters of each rank's last pull: one vector a rank.
    """

    strength, strength_adaptive, decay, eps = 0.04, 2.0, 0.95, 1e-7

    def __init__(self, adaptive: bool, optimizer: Optimizer, ranks: int, dtype: str) -> None:
        self._params = params = optimizer.params
        self._pulled = [[block.copy() for block in params] for _ in range(ranks)]
        self._adaptive = adaptive
        size = max((block.size for block in params), default=0)
        term, root = (np.empty(size, dtype) for _ in range(2))
        self._work = [(term[: block.size].reshape(block.shape), root[: block.size].reshape(block.shape))
                      for block in params]  # fmt: skip
        self._square: list[Array] = []
        if adaptive:
            self._square = optimizer.arrays[MEAN_SQUARE] = [np.zeros_like(block) for block in params]

    @classmethod
    def of(cls, config: RunConfig, optimizer: Optimizer, ranks: int) -> "Compensation | None":
        """Return the configured one, if any."""
        if config.delay_compensation == "off":
            return None
        return cls(config.delay_compensation == "adaptive", optimizer, ranks, config.dtype)

    def pulled(self, rank: int, params: Sequence[Array] | None = None) -> None:
        """Take notice that a rank is given these parameters, in blocks: if none are named, those of now."""
        for kept, block in zip(self._pulled[rank], self._params if params is None else params, strict=True):
            np.copyto(kept, block)

    def correct(self, block: int, grad: Array, rank: int) -> None:
        """Correct a block of a rank's mean gradient, in place."""
        term, root = self._work[block]
        np.multiply(grad, grad, out=term)
        strength = self.strength
        if self._adaptive:
            square, strength = self._square[block], self.strength_adaptive
            np.multiply(square, self.decay, out=square)
            np.multiply(term, 1 - self.decay, out=root)
            np.add(square, root, out=square)
            np.add(square, self.eps, out=root)
            np.sqrt(root, out=root)
            np.divide(term, root, out=term)
        np.subtract(self._params[block], self._pulled[rank][block], out=root)
        np.multiply(term, root, out=term)
        np.multiply(term, strength, out=term)
        np.add(grad, term, out=grad)
