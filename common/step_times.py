"""When the phases of a sampled step began and ended on this rank, for a timeline."""

import numpy as np

from common.flat import Array

NAMES = ("input", "begin", "forward", "backward", "arrived", "left", "measured", "updated", "end")
"""Moments of a sampled step in their order: copying rows ahead began (where it did, else as ``begin``); the step began;
forward, backward ended; this rank came to the exchange and left it; contributions were measured; parameters were
updated; the step ended."""
INPUT, BEGIN, FORWARD, BACKWARD, ARRIVED, LEFT, MEASURED, UPDATED, END = range(len(NAMES))


class StepTimes:
    """One line of clock readings (seconds of ``time.perf_counter``) a sampled step of the epoch.

    ``now``: the line being written; the loop writes the outer moments, the synchroniser those within. ``number``: which
    of the epoch's exchanges it is of, from 0.
    """

    def __init__(self) -> None:
        self.now = [0.0] * len(NAMES)
        self.number = 0
        self.steps: list[int] = []
        self.numbers: list[int] = []
        self._lines = np.zeros((SAMPLE_MOST, len(NAMES)))

    def close_step(self, step: int) -> None:
        """Keep the line as that of ``step`` (from 0)."""
        self._lines[len(self.steps)] = self.now
        self.steps.append(step)
        self.numbers.append(self.number)

    def close_epoch(self) -> tuple[list[int], list[int], Array]:
        """Return the sampled steps, the numbers of their exchanges, and the lines, (steps, moments); start anew."""
        steps, numbers, self.steps, self.numbers = self.steps, self.numbers, [], []
        return steps, numbers, self._lines[: len(steps)].copy()


SAMPLE_ONE_IN = 64


SAMPLE_MOST = 8


def sampled_steps(n_steps: int) -> list[int]:
    """Return which steps of an epoch (from 0) contributions are measured on: one in 64, 1 to 8, evenly spread."""
    count = min(max(1, n_steps // SAMPLE_ONE_IN), SAMPLE_MOST)
    return [(2 * j + 1) * n_steps // (2 * count) for j in range(count)]
