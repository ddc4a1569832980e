"""Which pushes are too old to be applied."""

import math
from collections.abc import Sequence

import numpy as np

from common.config import RunConfig
from common.flat import Array
from common.option import whole_or


class MaxDelay:
    """Ringmaster ASGD (Maranjyan et al., ICML 2025): a push is applied if its delay is below R, else left out.

    R is given, or follows the noise of the gradients: max(1, ceil(noise scale / rows of a push)), which stands for the
    paper's max(1, ceil(sigma^2 / eps)); nothing is left out before the noise is known, in the second epoch. The rows of
    a push that is left out must be dealt again, else rows of slow ranks count less than others: where only one rank can
    take them (``--rows shard``), nothing is left out.
    """

    def __init__(self, config: RunConfig, sizes: Sequence[int]) -> None:
        """``sizes``: of the blocks that a gradient comes in."""
        kept = config.rows == "shard"
        self.limit = None if kept else whole_or("max_delay", config.max_delay, ("off", "auto"), 1)
        self._noise = PairNoise(sizes, config.dtype) if config.max_delay == "auto" and not kept else None

    def accepts(self, delay: int) -> bool:
        """Say whether a push is applied that is so many versions old."""
        return self.limit is None or delay < self.limit

    def note(self, grads: Sequence[Array], share: float) -> None:
        """Look at a push that is applied; see ``PairNoise``."""
        if self._noise is not None:
            self._noise.note(grads, share)

    def close_epoch(self) -> None:
        """Set the limit for the next epoch."""
        if self._noise is not None:
            scale, share = self._noise.take()
            if scale is not None:
                self.limit = max(1, math.ceil(scale / share))


class PairNoise:
    """The noise scale of gradients, tr(S) / |G|^2 (McCandlish et al. 2018), of pushes one after another.

    Two mean gradients g, h of b and c rows that are independent: E g.h = |G|^2, E |g|^2 = |G|^2 + tr(S) / b. Both sums
    are taken over pairs, one in every so many pushes, and then divided. Rows are counted in global batches.
    """

    every = 8

    def __init__(self, sizes: Sequence[int], dtype: str) -> None:
        self._kept = [np.empty(size, dtype) for size in sizes]
        self._begin()

    def _begin(self) -> None:
        self._pushes, self._shares, self._trace, self._square, self._before = 0, 0.0, 0.0, 0.0, (0.0, 0.0)

    def note(self, grads: Sequence[Array], share: float) -> None:
        """Look at a push: its mean gradient times ``share``, its rows as a share of a global batch."""
        turn = self._pushes % self.every
        self._pushes += 1
        self._shares += share
        if turn > 1:
            return
        own = _dot(grads, grads) / share**2
        if turn == 0:
            for kept, grad in zip(self._kept, grads, strict=True):
                np.divide(grad.ravel(), share, out=kept)
            self._before = own, share
            return
        product = _dot(self._kept, grads) / share
        before, share_before = self._before
        self._trace += share * (own - product) + share_before * (before - product)
        self._square += 2 * product

    def take(self) -> tuple[float | None, float]:
        """Return the noise scale, None if it is not known, and the share of a mean push; begin again."""
        trace, square, share = self._trace, self._square, self._shares / max(self._pushes, 1)
        self._begin()
        known = square > 0 and trace > 0 and math.isfinite(trace / square)
        return trace / square if known else None, share


def _dot(one: Sequence[Array], other: Sequence[Array]) -> float:
    return math.fsum(float(np.vdot(a, b)) for a, b in zip(one, other, strict=True))
