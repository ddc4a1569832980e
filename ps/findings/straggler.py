"""Findings on the time of the epochs: a rank that holds the others up, and summing that takes longer than computing."""

from collections import Counter, deque
from dataclasses import dataclass

import numpy as np

from common.flat import Array
from ps.findings.verdict import Detector, Verdict, named
from ps.logfile.header import Host
from ps.logfile.records import Record
from ps.metrics.epoch_metrics import useful_s

EPOCHS = 5
ENOUGH = 3
"""A finding counts in so many of the last ``EPOCHS`` epochs."""
ENOUGH_IF_SLIGHT = 4
CLEAR = 1.5
"""Times what is slow: a rank slower than that is hardly so by chance in 3 epochs, if times scatter as told below."""
LONG = 10
"""Epochs of which the shortest is looked at."""
MIN_Z = 3.5
MIN_SLOWDOWN = 1.5
MIN_SLOWDOWN_CROWDED = 2.0
"""Where ranks take turns on cores, chance alone makes some slower."""
SURE_S = 0.05
"""Seconds that one epoch must be longer to count by itself: a few turns of other processes do not add up to it."""
MIN_EXCESS_S = 0.002
"""The same of the shortest of several epochs, which such turns hardly touch."""
LEAST_SPREAD = 0.05
"""Of the median: ranks that are equal to the microsecond must not make every other one an outlier."""


def slowness(busy_s: Array, rows: Array, rank: int, own_s: float | None = None) -> tuple[float, float, float]:
    """Return robust z, slowdown and excess seconds of a rank against the median of the other ranks.

    ``busy_s``, ``rows``: (ranks,) of an epoch; ``own_s``: the rank's own seconds, if not those.
    z = (c_i - median) / (1.4826 MAD), both over the others, so that one slow rank of few does not widen the spread it
    is measured with; MAD is at least ``LEAST_SPREAD`` of the median, for two ranks leave no MAD. Having more rows is
    not being slow: the others' times are first scaled up to as many.
    """
    others, their_rows = np.delete(busy_s, rank), float(np.median(np.delete(rows, rank)))
    if their_rows <= 0 or rows[rank] <= 0:
        return 0.0, 0.0, 0.0
    others = others * max(1.0, rows[rank] / their_rows)
    middle = float(np.median(others))
    if middle <= 0:
        return 0.0, 0.0, 0.0
    spread = max(float(np.median(np.abs(others - middle))), LEAST_SPREAD * middle)
    own = float(busy_s[rank]) if own_s is None else own_s
    excess = own - middle
    return excess / (1.4826 * spread), own / middle, excess


def outliers(busy_s: Array, rows: Array, least: Array, least_s: float, own_s: Array | None = None) -> list[int]:
    """Return the ranks with robust z > 3.5, slowed down at least as ``least`` (ranks,) says, by ``least_s`` seconds.

    ``own_s``: what each rank is judged by against the others' ``busy_s``, if not that.
    """
    own = busy_s if own_s is None else own_s
    if len(busy_s) < 2:
        return []
    # without itself the median of a rank in the upper half is not below this; most ranks need no closer look
    lowest = np.sort(busy_s)[(len(busy_s) - 2) // 2]
    found = []
    for rank in np.flatnonzero(own >= least * lowest).tolist():
        z, slowdown, excess = slowness(busy_s, rows, rank, float(own[rank]))
        if z > MIN_Z and slowdown >= least[rank] and excess >= least_s:
            found.append(rank)
    return found


@dataclass(frozen=True, slots=True)
class Pace:
    """An epoch's seconds of work and of waiting, and its rows, (ranks,) each; who was slow in it, and who clearly."""

    epoch: int
    busy_s: Array
    wait_s: Array
    rows: Array
    slow: list[int]
    clear: list[int]


class Straggler(Detector):
    """A rank that takes longer to compute than the others, epoch after epoch, so that they wait for it.

    Robust z > 3.5 (Iglewicz & Hoaglin 1993) in 4 of the last 5 epochs. Beyond that it must be 1.5 times as slow as the
    others' median (2 times where ranks share cores), since z alone calls a rank an outlier that is 2 % slower among
    equals, and by 50 ms, since in short epochs a process that gets a core for a while makes any rank look slow. 3 of 5
    are enough at 1.5 times that. What is slow by less is asked of the last 10 epochs (of 5 or more in a shorter run):
    other processes only ever add time, so the shortest time of a rank that is slow in all of them is longer than what
    the others take in a quarter of theirs. Work is compute + input without summing, which in the shared modes goes by
    memory that all ranks are at. In simulations of equal ranks whose times scatter by 5 to 15 % (30 % where they share
    cores), less than 1 % of runs of 30 epochs have a straggler (tests/test_verdicts.py).
    """

    def __init__(self, machines: list[Host], n_ranks: int) -> None:
        self.host = {rank: machine.name for machine in machines for rank in machine.ranks}
        self.least = np.full(n_ranks, MIN_SLOWDOWN)
        self.least_alone = self.least.copy()
        for machine in machines:
            if machine.oversubscribed:
                self.least_alone[machine.ranks] = MIN_SLOWDOWN_CROWDED
        self.recent: deque[Pace] = deque(maxlen=LONG)
        self.said: set[int] = set()

    def add(self, epoch: Record) -> Verdict | None:
        """See Rule."""
        busy = useful_s(epoch)
        rows = np.array(epoch["rows"], np.float64)
        slow, clear = (outliers(busy, rows, times * self.least_alone, SURE_S) for times in (1, CLEAR))
        self.recent.append(Pace(epoch["epoch"], busy, np.array(epoch["wait_s"], np.float64), rows, slow, clear))
        last = list(self.recent)[-EPOCHS:]
        counts = Counter(rank for pace in last for rank in pace.slow)
        often = {rank for rank, count in counts.items() if count >= ENOUGH_IF_SLIGHT}
        counts = Counter(rank for pace in last for rank in pace.clear)
        found = self._verdict(often | {rank for rank, count in counts.items() if count >= ENOUGH}, last)
        return found or (self._always_slow() if len(self.recent) == LONG else None)

    def finish(self) -> Verdict | None:
        """See Rule."""
        return self._always_slow() if EPOCHS <= len(self.recent) < LONG else None

    def _always_slow(self) -> Verdict | None:
        ordered = np.sort([pace.busy_s for pace in self.recent], axis=0)
        shortest, short = ordered[0], ordered[len(ordered) // 4]
        return self._verdict(
            set(outliers(short, self.recent[-1].rows, self.least, MIN_EXCESS_S, shortest)), list(self.recent)
        )

    def _verdict(self, found: set[int], over: list[Pace]) -> Verdict | None:
        """Return what is new of these ranks, with medians over these epochs."""
        facts = {
            rank: np.median([slowness(pace.busy_s, pace.rows, rank) for pace in over], axis=0).tolist()
            for rank in sorted(found - self.said)
        }
        ranks = [rank for rank, (_, slowdown, _) in facts.items() if slowdown >= self.least[rank]]
        if not ranks:
            return None
        self.said.update(ranks)
        z, slowdowns = ([facts[rank][i] for rank in ranks] for i in (0, 1))
        waits = np.mean([pace.wait_s for pace in over], axis=0)
        rest = np.delete(waits, ranks)
        own, others = float(waits[ranks].mean()), float(rest.mean()) if len(rest) else 0.0
        names, many = sorted({self.host.get(rank, "an unknown host") for rank in ranks}), len(ranks) > 1
        first, last = over[0].epoch, over[-1].epoch
        return Verdict(
            code="straggler",
            severity="warning",
            ranks=ranks,
            text=f"{named(ranks)} on {', '.join(names)} compute{'s' * (not many)} {'at least ' * many}"
            f"{min(slowdowns):.3g} times as long as the other ranks in epochs {first} to {last} (medians; robust z "
            f"{min(z):.3g}); the others wait {others:.3g} s an epoch for the last rank, {named(ranks)} {own:.3g} s",
            remedy="look for other load, throttling or slow memory on that host and leave it out, or start all ranks "
            "on hosts that are alike",
            evidence={
                "hosts": [self.host.get(rank) for rank in ranks],
                "epochs": [first, last],
                "z": z,
                "slowdown": slowdowns,
                "wait_s": waits[ranks].tolist(),
                "others_wait_s": others,
            },
        )
