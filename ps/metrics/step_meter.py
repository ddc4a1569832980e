"""All that a rank measures in the steps of an epoch: arrivals, contributions, timestamps, seconds of summing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.flat import Array
from common.step_times import BEGIN, END, NUMBER, SAMPLE_MOST, TIMESTAMPS, StepTimes, spread
from ps.comm.topology import Topology
from ps.metrics.contribution import ContributionMeter
from ps.metrics.sync_timer import SyncTimer, median


@dataclass(frozen=True, slots=True)
class EpochMeasures:
    """What an epoch's steps gave on this rank.

    ``figures``: by name as in ``ps/metrics/rank_row.py``. ``sampled``: the steps, from 0, that were sampled.
    ``traced``: those of them whose timestamps are among the figures. ``align``: turns times of this rank's clock in the
    epoch into those of rank 0's.
    """

    figures: dict[str, Any]
    sampled: list[int]
    traced: list[int]
    align: Callable[[Array], Array]


class StepMeter:
    """Filled by the synchroniser in each step, emptied at the end of an epoch.

    ``reduce_s``: seconds spent on summing and updating this rank's slices, where that is not a call of MPI.
    ``sampling_s``: seconds spent on measuring contributions, apart from synchronising. ``open_steps``: steps that this
    rank has taken since the ranks last exchanged; 0 after each step where all are exchanges. ``samples``: whether
    contributions are measured in steps.
    """

    def __init__(self, timer: SyncTimer, sizes: list[int]) -> None:
        """``sizes``: numbers in each parameter."""
        self.timer = timer
        self.contributions = ContributionMeter(sizes)
        self.step_times = StepTimes()
        self.reduce_s = self.sampling_s = 0.0
        self.open_steps = 0
        self.samples = True

    def close_epoch(self) -> EpochMeasures:
        """Compare arrivals with the other ranks, return this epoch's figures and begin again. Collective."""
        arrived = self.timer.arrived[: self.timer.steps].copy()
        times = self.timer.close_epoch()
        sampled, lines = self.step_times.close_epoch()
        cost_s = cost_of_sampling(arrived, lines, self.sampling_s)
        chosen = spread(len(sampled), SAMPLE_MOST)
        numbers, moments = lines[chosen, NUMBER].astype(int), lines[chosen, :NUMBER]
        timestamps = np.zeros((SAMPLE_MOST, len(TIMESTAMPS) + 1))
        timestamps[: len(chosen), :-1] = times.align(moments)
        timestamps[: len(chosen), -1] = times.last[numbers]
        figures = {
            **times.figures(),
            "reduce_s": self.reduce_s,
            "sampling_s": self.sampling_s,
            "sample_cost_s": cost_s,
            "timestamps": timestamps,
            **self.contributions.close_epoch(),
        }
        self.reduce_s = self.sampling_s = 0.0
        return EpochMeasures(figures, sampled, [sampled[i] for i in chosen], times.align)

    def rebind(self, topology: Topology) -> None:
        """Measure among other ranks from here on, and forget what was measured. Collective."""
        self.timer.rebind(topology)
        self.contributions.close_epoch()
        self.step_times.close_epoch()
        self.reduce_s = self.sampling_s = 0.0


def cost_of_sampling(arrived: Array, lines: Array, sampling_s: float) -> float:
    """Return the seconds by which sampling lengthens a step on this rank: the median, which other load hardly touches.

    ``arrived``: at each sum of the epoch. ``lines``: of the sampled steps. ``sampling_s``: measured in them. A sampled
    step may also compute more than others, so it is compared with those between which no step was sampled.
    """
    if not len(lines):
        return 0.0
    measuring = sampling_s / len(lines)
    plain = np.ones(len(arrived), bool)
    plain[lines[:, NUMBER].astype(int)] = False
    others = np.diff(arrived)[plain[:-1] & plain[1:]]
    if not len(others):
        return measuring
    return max(measuring, median(lines[:, END] - lines[:, BEGIN]) - median(others))
