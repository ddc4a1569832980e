"""The documentation's example of a model class, with rows that count by their weights."""

from collections.abc import Callable

import numpy as np

from common.flat import Array, Views
from docs.examples.own_model import SkipNet


class WeightedNet(SkipNet):
    """As docs/own-model.md tells to make it."""

    hidden = 8

    def loss_grad(
        self, params: Views, x: Array, y: Array, grads: Views, ready: Callable[[str], None], weight: Array | None = None
    ) -> float:
        """Write the gradient of the rows' weighted sum of losses; return that sum."""
        hidden, out = self.forward(params, x)
        d_out = np.exp(out - out.max(axis=1, keepdims=True))
        d_out /= d_out.sum(axis=1, keepdims=True)
        d_out[np.arange(len(y)), y] -= 1
        if weight is not None:
            d_out *= weight[:, None]
        grads["c"][...] = d_out.sum(axis=0)
        grads["V"][...] = hidden.T @ d_out
        grads["S"][...] = x.T @ d_out
        d_hidden = (d_out @ params["V"].T) * (1 - hidden * hidden)
        grads["a"][...] = d_hidden.sum(axis=0)
        grads["W"][...] = x.T @ d_hidden
        return self.loss.sum(out, y, weight)
