"""When the phases of a sampled step began and ended on this rank, for a timeline."""

import numpy as np

from common.flat import Array

LEAST_SAMPLES, MOST_SAMPLES = 8, 1024
"""Sampled steps of an epoch, all of them if it has fewer: intervals of more hardly get narrower."""
SAMPLED_TIME = 0.02
"""Of the time of an epoch's steps, what measuring may take beyond ``LEAST_SAMPLES``."""
SAMPLE_MOST = 8
"""Of the sampled steps, those whose timestamps are logged."""
TIMESTAMPS = ("input", "begin", "forward", "backward", "arrived", "left", "measured", "updated", "end")
"""Of a sampled step, in their order: copying rows ahead began (in steps where it did, else as ``begin``); the step
began; forward, backward ended; this rank came to the exchange and left it; contributions were measured; parameters were
updated; the step ended."""
INPUT, BEGIN, FORWARD, BACKWARD, ARRIVED, LEFT, MEASURED, UPDATED, END = range(len(TIMESTAMPS))
NUMBER = len(TIMESTAMPS)
"""After the timestamps of a line: the number of the step's exchange among those of the epoch, from 0."""


class StepTimes:
    """One line of timestamps (seconds of ``time.perf_counter``) a sampled step of the epoch.

    ``now``: the line being written; the loop writes the outer timestamps, the synchroniser the rest.
    """

    def __init__(self) -> None:
        self.now = [0.0] * (NUMBER + 1)
        self.steps: list[int] = []
        self._lines: list[list[float]] = []

    def close_step(self, step: int) -> None:
        """Keep the line as that of ``step`` (from 0)."""
        self._lines.append(self.now.copy())
        self.steps.append(step)

    def close_epoch(self) -> tuple[list[int], Array]:
        """Return the sampled steps and their lines, (steps, NUMBER + 1); begin a new epoch."""
        steps, self.steps = self.steps, []
        lines, self._lines = self._lines, []
        return steps, np.array(lines).reshape(len(steps), NUMBER + 1)


def n_samples(n_steps: int, rate: float) -> int:
    """Return how many steps of an epoch are sampled; ``rate``: samples a step that ``SAMPLED_TIME`` allows."""
    return min(n_steps, max(LEAST_SAMPLES, min(int(rate * n_steps), MOST_SAMPLES)))


def spread(n: int, count: int) -> list[int]:
    """Return ``count`` of n numbers from 0, all if there are no more, evenly spread."""
    count = min(count, n)
    return [(2 * j + 1) * n // (2 * count) for j in range(count)]
