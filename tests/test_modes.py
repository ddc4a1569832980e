"""Every mode on every number of ranks gives the result of one rank."""

from pathlib import Path

import numpy as np
import pytest

from common.config import OPTIMIZERS, RunConfig
from ps.modes import MODES
from tests.ranks import mpirun, program, records

RANKS = (1, 2, 3, 4, 7)
# 97 rows to train: a prime, so that no number of ranks and no batch divides them
COMMON = ["--dtype", "float64", "--hidden", "9", "5", "--batch-size", "10", "--optimizer", "momentum",
          "--weight-decay", "0.001", "--clip", "1.0", "--schedule", "warmup-cosine", "--test-fraction", "0",
          "--validation-fraction", "0.1"]  # fmt: skip
ORACLE = [*COMMON, "--epochs", "2", "--learning-rate", "0.05"]
EARLY = [*COMMON, "--epochs", "8", "--learning-rate", "0.3", "--patience", "1"]
"""So high a rate that the first epoch stays the best."""


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


@pytest.fixture(scope="module")
def best(tmp_path_factory: pytest.TempPathFactory, data: str) -> Path:
    """A run of one rank, stopped after the second epoch, with the parameters of the first."""
    folder = tmp_path_factory.mktemp("best") / "run"
    result = mpirun(1, "-m", "workers.run", "--data", data, "--output", str(folder), *EARLY)
    assert result.code == 0, result.err
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


@pytest.mark.parametrize(("n", "per_node"), [(3, 2), (4, 2), (7, 3)])
@pytest.mark.parametrize("mode", ["shared", "factors"])
def test_several_nodes_equal_one_rank(
    tmp_path: Path, data: str, oracle: Path, mode: str, n: int, per_node: int
) -> None:
    """One machine split into nodes, of unequal size where n is odd: slices are summed within them, then between."""
    folder = tmp_path / "run"
    options = ["--mode", mode, "--ranks-per-node", str(per_node), "--data", data, "--output", str(folder)]
    result = mpirun(n, "-m", "workers.run", *options, *ORACLE)
    assert result.code == 0, result.err
    assert [len(node["ranks"]) for node in records(folder)[0]["nodes"]] == [
        min(per_node, n - first) for first in range(0, n, per_node)
    ]
    expected = parameters(oracle)
    for name, value in parameters(folder).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-10, atol=1e-13, err_msg=name)


@pytest.mark.parametrize(
    ("mode", "n", "per_node"),
    [(mode, 2, 0) for mode in MODES]
    + [(mode, *at) for mode in ("shared", "factors") for at in ((1, 0), (3, 0), (3, 2))],
)
def test_early_stopping_saves_the_best_epoch(
    tmp_path: Path, data: str, best: Path, mode: str, n: int, per_node: int
) -> None:
    folder = tmp_path / "run"
    options = ["--mode", mode, "--ranks-per-node", str(per_node), "--data", data, "--output", str(folder)]
    result = mpirun(n, "-m", "workers.run", *options, *EARLY)
    assert result.code == 0, result.err
    assert (records(folder)[-1]["epochs"], records(folder)[-1]["best_epoch"]) == (2, 1)
    expected = parameters(best)
    for name, value in parameters(folder).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-10, atol=1e-13, err_msg=name)


@pytest.mark.parametrize(
    ("optimizer", "activation"), list(zip(OPTIMIZERS, ["tanh", "relu", "sigmoid", "gelu", "tanh"], strict=True))
)
def test_updates_of_slices_equal_updates_of_the_whole(
    tmp_path: Path, data: str, optimizer: str, activation: str
) -> None:
    """Layers that are large beside the batch, no clipping: sums and products are used at once, block by block."""
    options = ["--data", data, "--dtype", "float64", "--epochs", "2", "--hidden", "64", "48", "--batch-size", "4",
               "--activation", activation, "--optimizer", optimizer, "--learning-rate", "0.01",
               "--weight-decay", "0.01", "--schedule", "cosine", "--test-fraction", "0"]  # fmt: skip
    runs = [("allreduce", 1, ()), ("shared", 3, ()), ("factors", 3, ()), ("factors", 4, ("--ranks-per-node", "2"))]
    for mode, n, more in runs:
        folder = tmp_path / f"{mode}-{n}"
        result = mpirun(n, "-m", "workers.run", "--mode", mode, "--output", str(folder), *options, *more)
        assert result.code == 0, result.err
        facts = records(folder)[0]["sync"]
        assert facts["mode"] == mode
        assert facts["factored"] == (["W1", "W2"] if mode == "factors" else [])
        assert facts["phases"] == (2 if more else 1)
        expected = parameters(tmp_path / "allreduce-1")
        for name, value in parameters(folder).items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-10, atol=1e-13, err_msg=f"{mode} {n} {name}")


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_step_does_not_allocate_and_takes_any_model(n: int) -> None:
    assert program(n, "steps.py").out == f"ok {n}\n"


def test_auto_takes_the_fastest_and_leaves_no_trace(tmp_path: Path, data: str) -> None:
    options = ["--data", data, "--dtype", "float64", "--epochs", "2", "--output"]
    assert mpirun(2, "-m", "workers.run", "--mode", "auto", *options, str(tmp_path / "auto")).code == 0
    facts = records(tmp_path / "auto")[0]["sync"]
    assert {trial["mode"] for trial in facts["trials"]} == set(MODES)
    medians = [trial["median_s"] for trial in facts["trials"]]
    assert medians == sorted(medians)
    assert facts["mode"] == facts["trials"][0]["mode"]
    assert mpirun(2, "-m", "workers.run", "--mode", "allreduce", *options, str(tmp_path / "plain")).code == 0
    expected = parameters(tmp_path / "plain")
    for name, value in parameters(tmp_path / "auto").items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-10, atol=1e-13, err_msg=name)


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
