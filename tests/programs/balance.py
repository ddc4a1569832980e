"""Compares the record ``balance`` with what NumPy says of the rows each rank takes; to be started with mpirun."""

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from common.config import RunConfig
from common.data.dataset import Dataset, Raw, check
from common.data.sampler import RowSampler
from common.data.training_features import scale_alone
from ps.comm.collectives import bcast
from ps.findings.row_balance import measure
from ps.logfile.records import Record

comm = MPI.COMM_WORLD
rng = np.random.default_rng(5)


def measured(x: NDArray[np.float64], y: NDArray[np.generic], kind: str, batch: int = 16) -> tuple[Dataset, Record]:
    config = RunConfig(test_fraction=0.1, validation_fraction=0.1, dtype="float64")
    data = check(Raw("made up", x, y), config)
    scale_alone(data, "float64", standardize=False)
    return data, bcast(comm, measure(comm, data, RowSampler(len(data.train), batch, 7, kind, comm.size)))


def rows_of(data: Dataset, rank: int, kind: str, batch: int = 16) -> NDArray[np.int64]:
    return data.train[RowSampler(len(data.train), batch, 7, kind, comm.size).order(1, rank)]


def close(got: object, expected: object) -> None:
    np.testing.assert_allclose(np.array(got, float), np.array(expected, float), rtol=1e-7, atol=1e-7)


for kind, of in (("shard", "shard"), ("shuffle", "first epoch")):
    # far from 0 with a column that does not vary
    x = np.concatenate([rng.standard_normal((301, 4)) * [1, 10, 0.1, 3] + 1e6, np.full((301, 1), 7.3)], axis=1)
    y = rng.standard_normal((301, 2)) * [1, 50] + np.linspace(0, 3, 301)[:, None]
    data, record = measured(x, y, kind)
    every = [rows_of(data, rank, kind) for rank in range(comm.size)]
    assert record["of"] == of
    assert record["labels"] is record["label_distance"] is record["label_z"] is None
    assert record["rows"] == [len(rows) for rows in every]
    assert sum(record["rows"]) == len(data.train)
    close(record["target_mean"], [data.y[rows].mean(axis=0) for rows in every])
    close(record["target_variance"], [data.y[rows].var(axis=0) for rows in every])
    close(record["feature_mean"], [data.x[rows].mean(axis=0) for rows in every])
    whole = data.y[data.train]
    apart = np.array([(data.y[rows].mean(axis=0) - whole.mean(axis=0)) / whole.std(axis=0) for rows in every])
    close(record["target_distance"], np.sqrt(np.square(apart).mean(axis=1)))
    close(record["target_z"], np.abs(apart).max(axis=1) * np.sqrt(record["rows"]))
    varying = data.x[:, :4]
    apart = np.array([(varying[rows].mean(axis=0) - varying[data.train].mean(axis=0)) for rows in every])
    apart = np.concatenate([apart / varying[data.train].std(axis=0), np.zeros((comm.size, 1))], axis=1)
    close(record["feature_distance"], np.sqrt(np.square(apart).mean(axis=1)))

    data, record = measured(x, rng.integers(0, 6, 301), kind)
    counts = np.array([np.bincount(data.y[rows_of(data, rank, kind)], minlength=6) for rank in range(comm.size)])
    assert record["labels"] == counts.tolist()
    assert record["target_mean"] is record["target_distance"] is None
    shares = counts / counts.sum(axis=1, keepdims=True)
    close(record["label_distance"], 0.5 * np.abs(shares - counts.sum(axis=0) / counts.sum()).sum(axis=1))

# a batch of fewer rows than ranks leaves the last one without any
data, record = measured(rng.standard_normal((60, 2)), rng.standard_normal(60), "shuffle", comm.size - 1)
assert record["rows"][-1] == 0 < min(record["rows"][:-1])
for name in ("target_mean", "target_variance", "target_distance", "target_z", "feature_mean", "feature_distance"):
    assert record[name][-1] is None, name
    assert None not in record[name][:-1], name
data, record = measured(rng.standard_normal((60, 2)), rng.integers(0, 3, 60), "shuffle", comm.size - 1)
assert record["labels"][-1] == [0, 0, 0]
assert record["label_distance"][-1] is record["label_z"][-1] is None

# wide data: distances only; numbers whose squares leave float64: nil
wide = rng.standard_normal((20, 40_000))
data, record = measured(wide, rng.integers(0, 2, 20), "shard")
assert record["feature_mean"] is None
assert all(distance > 0 for distance in record["feature_distance"])
data, record = measured(rng.standard_normal((60, 1)), rng.standard_normal((60, 1)) * 1e200, "shard")
assert record["target_distance"] is record["target_z"] is None
assert {value for row in record["target_variance"] for value in row} == {None}

if comm.rank == 0:
    print("ok")
