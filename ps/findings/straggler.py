"""Verdict ``straggler``: a rank computes longer than the others, which wait for it."""

from collections import Counter, deque
from dataclasses import dataclass

import numpy as np

from common.flat import Array
from common.ranges import named_hosts, named_ranks
from ps.findings.verdict import Detector, Verdict
from ps.logfile.header import host_names, hosts
from ps.logfile.records import Record
from ps.metrics.epoch_metrics import RUN_TIME, useful_s

EPOCHS, ENOUGH, ENOUGH_IF_CLEAR = 5, 4, 3
"""Reported where it is so in so many of the last epochs."""
CLEAR = 1.5
"""Times what is slow: a rank slower than that is hardly so by chance in 3 epochs."""
LONG = 10
"""Epochs of which the shortest is looked at."""
MIN_Z = 3.5
MIN_SLOWDOWN = 1.5
MIN_SLOWDOWN_CROWDED = 2.0
"""Where ranks take turns on cores, chance alone makes some slower."""
MIN_EXCESS_S = 0.05
"""Seconds that one epoch must be longer to count by itself: a few turns of other processes do not add up to it."""
MIN_EXCESS_OF_SHORTEST_S = 0.002
"""The same of the shortest of several epochs, which such turns hardly touch."""
WAITED = 0.5
"""Of the excess, by what the others must have waited longer: who waits like them was only measured to be slow."""
LOST = 0.05
"""Of the others' time, what they must have lost by waiting."""
ROUNDING = 1e-9
LOOSE_MODES = ("k-of-n", "async", "local")
"""Whose ranks need not wait for each other in each step."""
LEAST_SPREAD = 0.05
"""Of the median: ranks that are equal to the microsecond must not make every other one an outlier."""


def slowness(busy_s: Array, rows: Array, rank: int, own_s: float) -> tuple[float, float, float]:
    """Return robust z, slowdown and excess seconds of a rank that takes ``own_s`` against the other ranks' median.

    ``busy_s``, ``rows``: (ranks,) of an epoch. z = (c_i - median) / (1.4826 MAD), both over the others, so that one
    slow rank of few does not widen the spread it is measured with; MAD is at least ``LEAST_SPREAD`` of the median, for
    two ranks leave no MAD. Having more rows is not being slow: the others' times are first scaled up to as many.
    """
    others, their_rows = np.delete(busy_s, rank), float(np.median(np.delete(rows, rank)))
    others = others * max(1.0, rows[rank] / their_rows if their_rows > 0 else 0.0)
    middle = float(np.median(others))
    if min(their_rows, rows[rank], middle) <= 0:
        return 0.0, 0.0, 0.0
    spread = max(float(np.median(np.abs(others - middle))), LEAST_SPREAD * middle)
    return (own_s - middle) / (1.4826 * spread), own_s / middle, own_s - middle


def without_each(values: Array) -> Array:
    """Return for each of the values the median of the others, (n,); of at least 2."""
    n, ordered = len(values), np.sort(values)
    place = np.empty(n, np.int64)
    place[np.argsort(values, kind="stable")] = np.arange(n)
    low, high = (n - 2) // 2, (n - 1) // 2
    found: Array = (ordered[low + (place <= low)] + ordered[high + (place <= high)]) / 2
    return found


def outliers(busy_s: Array, rows: Array, own_s: Array, least: Array, least_s: float) -> dict[int, float]:
    """Return the slowdown of the ranks whose ``own_s`` stand out against the others' ``busy_s``.

    ``least``: slowdown from which a rank counts; this and the arrays before: (ranks,). ``least_s``: excess seconds.
    """
    if len(busy_s) < 2:
        return {}
    # few of many ranks need a closer look, which takes all others for each
    their_rows, middle = without_each(rows), without_each(busy_s)
    middle *= np.maximum(1.0, np.divide(rows, their_rows, out=np.zeros(len(rows)), where=their_rows > 0))
    seems = (own_s >= (1 - ROUNDING) * least * middle) & (own_s - middle >= (1 - ROUNDING) * least_s)
    found = {}
    for rank in np.flatnonzero(seems).tolist():
        z, slowdown, excess = slowness(busy_s, rows, rank, float(own_s[rank]))
        if z > MIN_Z and slowdown >= least[rank] and excess >= least_s:
            found[rank] = slowdown
    return found


@dataclass(frozen=True, slots=True)
class EpochTimes:
    """An epoch, (ranks,) each: seconds of work, of waiting, of the steps and in a core's queue (None if unknown); rows.

    ``slow``: the slowdown of ranks that stand out.
    """

    epoch: int
    busy_s: Array
    wait_s: Array
    run_s: Array
    queued_s: Array | None
    rows: Array
    slow: dict[int, float]


class Straggler(Detector):
    """A rank that takes longer to compute than the others, epoch after epoch, so that they wait for it.

    Robust z > 3.5 (Iglewicz & Hoaglin 1993) in 4 of the last 5 epochs. Beyond that it must be 1.5 times as slow as the
    others' median, since z alone calls a rank an outlier that is 2 % slower among equals, and by 50 ms, since in short
    epochs a process that gets a core for a while makes any rank look slow. A smaller difference is looked for in the
    last 10 epochs (5 or more in a shorter run): other processes only ever add time, so the shortest time of a rank that
    is slow in all of them is longer than what the others take in a quarter of theirs. And the others must have waited
    for it: longer than it did itself by at least half its excess, and 5 % of their time. tests/test_verdicts.py has how
    seldom equal ranks have a straggler.
    """

    code = "straggler"

    def __init__(self, header: Record) -> None:
        super().__init__(header)
        self.host_of, self.hosts = host_names(header), hosts(header)
        config = header["config"]
        by_rank = config.get("rows") == "shard" and config.get("shards") != "fixed"
        self.can_wait_for_fewer = self.n_ranks > 2 and config.get("mode") not in LOOSE_MODES
        self.can_balance = config.get("balance", "off") == "off" and not by_rank
        self.least = np.full(self.n_ranks, MIN_SLOWDOWN)
        self.least_alone = self.least.copy()
        for machine in self.hosts:
            if machine.oversubscribed:
                self.least_alone[machine.ranks] = MIN_SLOWDOWN_CROWDED
        self.recent: deque[EpochTimes] = deque(maxlen=LONG)
        self.reported: set[int] = set()
        self.unclear: set[int] = set()
        """Ranks that stood out lately, but for which nobody waited."""
        self.in_step = True
        """Whether ranks wait for each other; those that need not are no fault of the times."""

    def add(self, epoch: Record) -> Verdict | None:
        """See Detector."""
        self.in_step = "pushes" not in epoch
        busy, wait, rows = useful_s(epoch), np.array(epoch["wait_s"]), np.array(epoch["rows"], np.float64)
        slow = outliers(busy, rows, busy, self.least_alone, MIN_EXCESS_S)
        run = np.sum([epoch[name] for name in RUN_TIME], axis=0)
        queued_s = np.array(epoch["preempted_s"]) if "preempted_s" in epoch else None
        self.recent.append(EpochTimes(epoch["epoch"], busy, wait, run, queued_s, rows, slow))
        last = list(self.recent)[-EPOCHS:]
        n_slow = Counter(rank for times in last for rank in times.slow)
        n_clear = Counter(r for times in last for r, by in times.slow.items() if by >= CLEAR * self.least_alone[r])
        found = {rank for rank, n in n_slow.items() if n >= ENOUGH or n_clear[rank] >= ENOUGH_IF_CLEAR}
        return self._verdict(found, last) or (self._always_slow() if len(self.recent) == LONG else None)

    def finish(self) -> Verdict | None:
        """See Detector."""
        return self._always_slow() if EPOCHS <= len(self.recent) < LONG else None

    def _always_slow(self) -> Verdict | None:
        ordered = np.sort([times.busy_s for times in self.recent], axis=0)
        shortest, short = ordered[0], ordered[len(ordered) // 4]
        found = outliers(short, self.recent[-1].rows, shortest, self.least, MIN_EXCESS_OF_SHORTEST_S)
        return self._verdict(set(found), list(self.recent))

    def not_judged(self) -> str:
        """See Detector."""
        if self.n_ranks < 2:
            return ""
        if len(self.recent) < EPOCHS:
            return self.too_few(EPOCHS)
        if self.unclear - self.reported and self.in_step:
            who = named_ranks(sorted(self.unclear))
            return f"the cores were busy: {who} computed longer, but the others hardly waited"
        if max(np.median(times.busy_s) for times in self.recent) < MIN_EXCESS_OF_SHORTEST_S:
            return "epochs too short: even a rank twice as slow would not stand out"
        return ""

    def _verdict(self, found: set[int], over: list[EpochTimes]) -> Verdict | None:
        """Report those of these ranks that have not been, with medians over these epochs, if the others waited."""
        facts, waits = {}, np.mean([times.wait_s for times in over], axis=0)
        rest = np.delete(waits, list(found | self.reported)) if found else waits
        others = float(rest.mean()) if len(rest) else 0.0
        enough = LOST * float(np.mean([times.run_s for times in over]))
        self.unclear = set()
        for rank in sorted(found - self.reported):
            each = [slowness(times.busy_s, times.rows, rank, float(times.busy_s[rank])) for times in over]
            z, slowdown, excess = np.median(each, axis=0).tolist()
            if slowdown < self.least[rank]:
                continue
            for_it = others - float(waits[rank])  # it comes last itself, and then waits for nobody
            if others >= enough and for_it >= WAITED * excess:
                facts[rank] = z, slowdown
            else:
                self.unclear.add(rank)
        if not facts:
            return None
        self.reported.update(facts)
        ranks, (zs, slowdowns) = list(facts), map(list, zip(*facts.values(), strict=True))
        own = float(waits[ranks].mean())
        of_ranks, many = [self.host_of.get(rank) for rank in ranks], len(ranks) > 1
        places = named_hosts(sorted({host or "an unknown host" for host in of_ranks}))
        first, last = over[0].epoch, over[-1].epoch
        evidence = {"hosts": of_ranks, "epochs": [first, last], "z": zs, "slowdown": slowdowns,
                    "wait_s": waits[ranks].tolist(), "others_wait_s": others}  # fmt: skip
        queued_s = [times.queued_s for times in over if times.queued_s is not None]
        if queued_s:
            evidence["queued_s"] = np.mean(queued_s, axis=0)[ranks].tolist()
        return Verdict(
            code=self.code,
            ranks=ranks,
            text=f"{named_ranks(ranks)} on {places} compute{'s' * (not many)} {'at least ' * many}"
            f"{min(slowdowns):.3g} times as long as the other ranks in epochs {first} to {last} (medians; robust z "
            f"{min(zs):.3g}); the others wait {others:.3g} s an epoch for the last rank, and {named_ranks(ranks)} "
            f"{own:.3g} s",
            remedy=self._remedy(ranks)
            + ", or give faster ranks more rows (--balance speed)" * self.can_balance
            + ", or wait for fewer ranks (--mode k-of-n)" * self.can_wait_for_fewer,
            evidence=evidence,
        )

    def _remedy(self, ranks: list[int]) -> str:
        """Return what can be done: a host is left out only if there are others and all its ranks are slow."""
        slow = [host for host in self.hosts if not set(ranks).isdisjoint(host.ranks)]
        names = named_hosts(host.name for host in slow)
        if len(slow) < len(self.hosts) and all(set(host.ranks) <= set(ranks) for host in slow):
            return f"look for other load, throttling or slow memory on {names}, or leave {names} out"
        crowded = next((host for host in slow if host.oversubscribed), None)
        if crowded:
            return f"start fewer ranks on {crowded.name}, {len(crowded.cores)} at most, or look for other load there"
        return f"look for other load on {names} (top), and give every rank a core of its own (mpirun -bind-to core)"
