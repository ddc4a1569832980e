"""Every mode on every number of ranks gives the result of one rank."""

import contextlib
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.config import OPTIMIZERS, RunConfig
from ps.sync.modes import exact
from ps.text.run_facts import trials_line
from tests.ranks import SharedStart, mpirun, program, records
from tests.shared_memory import SHM
from workers.training.auto_mode import more_steps

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
        return {name: array for name, array in arrays.items() if array.dtype.kind != "U"}  # facts are of each run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """109 rows in three classes; 12 of them validate."""
    rng = np.random.default_rng(8)
    y = np.repeat([0, 1, 2], [37, 36, 36])
    path = tmp_path_factory.mktemp("data") / "rows.npz"
    np.savez(path, X=rng.standard_normal((109, 6)) + y[:, None], y=y)
    return str(path)


NODES = [(mode, n, per_node) for mode in ("ring", "shared", "factors") for n, per_node in ((3, 2), (4, 2), (7, 3))]
STOPPED = [(mode, 2, 0) for mode in exact()] + [
    (mode, *at) for mode in ("shared", "factors") for at in ((1, 0), (3, 0), (3, 2))
]
SLICES = dict(zip(OPTIMIZERS, ["tanh", "relu", "sigmoid", "gelu", "tanh"], strict=True))
SLICED = [("shared", 3, 0), ("factors", 3, 0), ("factors", 4, 2), ("sharded", 3, 0)]


def slices(optimizer: str) -> list[str]:
    """Return options for layers that are large beside the batch, and no clipping."""
    return ["--dtype", "float64", "--epochs", "2", "--hidden", "64", "48", "--batch-size", "4",
            "--activation", SLICES[optimizer], "--optimizer", optimizer, "--learning-rate", "0.01",
            "--weight-decay", "0.01", "--schedule", "cosine", "--test-fraction", "0"]  # fmt: skip


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory, data: str) -> SharedStart:
    """Return all runs, those of one rank first: ``oracle``, ``best``, and one for each optimizer."""
    wanted: list[tuple[str, int, int, str, list[str]]] = [
        ("oracle", 1, 0, "allreduce", ORACLE),
        ("best", 1, 0, "allreduce", EARLY),
        *((f"whole-{optimizer}", 1, 0, "allreduce", slices(optimizer)) for optimizer in OPTIMIZERS),
        *((f"equal-{mode}-{n}", n, 0, mode, ORACLE) for mode in exact() for n in RANKS),
        *((f"nodes-{mode}-{n}", n, per_node, mode, ORACLE) for mode, n, per_node in NODES),
        *((f"early-{mode}-{n}-{per_node}", n, per_node, mode, EARLY) for mode, n, per_node in STOPPED),
        *((f"slices-{o}-{mode}-{n}", n, per_node, mode, slices(o)) for o in OPTIMIZERS for mode, n, per_node in SLICED),
    ]
    jobs = {}
    for name, n, per_node, mode, options in wanted:
        shape = ["--mode", mode, "--ranks-per-node", str(per_node), "--data", data]
        jobs[name] = (n, ["-m", "workers.run", *shape, *options])
    return SharedStart(tmp_path_factory.mktemp("modes"), jobs)


def same_parameters(one: Path, other: Path) -> None:
    expected, found = parameters(other), parameters(one)
    assert expected.keys() == found.keys()
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-10, atol=1e-13, err_msg=name)


def need_room(mode: str, n: int) -> None:
    """Skip what a container's usual 64 MB of shared memory do not hold: half of them are MPI's own at 7 ranks."""
    if mode == "factors" and n > 4 and SHM.is_dir() and shutil.disk_usage(SHM).free < 100 << 20:
        pytest.skip("needs 100 MB in /dev/shm")


@pytest.mark.parametrize("n", RANKS)
@pytest.mark.parametrize("mode", exact())
def test_equals_one_rank(batch: SharedStart, mode: str, n: int) -> None:
    need_room(mode, n)
    oracle, run = batch.run("oracle"), batch.run(f"equal-{mode}-{n}")
    same_parameters(run, oracle)
    ours, theirs = records(run), records(oracle)
    assert [r["loss"] for r in ours if r["kind"] == "epoch"] == pytest.approx(
        [r["loss"] for r in theirs if r["kind"] == "epoch"], rel=1e-10
    )
    assert ours[0]["config"]["mode"] == mode
    assert ours[0]["world"] == n
    assert sum(ours[1]["rows"]) == 97
    assert theirs[0]["data"]["rows"]["train"] == 97


@pytest.mark.parametrize(("mode", "n", "per_node"), NODES)
def test_several_nodes_equal_one_rank(batch: SharedStart, mode: str, n: int, per_node: int) -> None:
    """One machine split into nodes, of unequal size where n is odd: slices are summed within them, then between."""
    need_room(mode, n)
    run = batch.run(f"nodes-{mode}-{n}")
    assert [len(node["ranks"]) for node in records(run)[0]["nodes"]] == [
        min(per_node, n - first) for first in range(0, n, per_node)
    ]
    same_parameters(run, batch.run("oracle"))


@pytest.mark.parametrize(("mode", "n", "per_node"), STOPPED)
def test_early_stopping_saves_the_best_epoch(batch: SharedStart, mode: str, n: int, per_node: int) -> None:
    """The run of one rank is stopped after the second epoch, and ends with the parameters of the first."""
    run = batch.run(f"early-{mode}-{n}-{per_node}")
    assert (records(run)[-1]["epochs"], records(run)[-1]["best_epoch"]) == (2, 1)
    same_parameters(run, batch.run("best"))


@pytest.mark.parametrize(("mode", "n", "per_node"), SLICED)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_updates_of_slices_equal_updates_of_the_whole(
    batch: SharedStart, optimizer: str, mode: str, n: int, per_node: int
) -> None:
    """Layers that are large beside the batch, no clipping: sums and products are used at once, block by block."""
    whole, run = batch.run(f"whole-{optimizer}"), batch.run(f"slices-{optimizer}-{mode}-{n}")
    facts = records(run)[0]["sync"]
    assert facts["mode"] == mode
    assert facts["factored"] == (["W1", "W2"] if mode == "factors" else [])
    assert facts["phases"] == (2 if per_node or mode == "sharded" else 1)
    assert records(whole)[0]["sync"]["factored"] == []
    assert records(whole)[0]["sync"]["phases"] == 1
    same_parameters(run, whole)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_step_does_not_allocate_and_takes_any_model(n: int) -> None:
    assert program(n, "steps.py").out == f"ok {n}\n"


def test_auto_takes_the_fastest_and_leaves_no_trace(tmp_path: Path, data: str) -> None:
    options = ["--data", data, "--dtype", "float64", "--epochs", "2", "--output"]
    assert mpirun(2, "-m", "workers.run", "--mode", "auto", *options, str(tmp_path / "auto")).code == 0
    facts = records(tmp_path / "auto")[0]["sync"]
    assert {trial["mode"] for trial in facts["trials"]} == set(exact())
    medians = [trial["median_s"] for trial in facts["trials"]]
    assert medians == sorted(medians)
    assert facts["mode"] == facts["trials"][0]["mode"]
    assert mpirun(2, "-m", "workers.run", "--mode", "allreduce", *options, str(tmp_path / "plain")).code == 0
    expected = parameters(tmp_path / "plain")
    for name, value in parameters(tmp_path / "auto").items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-10, atol=1e-13, err_msg=name)


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory, data: str) -> list[SharedStart]:
    """Return the same runs in all modes, from two starts of the ranks."""
    options = ["--data", data, "--epochs", "2"]
    named = {mode: (3, ["-m", "workers.run", "--mode", mode, *options]) for mode in exact()}
    return [SharedStart(tmp_path_factory.mktemp("twin"), named) for _ in range(2)]


@pytest.mark.parametrize("mode", exact())
def test_equal_runs_end_with_equal_bits(twins: list[SharedStart], mode: str) -> None:
    one, other = (records(twin.run(mode))[-1]["fingerprint"] for twin in twins)
    assert one == other


@pytest.mark.parametrize("n", RANKS)
def test_reducers_sum_exactly(n: int) -> None:
    assert program(n, "reducers.py").out == f"ok {n}\n"


def free_bytes() -> float:
    """Return how much memory there is: on this machine, or still within the limit of a container."""
    found = re.search(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text())
    free = 1024 * float(found[1]) if found else math.inf
    with contextlib.suppress(OSError, ValueError):  # no such group, or "max"
        limit, taken = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text()) for name in ("max", "current"))
        free = min(free, limit - taken)
    return free


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("reducer", ["allreduce", "reduce-bcast", "send-recv"])
def test_beyond_two_gib(reducer: str) -> None:
    """Two ranks with two such packets each, and what MPI takes."""
    if free_bytes() < 10 << 30:
        pytest.skip("needs 10 GiB of free memory")
    program(2, "large.py", reducer, timeout=800)


def test_allreduce_is_the_default_of_a_complete_table() -> None:
    assert RunConfig().mode == next(iter(exact())) == "allreduce"
    assert {"reduce-bcast", "send-recv"} < set(exact())


@pytest.mark.parametrize(
    ("step_s", "first_s", "best_s", "spent_s", "steps"),
    [
        (0.001, 0.4, 0.001, 0.0, 101),
        (0.05, 0.05, 1.0, 0.0, 5),
        (0.15, 0.15, 0.01, 0.0, 4),  # three, though one is enough for 0.2 s: the median passes over a disturbed one
        (0.3, 0.3, 0.01, 0.0, 2),
        (0.5, 0.9, 0.01, 0.0, 2),  # perhaps the first one made connections
        (3.0, 3.0, 2.0, 0.0, 2),
        (3.0, 3.0, 1.4, 0.0, 1),  # clearly slower
        (3.0, 3.0, 2.0, 8.0, 1),
        (60.0, 60.0, math.inf, 0.0, 1),
    ],
)
def test_auto_takes_few_steps_of_those_that_take_long(
    step_s: float, first_s: float, best_s: float, spent_s: float, steps: int
) -> None:
    times: list[float] = []
    while more := more_steps(times, best_s, spent_s):
        times += [step_s if times else first_s, *[step_s] * (more - 1)]
    assert len(times) == steps


def test_what_auto_measured_is_said() -> None:
    trials: list[dict[str, Any]] = [
        {"mode": "shared", "steps": 20, "median_s": 0.0012, "reason": None},
        {"mode": "allreduce", "steps": 1, "median_s": 3.5, "reason": "judged by its first step"},
        {"mode": "send-recv", "steps": 0, "median_s": None, "reason": "not tried"},
    ]
    assert trials_line(trials) == (
        "Mode auto measured (1 to 20 steps each): shared 1.2 ms, allreduce 3500 ms; "
        "allreduce: judged by its first step; send-recv: not tried"
    )
    assert trials_line(trials[2:]) == "Mode auto measured nothing: send-recv: not tried"
