"""Sums of vectors of every length asked for, by every mode."""

from typing import Any

from ps.nodes import Nodes
from workers.bench.options import BenchConfig
from workers.measure.vectors import Task, one_size
from workers.signals import StopFlag


def measure(nodes: Nodes, bench: BenchConfig, stop: StopFlag) -> dict[str, Any]:
    """Sum vectors of every length. Collective."""
    task = Task(bench.chosen, bench.dtype, bench.rounds, bench.steps)
    return {"sizes": [one_size(nodes, task, n, stop) for n in bench.vector_sizes]}
