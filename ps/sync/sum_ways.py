"""Ways to sum a vector over ranks of several nodes, and which one a job takes: all are measured on its own packet."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

import numpy as np
from mpi4py import MPI

from common.errors import EXIT_USAGE, JobError
from ps.comm.topology import Topology
from ps.sync.wire import ALGORITHMS, LIBRARY, RABENSEIFNER, RING, known_everywhere

AUTO = "auto"
Streams = Literal["ranks", "one", "all"]
PREFIX: dict[Streams, str] = {"ranks": "", "one": "node-one-", "all": "node-all-"}
MEASURE_S = 0.3
"""Seconds of all candidates together, besides one to three sums by each."""
MOST_SUMS = 20
LONG_S = 0.5
"""From so long a sum on, what else the first one takes does not matter."""
HOPELESS = 4
"""Times the least time of the ways before: then a way is not tried again."""
FIRST_BYTES, MORE, MOST_BYTES, ENOUGH_S = 4 << 20, 4, 16 << 20, 0.25
"""Of a packet, what is summed to measure: at first so much, and four times as much again while the first way takes less
than ``ENOUGH_S``, up to all, or the most. Whole packets would take minutes on a slow network, and of less an algorithm
may be chosen that is slow for more."""
CLEARLY = 0.9
"""A later candidate is taken if its time is at most so much of an earlier one's: equal ones do not take turns."""


@dataclass(frozen=True, slots=True)
class Way:
    """Who sends to other nodes, and by which algorithm of ``wire.ALGORITHMS``.

    ``streams``: ``ranks``, each by itself, as if there were no nodes; or ranks of a node add in shared memory, and its
    first rank carries all of the sums (``one``) or each rank those of its slice (``all``).
    """

    streams: Streams
    algorithm: str

    @property
    def name(self) -> str:
        """What ``--sum-algorithm`` and the log call it."""
        return PREFIX[self.streams] + self.algorithm


WAYS = {way.name: way for way in (Way(streams, algorithm) for streams in PREFIX for algorithm in ALGORITHMS)}
"""A new way is a line here, or an algorithm in ``wire.py``."""


def has_effect(wanted: str, algorithms: Sequence[str]) -> bool:
    """Say whether a mode with these algorithms can take the way that is ``wanted``, or has nothing to do for it."""
    return wanted == AUTO or WAYS[wanted].algorithm in algorithms


class Summing(Protocol):
    """Something that sums the packet in one way. Making and closing it are collective."""

    def sum(self) -> None:
        """Sum once, on all ranks."""

    def close(self) -> None:
        """Give back what it holds."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The way to take, whether there was a ``choice``, and what was measured to find it.

    ``measured``: the ways that were tried, fastest first: ``way``, how many ``sums``, ``least_s`` of them on the
    slowest rank; None if nothing had to be found out.
    """

    way: Way
    choice: bool
    measured: list[dict[str, Any]] | None = None

    def facts(self) -> dict[str, Any] | None:
        """Return what the log says of it; nothing where the library sums as it does by itself on one node."""
        if not self.choice:
            return None
        return {"way": self.way.name, "measured": self.measured}


def possible(
    topology: Topology, *, in_memory: bool, apart: bool, wanted: str = AUTO, algorithms: Sequence[str] = ALGORITHMS
) -> list[Way]:
    """Return the ways that all ranks have, those that need not be beaten clearly first; one alone if nothing differs.

    On one node the library is asked for its algorithms only if one is ``wanted``. ``in_memory``: whether ranks of a
    node can add in shared memory; ``apart``: whether they can do without it; ``algorithms``: the mode's. Collective.
    """
    known = [LIBRARY]
    if len(algorithms) > 1 and (topology.count > 1 or wanted != AUTO):
        known = [name for name in known_everywhere(topology.comm) if name in algorithms]
    if topology.largest == 1:
        return [Way("ranks", name) for name in known]
    found = [Way("ranks", LIBRARY)] if apart else []
    if in_memory:
        found += [Way("all", name) for name in known]
        found += [Way("one", name) for name in known if topology.count > 1]
    return found + [Way("ranks", name) for name in known if apart and name != LIBRARY]


def choose(
    topology: Topology,
    wanted: str,
    ways: Sequence[Way],
    make: Callable[[Way, int], Summing],
    *,
    kind: str,
    n_bytes: int,
    kept: str = "",
    measure: bool = True,
    tick: Callable[[], object] = lambda: None,
) -> Chosen:
    """Return the way that is wanted, or for ``auto`` the fastest of ``ways``. Collective; raises JobError.

    Among nodes that are pretended, on a single one, and without ``measure``, it is the first: there is no network to
    measure. What was found for a ``kind`` of packet among these ranks is taken again for the next one of that kind.
    ``make``: of a way and how many of the packet's ``n_bytes`` are summed at most. ``kept``: of the run that is
    resumed, whose sums must be added in the same order, if this is possible. ``tick`` is called after each sum.
    """
    names = {way.name: way for way in ways}
    if wanted == AUTO and kept in names:
        return Chosen(names[kept], choice=True)
    if wanted != AUTO:
        same = (Way(streams, WAYS[wanted].algorithm).name for streams in _equal(topology, WAYS[wanted].streams, ways))
        way = next((names[name] for name in same if name in names), None)
        if way is None:
            raise JobError(
                f"sum_algorithm: {wanted} is not possible here, with this mode, MPI library and ranks on nodes; "
                f"choose one of {AUTO}, {', '.join(names)}",
                EXIT_USAGE,
            )
        return Chosen(way, choice=topology.count > 1 or way.name != LIBRARY)
    if len(ways) == 1 or topology.count == 1 or topology.pretended or not measure:
        return Chosen(ways[0], choice=topology.count > 1)
    if kind not in topology.chosen:
        topology.chosen[kind] = _fastest(topology.comm, worth_trying(topology, ways), make, n_bytes, tick)
    found: Chosen = topology.chosen[kind]
    return found


def _equal(topology: Topology, streams: Streams, ways: Sequence[Way]) -> tuple[Streams, ...]:
    """Return who may send instead of ``streams``, since it is the same here, so that options hold on any nodes."""
    if topology.largest == 1:
        return streams, "ranks"
    return (streams, "all") if topology.count == 1 or not any(way.streams == "ranks" for way in ways) else (streams,)


def worth_trying(topology: Topology, ways: Sequence[Way]) -> list[Way]:
    """Return those of the ways that may be faster than others: algorithms differ among three and more.

    Rabenseifner's exchanges halves with partners that are far apart, which other nodes share their links with.
    """
    return [
        way
        for way in ways
        if way.algorithm == LIBRARY
        or (way.algorithm == RING and (topology.count > 2 or way.streams == "ranks"))
        or (way.algorithm == RABENSEIFNER and topology.count > 2 and topology.largest == 1)
    ]


def _fastest(
    comm: MPI.Intracomm,
    ways: Sequence[Way],
    make: Callable[[Way, int], Summing],
    n_bytes: int,
    tick: Callable[[], object],
) -> Chosen:
    """Measure each way; all ranks see the same times, those of the slowest."""
    _open_connections(comm)
    most_bytes = _enough(comm, partial(make, ways[0]), n_bytes, tick)
    seconds: dict[Way, list[float]] = {}
    for way in ways:
        most = HOPELESS * min(map(min, seconds.values()), default=math.inf)
        seconds[way] = _measure(comm, make(way, most_bytes), MEASURE_S / len(ways), most, tick)
    least = {way: min(times) for way, times in seconds.items()}  # other load only adds
    best = ways[0]
    for way in ways[1:]:
        if least[way] <= CLEARLY * least[best]:
            best = way
    ordered = sorted(ways, key=least.__getitem__)
    measured = [{"way": way.name, "sums": len(seconds[way]), "least_s": least[way]} for way in ordered]
    return Chosen(best, choice=True, measured=measured)


def _open_connections(comm: MPI.Comm) -> None:
    """Let each rank talk to those 1, 2, 4, ... away, as all algorithms do: what that takes is no cost of a sum."""
    sent, got, distance = np.zeros(1), np.zeros(1), 1
    while distance < comm.size:
        comm.Sendrecv(sent, (comm.rank + distance) % comm.size, 0, got, (comm.rank - distance) % comm.size)
        distance *= 2


def _enough(comm: MPI.Intracomm, make: Callable[[int], Summing], n_bytes: int, tick: Callable[[], object]) -> int:
    """Return of how many bytes a sum takes long enough to be measured."""
    most_bytes = FIRST_BYTES
    while most_bytes < min(n_bytes, MOST_BYTES):
        summing = make(most_bytes)
        seconds = _once(comm, summing)
        summing.close()
        tick()
        if seconds >= ENOUGH_S:
            break
        most_bytes *= MORE
    return min(most_bytes, MOST_BYTES)


def _once(comm: MPI.Intracomm, summing: Summing) -> float:
    """Sum once, all ranks at the same time; return the seconds of the slowest."""
    slowest = np.zeros(1)
    comm.Barrier()
    begin = time.perf_counter()
    summing.sum()
    slowest[0] = time.perf_counter() - begin
    comm.Allreduce(MPI.IN_PLACE, slowest, MPI.MAX)
    return float(slowest[0])


def _measure(
    comm: MPI.Intracomm, summing: Summing, budget_s: float, most_s: float, tick: Callable[[], object]
) -> list[float]:
    """Return the seconds of each sum on the slowest rank: as many as fit in a time, and at least three.

    The first takes longer, since it takes memory for messages: of short sums many times as long, which says nothing of
    the others. Long ones, and where it takes more than ``most_s`` and than the time for all, are done once.
    """

    def once() -> float:
        seconds = _once(comm, summing)
        tick()
        return seconds

    times = [once()]
    if times[0] < min(LONG_S, max(most_s, budget_s)):
        times += [once() for _ in range(max(2, min(MOST_SUMS, int(budget_s / max(times[0], 1e-6)))))]
    summing.close()
    return times
