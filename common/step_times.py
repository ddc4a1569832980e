"""When the phases of a sampled step began and ended on this rank, for a timeline."""

import numpy as np

from common.flat import Array

SAMPLE_ONE_IN = 64
SAMPLE_MOST = 8
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
        self._lines = np.zeros((SAMPLE_MOST, NUMBER + 1))

    def close_step(self, step: int) -> None:
        """Keep the line as that of ``step`` (from 0)."""
        self._lines[len(self.steps)] = self.now
        self.steps.append(step)

    def close_epoch(self) -> tuple[list[int], list[int], Array]:
        """Return the sampled steps, the numbers of their exchanges, and (steps, timestamps); begin a new epoch."""
        steps, self.steps = self.steps, []
        lines = self._lines[: len(steps)].copy()
        return steps, [int(number) for number in lines[:, NUMBER]], lines[:, :NUMBER]


def sampled_steps(n_steps: int) -> list[int]:
    """Return the sampled steps of an epoch (from 0): one in 64, but 1 to 8, evenly spread."""
    count = min(max(1, n_steps // SAMPLE_ONE_IN), SAMPLE_MOST)
    return [(2 * j + 1) * n_steps // (2 * count) for j in range(count)]
