"""How one push, or several together, change the server's parameters. Pure: no messages."""

import math
from collections.abc import Sequence

import numpy as np

from common.checksum import long_norm
from common.config import RunConfig
from common.flat import Array
from common.nn.optimizers import Optimizer
from ps.sync.served.compensation import Compensation
from ps.sync.served.max_delay import MaxDelay


def delay_factor(rule: str, delay: int) -> float:
    """Return what the rate of a push is multiplied by that is ``delay`` versions old.

    inverse: 1 / max(1, delay) (Zhang et al. 2016, arXiv 1511.05950); root: 1 / sqrt(1 + delay) (Nguyen et al. 2022,
    arXiv 2106.06639).
    """
    if rule == "inverse":
        return 1 / max(1, delay)
    return 1 / math.sqrt(1 + delay) if rule == "root" else 1.0


class ServerRules:
    """Applies pushes to the parameters of an optimizer, which are the server's.

    A push is the gradient of the sum of some rows' losses, divided by the rows of a global batch: their mean gradient
    times their ``share`` of it, which is above 0. It comes in blocks, each of the shape of the optimizer's, which are
    overwritten.
    """

    def __init__(self, config: RunConfig, optimizer: Optimizer, ranks: int) -> None:
        """``ranks``: how many may push."""
        self._optimizer, self._clip, self._delay_rate = optimizer, config.clip, config.delay_rate
        self._compensation = Compensation.of(config, optimizer, ranks)
        self._factor = 1.0
        """Of a gradient that has been compensated."""
        self._max_delay = MaxDelay(config, [block.size for block in optimizer.params])

    def pulled(self, rank: int, params: Sequence[Array] | None = None) -> None:
        """Take notice that what a rank pushes next is of these parameters: if none are named, of those of now."""
        if self._compensation is not None:
            self._compensation.pulled(rank, params)

    def accepts(self, delay: int) -> bool:
        """Say whether a push is applied that is so many versions old; if not, its rows are to be dealt again."""
        return self._max_delay.accepts(delay)

    def close_epoch(self) -> None:
        """Set for the next epoch what follows from this one."""
        self._max_delay.close_epoch()

    def apply(self, grads: Sequence[Array], lr: float, share: float, rank: int, delay: int) -> None:
        """Apply one push of ``rank`` as an update of its own, ``delay`` versions after its pull.

        Its rate is ``lr``, that of a synchronous update, times its share of rows, so that pushes of a whole global
        batch move the parameters about as far as one synchronous update: with plain SGD and no delay exactly; momentum
        and Adam count each push as a step. The rate scales weight decay with it. The norm bound of the push is its
        share of ``clip``; then it is compensated for its delay.
        """
        self.note(grads, share)
        scale = self.begin(lr, share, delay) * self._clipped(grads, share) / share
        for i, grad in enumerate(grads):
            if scale != 1:
                np.multiply(grad, scale, out=grad)
            self.update(i, grad, rank)

    def apply_together(self, grads: Sequence[Array], lr: float, share: float) -> None:
        """Apply the sum of several pushes, which are ``share`` together, as one synchronous update by their mean."""
        scale = self._optimizer.begin(lr) * self._clipped(grads, share) / share
        for i, grad in enumerate(grads):
            if scale != 1:
                np.multiply(grad, scale, out=grad)
            self._optimizer.update(i, grad)

    def note(self, grads: Sequence[Array], share: float) -> None:
        """Look at a push that is about to be applied, block by block."""
        self._max_delay.note(grads, share)

    def begin(self, lr: float, share: float, delay: int) -> float:
        """Begin an update by one push; return what its mean gradient comes multiplied by, as ``Optimizer.begin``."""
        factor = self._optimizer.begin(lr * share * delay_factor(self._delay_rate, delay))
        if self._compensation is None:
            return factor
        self._factor = factor
        return 1.0

    def update(self, block: int, grad: Array, rank: int) -> None:
        """Change a block by the push of a rank."""
        if self._compensation is not None:
            self._compensation.correct(block, grad, rank)
            if self._factor != 1:
                np.multiply(grad, self._factor, out=grad)
        self._optimizer.update(block, grad)

    def _clipped(self, grads: Sequence[Array], share: float) -> float:
        """Return what a gradient is multiplied by to have at most the norm allowed."""
        if not self._clip:
            return 1.0
        norm, most = math.hypot(*map(long_norm, grads)), self._clip * share
        return most / norm if norm > most else 1.0
