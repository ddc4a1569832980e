"""How one push, or several together, change the server's parameters. Pure: no messages."""

import math
from collections.abc import Sequence

import numpy as np

from common.config import RunConfig
from common.flat import Array
from common.nn.optimizers import Optimizer
from ps.sync.checksum import long_norm
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
    times their share of it. It comes in blocks, each of the shape of the optimizer's, which are overwritten. ``rows``
    of a push or of several are at least 1, and so are the ``total`` rows of the global batch.
    """

    def __init__(self, config: RunConfig, optimizer: Optimizer, ranks: int) -> None:
        """``ranks``: how many may push."""
        self._optimizer, self._clip, self._delay_rate = optimizer, config.clip, config.delay_rate
        self._compensation = Compensation.of(config, optimizer, ranks)
        self._max_delay = MaxDelay(config, [block.size for block in optimizer.params])

    def pulled(self, rank: int) -> None:
        """Take notice that a rank is given the parameters as they are now: what it pushes next is of these."""
        if self._compensation is not None:
            self._compensation.pulled(rank)

    def accepts(self, delay: int) -> bool:
        """Say whether a push is applied that is so many versions old; if not, its rows are to be dealt again."""
        return self._max_delay.accepts(delay)

    def close_epoch(self) -> None:
        """Set for the next epoch what follows from this one."""
        self._max_delay.close_epoch()

    def apply(self, grads: Sequence[Array], lr: float, rows: int, total: int, rank: int, delay: int) -> None:
        """Apply one push of ``rank`` as an update of its own, ``delay`` versions after its pull.

        Its rate is ``lr``, that of a synchronous update, times its share of rows, so that pushes of a whole global
        batch move the parameters about as far as one synchronous update: with plain SGD and no delay exactly; momentum
        and Adam count each push as a step. The rate scales weight decay with it. The norm bound of the push is its
        share of ``clip``; then it is compensated for its delay.
        """
        share = rows / total
        self._max_delay.note(grads, share, rows)
        rate = lr * share * delay_factor(self._delay_rate, delay)
        self._update(grads, rate, share, self._compensation, rank)

    def apply_together(self, grads: Sequence[Array], lr: float, rows: int, total: int) -> None:
        """Apply the sum of several pushes, ``rows`` together, as one synchronous update by the mean of their rows."""
        self._update(grads, lr, rows / total, None, 0)

    def _update(
        self, grads: Sequence[Array], rate: float, share: float, compensation: Compensation | None, rank: int
    ) -> None:
        optimizer = self._optimizer
        factor, scale = optimizer.begin(rate), self._clipped(grads, share) / share
        if compensation is None:
            scale *= factor
        for i, grad in enumerate(grads):
            if scale != 1:
                np.multiply(grad, scale, out=grad)
            if compensation is not None:
                compensation.correct(i, grad, rank)
                if factor != 1:
                    np.multiply(grad, factor, out=grad)
            optimizer.update(i, grad)

    def _clipped(self, grads: Sequence[Array], share: float) -> float:
        """Return what a gradient is multiplied by to have at most the norm allowed."""
        if not self._clip:
            return 1.0
        norm, most = math.hypot(*map(long_norm, grads)), self._clip * share
        return most / norm if norm > most else 1.0
