"""How the training rows are spread over the ranks: the record ``balance``, measured once before training."""

import math
from typing import Any

import numpy as np
from mpi4py import MPI

from common.data.dataset import Dataset
from common.data.features import Features
from common.data.sampler import RowSampler
from common.data.scaling import Rows, is_constant, row_blocks
from common.data.stacked import Matrix
from common.data.whole_numbers import counted
from ps.comm.collectives import gather
from ps.logfile.records import Record
from ps.metrics.epoch_metrics import plain

MOST_NUMBERS = 1 << 16
"""Labels and means that a record holds over all ranks; beyond, it has the distances only."""
FIELDS = (
    "rows", "labels", "label_z", "label_distance", "target_mean", "target_variance", "target_z", "target_distance",
    "feature_mean", "feature_distance",
)  # fmt: skip
"""By rank in the record; nil as a whole where there is nothing of the kind, or too much."""


def measure(comm: MPI.Comm, data: Dataset, sampler: RowSampler) -> Record:
    """Return the fields of the record ``balance``, at rank 0; the others return none. Collective.

    A rank looks at its own rows only; those of its first epoch, which are its fixed ones with ``--rows shard``.
    Distances of a rank without rows are nil, and so are numbers beyond float64.
    """
    rows = data.train[sampler.order(1, comm.rank)]
    target = _labels(comm, data, rows) if data.n_classes else _in_unit(_moments(comm, "target", data.y, rows), data)
    own = {"rows": len(rows), **target, **_moments(comm, "feature", data.x, rows)}
    table = gather(comm, [own.get(name) for name in FIELDS])
    if comm.rank:
        return {}
    record: Record = {"of": "shard" if sampler.kind == "shard" else "first epoch"}
    for name, column in zip(FIELDS, zip(*table, strict=True), strict=True):
        record[name] = None if column.count(None) == len(column) else list(column)
    return record


def _in_unit(target: dict[str, Any], data: Dataset) -> dict[str, Any]:
    """Return the moments of a standardised target in its own unit; z and distances have none."""
    if "target_mean" not in target or not len(data.target_scale):
        return target
    mean, variance = (np.array(target[f"target_{name}"], np.float64) for name in ("mean", "variance"))
    scale = data.target_scale
    with np.errstate(all="ignore"):
        in_unit = mean * scale + data.target_mean, variance * np.square(scale)
    return {**target, "target_mean": plain(in_unit[0]), "target_variance": plain(in_unit[1])}


def _labels(comm: MPI.Comm, data: Dataset, rows: Rows) -> dict[str, Any]:
    own = counted(data.y, data.n_classes, rows)
    whole = np.empty_like(own)
    comm.Allreduce(own, whole)
    labels = own.tolist() if comm.size * data.n_classes <= MOST_NUMBERS else None
    distance = 0.5 * float(np.abs(own / len(rows) - whole / whole.sum()).sum()) if len(rows) else None
    return {"labels": labels, "label_z": label_z(own, whole), "label_distance": distance}


def label_z(own: Rows, whole: Rows) -> float | None:
    """Return how many standard deviations a rank's labels are from what chance gives; None without rows.

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


def _moments(comm: MPI.Comm, of: str, values: Matrix | Features, rows: Rows) -> dict[str, Any]:
    """Return by column this rank's mean and variance; z and distance of its mean from the mean of all ranks' rows.

    ``values``: (n, columns). In float64 and around the mean of each block (Chan et al. 1983), so that values far from 0
    keep their digits, in one pass in the order of the file; distances are in deviations of
    all ranks' rows: 0 for a column that does not vary, nil for one whose deviation is beyond float64. Collective.
    """
    columns, n = values.shape[1], max(len(rows), 1)
    own, squares, sums, rows = np.zeros(columns), np.zeros(columns), np.zeros(columns + 1), np.sort(rows)
    with np.errstate(all="ignore"):
        sums[-1] = len(rows)
        for block in row_blocks(len(rows), columns):
            some = values[rows[block]].astype(np.float64)
            middle, done = some.mean(axis=0), block.start + len(some)
            squares += np.square(some - middle).sum(axis=0)
            squares += np.square(middle - own) * (block.start * len(some) / done)
            own += (middle - own) * (len(some) / done)
        sums[:-1] = own * len(rows)
        comm.Allreduce(MPI.IN_PLACE, sums)
        mean = sums[:-1] / sums[-1]
        variance = squares / n
        squares += np.square(own - mean) * len(rows)
        comm.Allreduce(MPI.IN_PLACE, squares)
        deviation = np.sqrt(squares / sums[-1])
        deviation[~np.isfinite(deviation)] = np.nan
        apart = np.divide(own - mean, deviation, out=np.zeros(columns), where=~is_constant(deviation, mean))
        z, distance = plain(np.array([np.abs(apart).max() * math.sqrt(n), np.sqrt(np.square(apart).mean())]))
    if not len(rows):
        return {}
    numbers = {f"{of}_z": z, f"{of}_distance": distance}
    if comm.size * columns <= MOST_NUMBERS:
        numbers |= {f"{of}_mean": plain(own), f"{of}_variance": plain(variance)}
    return numbers
