"""Every mode on every number of ranks gives the result of one rank."""

from pathlib import Path

import numpy as np
import pytest

from common.config import RunConfig
from ps.modes import MODES
from tests.ranks import mpirun, program, records

RANKS = (1, 2, 3, 4, 7)
# 97 rows to train: a prime, so that no number of ranks and no batch divides them
ORACLE = ["--dtype", "float64", "--epochs", "2", "--hidden", "9", "5", "--batch-size", "10", "--optimizer", "momentum",
          "--learning-rate", "0.05", "--weight-decay", "0.001", "--clip", "1.0", "--schedule", "warmup-cosine",
          "--test-fraction", "0", "--validation-fraction", "0.1"]  # fmt: skip


def parameters(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "model.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """109 rows in three classes; 12 of them validate."""
    rng = np.random.default_rng(8)
    y = np.repeat([0, 1, 2], [37, 36, 36])
    path = tmp_path_factory.mktemp("data") / "rows.npz"
    np.savez(path, X=rng.standard_normal((109, 6)) + y[:, None], y=y)
    return str(path)


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory, data: str) -> Path:
    """The run of one rank."""
    folder = tmp_path_factory.mktemp("oracle") / "run"
    result = mpirun(1, "-m", "workers.run", "--data", data, "--output", str(folder), *ORACLE)
    assert result.code == 0, result.err
    assert records(folder)[0]["data"]["rows"]["train"] == 97
    return folder


@pytest.mark.parametrize("n", RANKS)
@pytest.mark.parametrize("mode", MODES)
def test_equals_one_rank(tmp_path: Path, data: str, oracle: Path, mode: str, n: int) -> None:
    folder = tmp_path / "run"
    result = mpirun(n, "-m", "workers.run", "--mode", mode, "--data", data, "--output", str(folder), *ORACLE)
    assert result.code == 0, result.err
    expected = parameters(oracle)
    for name, value in parameters(folder).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-10, atol=1e-13, err_msg=name)
    ours, theirs = records(folder), records(oracle)
    assert [r["loss"] for r in ours if r["kind"] == "epoch"] == pytest.approx(
        [r["loss"] for r in theirs if r["kind"] == "epoch"], rel=1e-10
    )
    assert ours[0]["config"]["mode"] == mode
    assert ours[0]["world"] == n
    assert sum(ours[1]["rows"]) == 97


@pytest.mark.parametrize("mode", MODES)
def test_equal_runs_end_with_equal_bits(tmp_path: Path, data: str, mode: str) -> None:
    prints = []
    for name in ("a", "b"):
        arguments = ["--mode", mode, "--data", data, "--epochs", "2", "--output", str(tmp_path / name)]
        assert mpirun(3, "-m", "workers.run", *arguments).code == 0
        prints.append(records(tmp_path / name)[-1]["fingerprint"])
    assert prints[0] == prints[1]


@pytest.mark.parametrize("n", RANKS)
def test_reducers_sum_exactly(n: int) -> None:
    assert program(n, "reducers.py").out == f"ok {n}\n"


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("reducer", ["Allreduce", "ReduceBcast", "SendRecv"])
def test_beyond_two_gib(reducer: str) -> None:
    program(2, "large.py", reducer, timeout=240)


def test_allreduce_is_the_default_of_a_complete_table() -> None:
    assert RunConfig().mode == next(iter(MODES)) == "allreduce"
    assert {"reduce-bcast", "send-recv"} < set(MODES)
