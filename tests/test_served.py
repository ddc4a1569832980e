"""The parameter server: what it computes where nobody may be ahead, and that each row is used once everywhere."""

import numpy as np
import pytest

from common.config import OPTIMIZERS
from tests.ranks import SharedStart, epochs
from tests.test_modes import RANKS, same_parameters

COMMON = ["--dtype", "float64", "--hidden", "9", "5", "--batch-size", "10", "--weight-decay", "0.001", "--clip", "1.0",
          "--schedule", "warmup-cosine", "--test-fraction", "0", "--validation-fraction", "0.1", "--epochs", "2",
          "--learning-rate", "0.05"]  # fmt: skip
SOME = [n if n in (2, 3) else pytest.param(n, marks=pytest.mark.slow) for n in RANKS]
EXACT = {"async": ["--mode", "async", "--staleness", "0"], "k-of-n": ["--mode", "k-of-n", "--wait-for"]}


def exact(mode: str, n: int) -> list[str]:
    """Return the options with which a mode waits for all ranks in each update."""
    return [*EXACT[mode], *([str(n)] if mode == "k-of-n" else [])]


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> SharedStart:
    rng = np.random.default_rng(8)
    y = np.repeat([0, 1, 2], [37, 36, 36])
    data = tmp_path_factory.mktemp("data") / "rows.npz"
    np.savez(data, X=rng.standard_normal((109, 6)) + y[:, None], y=y)
    given = ["-m", "workers.run", "--data", str(data), *COMMON]
    jobs = {f"one-{o}": (1, [*given, "--optimizer", o]) for o in OPTIMIZERS}
    jobs["one-shard"] = (1, [*given, "--rows", "shard"])
    for n in RANKS:
        jobs |= {f"{mode}-{n}": (n, [*given, *exact(mode, n), "--optimizer", "momentum"]) for mode in EXACT}
        jobs[f"loose-{n}"] = (n, [*given, "--mode", "k-of-n"])
        jobs[f"async-loose-{n}"] = (n, [*given, "--mode", "async", "--staleness", "inf"])
    for o in OPTIMIZERS:
        jobs[f"async-{o}"] = (3, [*given, *exact("async", 3), "--optimizer", o])
    for mode in EXACT:
        jobs[f"shard-{mode}"] = (3, [*given, *exact(mode, 3), "--rows", "shard"])
    return SharedStart(tmp_path_factory.mktemp("served"), jobs)


@pytest.mark.parametrize("n", SOME)
@pytest.mark.parametrize("mode", EXACT)
def test_equals_one_rank_where_all_wait_for_all(batch: SharedStart, mode: str, n: int) -> None:
    run, oracle = batch.run(f"{mode}-{n}"), batch.run("one-momentum")
    same_parameters(run, oracle)
    assert [e["loss"] for e in epochs(run)] == pytest.approx([e["loss"] for e in epochs(oracle)], rel=1e-10)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_equals_one_rank(batch: SharedStart, optimizer: str) -> None:
    same_parameters(batch.run(f"async-{optimizer}"), batch.run(f"one-{optimizer}"))


@pytest.mark.parametrize("mode", EXACT)
def test_shards_equal_one_rank(batch: SharedStart, mode: str) -> None:
    same_parameters(batch.run(f"shard-{mode}"), batch.run("one-shard"))


@pytest.mark.parametrize("n", SOME)
@pytest.mark.parametrize("mode", ["loose", "async-loose"])
def test_each_row_is_used_once(batch: SharedStart, mode: str, n: int) -> None:
    for epoch in epochs(batch.run(f"{mode}-{n}")):
        assert sum(epoch["rows"]) == 97
        assert sum(epoch["update_share"]) == pytest.approx(1)
        assert sum(epoch["dropped"]) == 0
