"""What a training step takes on more ranks, predicted: work that goes with a rank's rows, and the sum of the packet.

Sums within a node and between nodes have a latency and a bandwidth each, fitted apart (docs/scaling.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ps.sync.mode import CostFormula


@dataclass(frozen=True, slots=True)
class Line:
    """Seconds of ``terms`` = terms[0] latency_s + terms[1] bytes s_per_byte."""

    latency_s: float = 0.0
    s_per_byte: float = 0.0

    def seconds(self, terms: tuple[float, float], n_bytes: float) -> float:
        """Return what so many messages and packets take."""
        return terms[0] * self.latency_s + terms[1] * n_bytes * self.s_per_byte


@dataclass(frozen=True, slots=True)
class Place:
    """Where ranks run: on ``nodes`` with equally many, unless ``largest`` and ``first`` are given.

    ``largest``: ranks of the largest node; ``first``: of that of rank 0. ``sharing`` ranks share ``cores``: the ranks
    of a node and its cores, unless several nodes are parts of one machine.
    """

    ranks: int
    nodes: int = 1
    cores: int = 0
    sharing: int = 0
    largest: int = 0
    first: int = 0

    @property
    def per_node(self) -> int:
        """Ranks of the largest node."""
        return self.largest or -(-self.ranks // self.nodes)

    @property
    def elsewhere(self) -> int:
        """Ranks that are not on rank 0's node."""
        return self.ranks - (self.first or self.ranks // self.nodes)

    @property
    def crowd(self) -> float:
        """How many ranks take turns on a core, at least 1; 1 if the cores are not given."""
        return max(1.0, (self.sharing or self.per_node) / self.cores) if self.cores else 1.0

    @property
    def waiting(self) -> int:
        """How many ranks have no core when all want one."""
        return max(0, (self.sharing or self.per_node) - self.cores) if self.cores else 0


@dataclass(frozen=True, slots=True)
class ModeCosts:
    """A mode's constants: ``inner`` within a node, ``network`` between nodes, ``turn_s`` for each rank without a core.

    The last is what a sum takes longer where ranks outnumber cores, since each must get a turn before it can end.
    """

    inner: Line = field(default_factory=Line)
    network: Line = field(default_factory=Line)
    turn_s: float = 0.0

    def sum_s(self, cost: CostFormula, place: Place, n_bytes: float) -> float:
        """Return the seconds of a sum. Between nodes the wire takes its time, whoever has a core."""
        messages, packets = cost.terms(place.per_node, 1) if place.per_node > 1 else (0.0, 0.0)
        inner = self.inner.seconds((messages, packets * place.crowd), n_bytes)
        between = self.network.seconds(cost.between(place.nodes, place.elsewhere), n_bytes)
        return inner + between + self.turn_s * place.waiting


@dataclass(frozen=True, slots=True)
class StepModel:
    """``fixed_s``, ``row_s``: a rank's own work in a step, and more for each of its rows; ``modes``: of their sums."""

    fixed_s: float
    row_s: float
    modes: Mapping[str, ModeCosts]

    def work_s(self, rows: float, place: Place) -> float:
        """Return the seconds of forward, backward and update of so many rows on each rank."""
        return (self.fixed_s + self.row_s * rows) * place.crowd

    def step_s(self, mode: str, cost: CostFormula, place: Place, rows: float, n_bytes: float) -> float:
        """Return the seconds of a step: work, then the sum; ``rows``: of a rank."""
        return self.work_s(rows, place) + self.modes[mode].sum_s(cost, place, n_bytes)

    def efficiency(
        self, mode: str, cost: CostFormula, place: Place, rows: float, n_bytes: float
    ) -> tuple[float, float]:
        """Return the efficiency of weak and of strong scaling at ``rows`` of a rank.

        Weak: a step of one rank with as many rows, over a step here. Strong: a step of one rank with all ranks' rows,
        over so many times a step here as there are ranks. One rank sums nothing and has a core.
        """
        alone, step = Place(1), self.step_s(mode, cost, place, rows, n_bytes)
        return self.work_s(rows, alone) / step, self.work_s(rows * place.ranks, alone) / (place.ranks * step)


def fit_work(seconds: Mapping[int, float]) -> tuple[float, float]:
    """Return ``fixed_s`` and ``row_s`` of one rank's step times by its rows: least squares of relative errors."""
    rows, times = np.array(list(seconds), float), np.array(list(seconds.values()))
    return _positive(np.stack([np.ones(len(rows)), rows], axis=1), times)


def fit_line(terms: tuple[float, float], seconds: Mapping[int, float]) -> Line:
    """Return the line through the times of sums by their bytes: least squares of relative errors, nothing below 0."""
    n_bytes, times = np.array(list(seconds), float), np.array(list(seconds.values()))
    if max(terms) <= 0:
        return Line()
    columns = np.stack([np.full(len(n_bytes), terms[0]), terms[1] * n_bytes], axis=1)
    return Line(*_positive(columns, times))


def _positive(columns: np.ndarray, times: np.ndarray) -> tuple[float, float]:
    """Return the two factors that are not below 0 of the columns that come closest to the times."""
    scale = np.maximum(columns.max(axis=0), np.finfo(float).tiny)
    a = columns / scale / times[:, None]
    best = np.linalg.lstsq(a, np.ones(len(times)), rcond=None)[0]
    if best.min() < 0:  # one of them is 0; the other is right for the longest time, which counts most
        kept, longest = int(best.argmax()), int(times.argmax())
        exact = 1 / a[longest, kept] if a[longest, kept] else 0.0
        best = np.where(np.arange(2) == kept, exact, 0.0)
    return float(best[0] / scale[0]), float(best[1] / scale[1])
