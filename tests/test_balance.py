"""How rows are spread over the ranks: counted right, said when it is not by chance, not said when it is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.data.sampler import RowSampler
from ps.findings.row_balance import label_z
from ps.findings.skewed_labels import skewed_labels
from ps.findings.skewed_targets import skewed_targets
from ps.logfile.records import Record
from tests.ranks import Result, program, records

Job = Callable[..., Result]
Counts = np.ndarray[Any, np.dtype[np.int64]]


def of_labels(labels: Counts, shards: list[Counts]) -> Record:
    """Return the fields of ``balance`` that the finding reads, for ranks with these rows of ``labels``."""
    counts = [np.bincount(labels[rows], minlength=int(labels.max()) + 1) for rows in shards]
    whole = np.sum(counts, axis=0)
    distances = [float(np.abs(own / max(own.sum(), 1) - whole / whole.sum()).sum() / 2) for own in counts]
    return {
        "rows": [int(own.sum()) for own in counts],
        "label_z": [label_z(own, whole) for own in counts],
        "label_distance": distances,
    }


def test_the_record_says_what_numpy_says() -> None:
    assert program(3, "balance.py").out == "ok\n"


@pytest.mark.parametrize(
    "shares",
    [[0.5, 0.5], [0.1] * 10, [0.97, 0.01, 0.01, 0.01], [1 / (k + 1) for k in range(300)], [0.001] * 1000],
    ids=["two", "ten", "uneven", "zipf", "thousand"],
)
@pytest.mark.parametrize("ranks", [2, 16, 64])
def test_rows_in_random_order_are_never_called_skewed(shares: list[float], ranks: int) -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        n = int(rng.choice([20, 100, 1000])) * ranks
        labels = rng.choice(len(shares), n, p=np.array(shares) / sum(shares))
        shards = [RowSampler(n, 16, 0, "shard", ranks).order(1, rank) for rank in range(ranks)]
        assert skewed_labels(of_labels(labels, shards)) is None


def test_deviation_from_chance_is_a_normal_deviate() -> None:
    """Against a thousand samples drawn with the same shares."""
    rng, share = np.random.default_rng(0), np.array([0.4, 0.3, 0.2, 0.1])
    whole = (share * 10**9).astype(np.int64)
    z = [label_z(own, whole) or 0.0 for own in rng.multinomial(500, share, 1000)]
    assert np.mean(z) == pytest.approx(0, abs=0.15)
    assert np.std(z) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("ranks", [2, 4, 32])
def test_sorted_labels_are_skewed(ranks: int) -> None:
    labels = np.sort(np.random.default_rng(1).integers(0, 10, 60 * ranks))
    shards = [RowSampler(len(labels), 16, 0, "shard", ranks).order(1, rank) for rank in range(ranks)]
    found = skewed_labels(of_labels(labels, shards))
    assert found
    assert (found.code, found.severity, found.ranks) == ("skewed-labels", "warning", list(range(ranks)))
    assert min(found.evidence["label_distance"]) > 0.4
    assert "--rows shuffle" in found.remedy


def test_rows_dealt_in_turn_are_not_told_to_shuffle_as_they_do_already() -> None:
    """One step an epoch leaves the rows in their order, so that labels in turn each go to one rank."""
    labels = np.tile([0, 1], 100)
    balance = of_labels(labels, [RowSampler(len(labels), 0, 0, "shuffle", 2).order(1, rank) for rank in range(2)])
    found = skewed_labels({**balance, "of": "first epoch"})
    assert found
    assert "--rows" not in found.remedy
    assert "shuffle the rows in the file" in found.remedy


def test_the_skewed_rank_is_named() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 400)
    labels[100:200] = 2
    shards = [np.arange(100 * rank, 100 * rank + 100) for rank in range(4)]
    found = skewed_labels(of_labels(labels, shards))
    assert found
    assert found.ranks == [1]
    assert found.text.startswith("the labels of rank 1 are not a random sample of all: on rank 1 48 % of the rows")


def test_one_class_or_no_rows_say_nothing() -> None:
    assert label_z(np.array([5, 0]), np.array([10, 0])) == 0
    assert label_z(np.array([0, 0]), np.array([10, 7])) is None
    nobody = {"rows": [3, 0], "label_z": [0.1, None], "label_distance": [0.2, None]}
    assert skewed_labels(nobody) is None
    assert skewed_targets({**nobody, "target_z": None, "target_distance": None}) is None


@pytest.mark.parametrize(
    ("z", "distance", "said"), [(20.0, 0.5, [1]), (5.9, 0.5, []), (20.0, 0.2, []), (None, None, [])]
)
def test_skewed_targets(z: float | None, distance: float | None, said: list[int]) -> None:
    found = skewed_targets({"rows": [9] * 4, "target_z": [1.0, z, 0, 0], "target_distance": [0.1, distance, 0, 0]})
    assert (found.ranks if found else []) == said
    if found:
        assert (found.code, found.severity) == ("skewed-targets", "warning")
        assert "on rank 1 is 0.5 deviations off" in found.text


def test_one_wild_row_is_no_skew() -> None:
    ranks, n = 100, 1000
    y = np.random.default_rng(0).standard_normal(n)
    y[17] = 1e9
    means = y.reshape(ranks, -1).mean(axis=1)
    distance = np.abs(means - y.mean()) / y.std()
    record = {
        "rows": [n // ranks] * ranks,
        "target_z": (distance * np.sqrt(n / ranks)).tolist(),
        "target_distance": distance.tolist(),
    }
    assert max(record["target_z"]) > 6
    assert skewed_targets(record) is None


def findings(run: Path) -> list[str]:
    """Return the kinds and codes of the records before the first epoch, without what this machine's cores give."""
    start = [r for r in records(run) if r["seq"] < next(r["seq"] for r in records(run) if r["kind"] == "epoch")]
    return [str(r.get("code", r["kind"])) for r in start if r.get("code") != "more-ranks-than-cores"]


def test_skewed_labels_are_named_before_training(job: Job, tmp_path: Path) -> None:
    result = job(4, "--inject", "skew", "--epochs", "1", "--hidden", "4")
    assert result.code == 0, result.err
    assert [f for f in findings(tmp_path / "run") if f != "event"] == ["header", "balance", "skewed-labels"]
    assert result.out.index("The labels of ranks 0-3 are not a random sample") < result.out.index("Epoch 1/1")
    balance = next(r for r in records(tmp_path / "run") if r["kind"] == "balance")
    assert balance["of"] == "shard"
    assert min(balance["label_distance"]) > 0.5
    assert np.sum(balance["labels"], axis=1).tolist() == balance["rows"]


@pytest.mark.parametrize("in_order", [False, True])
def test_skewed_targets_are_named_before_training(job: Job, tmp_path: Path, in_order: bool) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, 3))
    order = np.argsort(x[:, 0]) if in_order else np.arange(500)
    np.savez(tmp_path / "d.npz", X=x[order], y=(x @ [3.0, 1.0, -1.0])[order])
    assert job(2, "--data", "d.npz", "--rows", "shard", "--model", "linear", "--epochs", "1").code == 0
    assert findings(tmp_path / "run") == ["header", "balance", *(["skewed-targets"] if in_order else [])]
    balance = next(r for r in records(tmp_path / "run") if r["kind"] == "balance")
    assert np.array(balance["feature_mean"]).shape == (2, 3)
    assert (balance["feature_distance"][0] > 0.3) == in_order


@pytest.mark.parametrize("ranks", [2, 4])
def test_sorted_rows_are_told_from_other_relations(ranks: int) -> None:
    assert program(ranks, "targets.py").out == "ok\n"


@pytest.mark.parametrize("targets", [1, 2])
def test_rows_that_are_sorted_by_a_noisy_target_are_called_skewed(job: Job, tmp_path: Path, targets: int) -> None:
    """Each shard's own fit is better than the one for all, since it sees part of the range; the relation is one."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((800, 3))
    y = np.stack([x @ [3.0, 1.0, -1.0], x @ [0.0, 1.0, 1.0]], axis=1)[:, :targets] + rng.standard_normal((800, targets))
    order = np.argsort(y[:, -1])
    np.savez(tmp_path / "d.npz", X=x[order], y=y[order])
    assert job(4, "--data", "d.npz", "--rows", "shard", "--model", "linear", "--epochs", "1").code == 0
    assert findings(tmp_path / "run") == ["header", "balance", "skewed-targets"]


def test_sorted_data_are_dealt_evenly_when_shuffled(job: Job, tmp_path: Path) -> None:
    y = np.sort(np.random.default_rng(0).integers(0, 5, 600))
    np.savez(tmp_path / "d.npz", X=y[:, None] + np.random.default_rng(1).standard_normal((600, 4)), y=y)
    assert job(2, "--data", "d.npz", "--epochs", "1", "--hidden", "4").code == 0
    assert findings(tmp_path / "run") == ["header", "balance"]
    assert next(r for r in records(tmp_path / "run") if r["kind"] == "balance")["of"] == "first epoch"
