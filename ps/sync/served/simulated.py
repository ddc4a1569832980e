"""Delays in one process: gradients of parameters that are some updates old, repeatable to the bit, for study."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from common.config import RunConfig
from common.data.loader import Batch
from common.flat import Array, Flat
from common.nn import models
from common.nn.models import Gradient
from common.nn.optimizers import Optimizer
from common.rng import Stream, generator
from ps.sync.chosen_sum import ChosenSum
from ps.sync.replicated import ReplicatedSync
from ps.sync.served.rules import ServerRules
from ps.sync.synchronizer import SyncSetup

MakeOptimizer = Callable[[RunConfig, Sequence[Array]], Optimizer]


class DelayedOptimizer(Optimizer):
    """The rules of a server, given gradients of earlier parameters, which it keeps with the optimizer's state.

    Each gradient's delay is drawn from the seed and the number of updates before it: all from 0 to ``simulate_delay``
    alike, but there is none from before the first update. One that ``max_delay`` does not allow counts as left out; its
    rows are dealt again at once, with another delay. ``delays``: of the gradients applied since ``take_figures``.
    """

    def __init__(self, make_optimizer: MakeOptimizer, config: RunConfig, blocks: Sequence[Array]) -> None:
        self._inner: Optimizer = make_optimizer(config, blocks)
        self.rules = ServerRules(config, self._inner, 1)
        self.params, self._depth, self._seed = self._inner.params, config.simulate_delay, config.seed
        self._past = [[np.zeros_like(block) for block in blocks] for _ in range(self._depth)]
        """Place t % depth has the parameters after t updates, of the last ones before now."""
        self.t = self._delay = self.dropped = 0
        self.delays: list[int] = []

    def draw(self) -> Sequence[Array]:
        """Draw the delay of the next gradient; return the parameters it is computed with, in blocks."""
        rng, most = generator(self._seed, Stream.DELAY, self.t), min(self._depth, self.t)
        while not self.rules.accepts(delay := int(rng.integers(most + 1))):
            self.dropped += 1
        self._delay = delay
        seen = self._past[(self.t - delay) % self._depth] if delay else self.params
        self.rules.pulled(0, seen)
        return seen

    def begin(self, lr: float) -> float:
        """See Optimizer."""
        self.t += 1
        return self.rules.begin(lr, 1.0, self._delay)

    def undo_begin(self) -> None:
        """See Optimizer."""
        self.t -= 1
        self._inner.undo_begin()

    def update(self, block: int, grad: Array) -> None:
        """See Optimizer. Blocks come in their order, each once."""
        np.copyto(self._past[(self.t - 1) % self._depth][block], self.params[block])
        self.rules.update(block, grad, 0)
        if block == len(self.params) - 1:
            self.delays.append(self._delay)

    def state(self) -> dict[str, list[Array]]:
        """See Optimizer."""
        return self._inner.state() | {f"past_{i}": past for i, past in enumerate(self._past)}

    def counts(self) -> dict[str, int]:
        """See Optimizer."""
        return {"t": self.t}

    def restore(self, counts: dict[str, int]) -> None:
        """See Optimizer."""
        self.t = counts["t"]
        self._inner.restore(counts)

    def take_figures(self) -> dict[str, float]:
        """Return what the log says of an epoch; begin the next one."""
        delays, dropped = self.delays, self.dropped
        self.delays, self.dropped = [], 0
        self.rules.close_epoch()
        return {
            "pushes": len(delays) + dropped,
            "staleness_mean": sum(delays) / max(len(delays), 1),
            "staleness_most": max(delays, default=0),
            "late": sum(delay > 0 for delay in delays),
            "dropped": dropped,
            "update_share": 1.0,
        }


class SimulatedDelaySync(ReplicatedSync):
    """One rank that computes each gradient with a copy of earlier parameters, and updates those of now."""

    def __init__(self, setup: SyncSetup) -> None:
        make = partial(DelayedOptimizer, setup.make_optimizer)
        super().__init__(ChosenSum, replace(setup, make_optimizer=make))
        assert isinstance(self._optimizer, DelayedOptimizer)
        self._delayed = self._optimizer
        self._seen = Flat(self.flat.shapes, self.flat.dtype, packet=self.flat.packet)
        self._seen_blocks = [self._seen.param_vector[where] for where in self.state.ranges]

    def backward(self, batch: Batch, lr: float, *, sample: bool) -> float:
        """See Synchronizer."""
        for own, block in zip(self._seen_blocks, self._delayed.draw(), strict=True):
            np.copyto(own, block)
        return super().backward(batch, lr, sample=sample)

    def step(self, batch: Batch, loss_sum: float, *, stop: bool, sample: bool, save: bool = False) -> int:
        """See Synchronizer."""
        self._delayed.rules.note(self._grads, self._factor)
        return super().step(batch, loss_sum, stop=stop, sample=sample, save=save)

    def epoch_figures(self) -> dict[str, float]:
        """See Synchronizer."""
        return self._delayed.take_figures()

    def _gradient(self, n: int) -> Gradient:
        if n not in self._gradients:
            self._gradients[n] = models.gradient(self.model, self._seen, n)
        return self._gradients[n]
