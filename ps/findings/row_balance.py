"""How the training rows are spread over the ranks, counted once before training."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from mpi4py import MPI

from common.data.dataset import CONSTANT, PART_NUMBERS, Dataset, Rows
from common.data.sampler import RowSampler
from common.flat import Array
from ps.comm.collectives import allgather
from ps.logfile.records import Record

MOST_NUMBERS = 1 << 16
"""Labels and means that a record holds over all ranks; beyond, it has the distances only."""
FIELDS = (
    "rows",
    "labels",
    "label_z",
    "label_distance",
    "target_mean",
    "target_variance",
    "target_z",
    "target_distance",
    "feature_mean",
    "feature_distance",
)
"""By rank in the record; nil as a whole where there is nothing of the kind, or too much."""


def measure(comm: MPI.Comm, data: Dataset, sampler: RowSampler) -> Record:
    """Return the fields of the record ``balance``, the same on every rank. Collective.

    A rank looks at its own rows only, twice; those it is dealt in the first epoch, which are its fixed ones with
    ``--rows shard``. Distances of a rank without rows are nil, and so are numbers beyond float64.
    """
    rows = data.train[sampler.order(1, comm.rank)]
    of_classes = data.n_classes > 0
    own = {"rows": len(rows), **(_labels if of_classes else _targets)(comm, data, rows), **_features(comm, data, rows)}
    table = allgather(comm, own)
    record: Record = {"of": "shard" if sampler.kind == "shard" else "first epoch"}
    for name in FIELDS:
        column = [part.get(name) for part in table]
        record[name] = None if column.count(None) == len(column) else column
    return record


def _labels(comm: MPI.Comm, data: Dataset, rows: Rows) -> dict[str, Any]:
    own = np.bincount(data.y[rows], minlength=data.n_classes)
    whole = np.empty_like(own)
    comm.Allreduce(own, whole)
    distance = 0.5 * float(np.abs(own / len(rows) - whole / whole.sum()).sum()) if len(rows) else None
    small = comm.size * data.n_classes <= MOST_NUMBERS
    return {"labels": own.tolist() if small else None, "label_z": label_z(own, whole), "label_distance": distance}


def label_z(own: Rows, whole: Rows) -> float | None:
    """Return in standard deviations how far the labels of a rank are from what chance deals it; None without rows.

    ``own``, ``whole``: (classes,), rows of the rank and of all ranks. Chi-square of ``own`` against the shares of
    ``whole``, brought to a normal deviate by its cube root (Wilson & Hilferty 1931, PNAS 17). Rare classes make the
    statistic vary more than chi-square does (Haldane 1937, Biometrika 29), so its degrees of freedom are those of a
    chi-square with the same ratio of variance to squared mean.
    """
    n, there = int(own.sum()), whole > 0
    freedom = int(there.sum()) - 1
    if n == 0 or freedom < 1:
        return None if n == 0 else 0.0
    share = whole[there] / whole.sum()
    chi_square = float((np.square(own[there] - n * share) / (n * share)).sum())
    rare = (float((1 / share).sum()) - (freedom + 1) ** 2 - 2 * freedom) / n
    freedom_of_ratio = 2 * freedom**2 / max(2 * freedom + rare, 2 * freedom)
    spread = 2 / (9 * freedom_of_ratio)
    return float((np.cbrt(chi_square / freedom) - (1 - spread)) / math.sqrt(spread))


def _targets(comm: MPI.Comm, data: Dataset, rows: Rows) -> dict[str, Any]:
    with np.errstate(all="ignore"):
        mean, variance, apart, root_n = _moments(comm, data.y, rows)
    if not len(rows):
        return dict.fromkeys(("target_mean", "target_variance", "target_z", "target_distance"))
    small = comm.size * data.n_targets <= MOST_NUMBERS
    return {
        "target_mean": _numbers(mean) if small else None,
        "target_variance": _numbers(variance) if small else None,
        "target_z": _number(np.abs(apart).max() * root_n),
        "target_distance": _number(_root_mean_square(apart)),
    }


def _features(comm: MPI.Comm, data: Dataset, rows: Rows) -> dict[str, Any]:
    with np.errstate(all="ignore"):
        mean, _, apart, _ = _moments(comm, data.x, rows)
    if not len(rows):
        return dict.fromkeys(("feature_mean", "feature_distance"))
    small = comm.size * data.x.shape[1] <= MOST_NUMBERS
    return {
        "feature_mean": _numbers(mean) if small else None,
        "feature_distance": _number(_root_mean_square(apart)),
    }


def _moments(comm: MPI.Comm, values: Array, rows: Rows) -> tuple[Array, Array, Array, float]:
    """Return by column this rank's mean, variance, and distance of its mean in deviations of all ranks' rows; root n.

    ``values``: (n, columns). In float64 and in two passes, so that values far from 0 keep their digits; a column that
    does not vary has distance 0, one whose deviation is beyond float64 NaN. Collective.
    """
    columns, n = values.shape[1], max(len(rows), 1)
    sums = np.zeros(columns + 1)
    sums[-1] = len(rows)
    for part in _parts(values, rows):
        sums[:-1] += part.sum(axis=0)
    own = sums[:-1] / n
    comm.Allreduce(MPI.IN_PLACE, sums)
    mean = sums[:-1] / sums[-1]
    squares = np.zeros(columns)
    for part in _parts(values, rows):
        squares += np.square(part - mean).sum(axis=0)
    variance = squares / n - np.square(own - mean)
    comm.Allreduce(MPI.IN_PLACE, squares)
    deviation = np.sqrt(squares / sums[-1])
    deviation[~np.isfinite(deviation)] = np.nan
    constant = deviation <= CONSTANT * np.abs(mean)
    apart = np.divide(own - mean, deviation, out=np.zeros(columns), where=~constant)
    return own, np.maximum(variance, 0), apart, math.sqrt(n)


def _parts(values: Array, rows: Rows) -> Iterator[Array]:
    """Yield the rows in float64, so many at a time that the copy stays at 8 MiB."""
    step = max(1, PART_NUMBERS // values.shape[1])
    return (values[rows[start : start + step]].astype(np.float64) for start in range(0, len(rows), step))


def _root_mean_square(values: Array) -> float:
    return float(np.sqrt(np.square(values).mean()))


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _numbers(values: Array) -> list[float | None]:
    return [_number(value) for value in values.tolist()]
