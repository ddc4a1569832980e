"""The parameter server: what it computes where nobody may be ahead, and that each row is used once everywhere."""

import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from common.config import OPTIMIZERS, RunConfig
from common.errors import JobError
from tests.ranks import MPIRUN, PROGRAMS, SharedStart, epochs, finish, mpirun, popen, program, records
from tests.test_modes import RANKS, parameters, same_parameters
from workers.checkpoint.origin import Origin
from workers.training.fit import check_wire
from workers.training.memory_need import vector_bytes

COMMON = ["--dtype", "float64", "--hidden", "9", "5", "--batch-size", "10", "--weight-decay", "0.001", "--clip", "1.0",
          "--schedule", "warmup-cosine", "--test-fraction", "0", "--validation-fraction", "0.1", "--epochs", "2",
          "--learning-rate", "0.05"]  # fmt: skip
SOME = [n if n in (2, 3) else pytest.param(n, marks=pytest.mark.slow) for n in RANKS]
TERM = [str(PROGRAMS / "faulty.py"), "term", "1", "2", "9"]
"""Rank 1 gets a signal in step 9 of the second epoch."""
ANY_TERM = [*TERM[:2], "-1", *TERM[3:]]
"""Whoever has a part of it."""
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


SMALL = ["--hidden", "16", "--batch-size", "50", "--epochs", "4", "--dtype", "float64"]
"""With the digits: 26 steps an epoch."""


def run(n: int, folder: Path, *arguments: str) -> Path:
    result = mpirun(n, "-m", "workers.run", *arguments, *(() if "--resume" in arguments else ("--output", str(folder))))
    assert result.code == 0, result.err
    return folder


def check_rows(run: Path, n_epochs: int) -> None:
    """See from the log that each row was used once in each epoch."""
    found = epochs(run)
    assert [r["epoch"] for r in found] == list(range(1, n_epochs + 1))
    for record in found:
        before = record["before"] or {"rows": 0}
        assert sum(record["rows"]) + before["rows"] == 1259


@pytest.mark.slow
@pytest.mark.any_mpi
def test_what_compensation_adapts_to_begins_anew_after_another_mode(tmp_path: Path) -> None:
    folder = run(
        2, tmp_path / "run", "--mode", "async", "--delay-compensation", "adaptive", *SMALL[:4], "--epochs", "1"
    )
    for mode, n_epochs in ("allreduce", 2), ("async", 3):
        run(2, folder, "--resume", str(folder), "--mode", mode, "--epochs", str(n_epochs))
    check_rows(folder, 3)


@pytest.mark.slow
def test_a_signal_in_the_middle_of_an_epoch_costs_nothing_where_nobody_is_ahead(tmp_path: Path) -> None:
    options = [*SMALL, *exact("async", 2), "--optimizer", "momentum"]
    whole = run(2, tmp_path / "whole", *options)
    stopped, other = tmp_path / "stopped", tmp_path / "other"
    assert mpirun(2, *TERM, *options, "--output", str(stopped)).code == 75
    assert records(stopped)[-1]["status"] == "stopped"
    shutil.copytree(stopped, other)
    run(2, stopped, "--resume", str(stopped))
    run(3, other, "--resume", str(other))
    for name, array in parameters(whole).items():
        assert array.tobytes() == parameters(stopped)[name].tobytes()
    same_parameters(other, whole)
    assert epochs(stopped)[1]["before"]["steps"] in (9, 10)
    check_rows(stopped, 4)
    check_rows(other, 4)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["k-of-n", "async"])
@pytest.mark.parametrize("rows", ["shuffle", "shard"])
def test_a_stop_loses_no_row(tmp_path: Path, mode: str, rows: str) -> None:
    """All parts of the steps begun are done at a stop; another number of ranks goes on from there."""
    stopped = tmp_path / "stopped"
    command = [*ANY_TERM, *SMALL, "--mode", mode, "--rows", rows, "--output", str(stopped)]
    assert mpirun(3, *command).code == 75
    run(2, stopped, "--resume", str(stopped))
    check_rows(stopped, 4)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["k-of-n", "async"])
def test_a_push_that_is_not_finite_is_named(tmp_path: Path, mode: str) -> None:
    options = ["-m", "workers.run", *SMALL, "--mode", mode, "--inject", "nan:rank=1,step=5"]
    result = mpirun(3, *options, "--output", str(tmp_path / "run"))
    assert result.code == 1
    assert result.err.count("rankwise:") == 1
    assert re.search(r"not finite at epoch 1, step \d+: rank 1: loss, W1, b1, W2, b2; ", result.err)
    assert not (tmp_path / "run" / "model.npz").exists()


@pytest.mark.slow
def test_a_push_that_is_not_finite_can_be_left_out(tmp_path: Path) -> None:
    options = [*SMALL, "--mode", "k-of-n", "--inject", "nan:rank=1,step=5", "--nonfinite", "skip"]
    first, second, *_ = epochs(run(3, tmp_path / "run", *options))
    assert (first["skipped"], second["skipped"]) == (1, 0)
    assert first["dropped"] == [0, 1, 0]
    assert sum(first["rows"]) in (1259 - 16, 1259 - 17)
    assert sum(second["rows"]) == 1259
    (event,) = (r for r in records(tmp_path / "run") if r.get("what") == "skip")
    assert event["not_finite"] == {"1": ["loss", "W1", "b1", "W2", "b2"]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "more"), [("k-of-n", []), ("async", ["--staleness", "inf"]), ("async", ["--rows", "shard"])]
)
def test_others_take_the_rows_of_a_rank_that_dies(tmp_path: Path, mpi: str, mode: str, more: list[str]) -> None:
    if mpi != "openmpi":
        pytest.skip("needs Open MPI")
    job = ["-m", "workers.run", "--elastic", *SMALL, "--mode", mode, *more, "--inject", "die:rank=2,step=12"]
    command = [MPIRUN, "--with-ft", "ulfm", "-np", "4", sys.executable, *job, "--output", str(tmp_path / "run")]
    result = finish(popen(command))
    assert result.code == 0, result.err
    check_rows(tmp_path / "run", 4)
    assert [r["dead"] for r in records(tmp_path / "run") if r.get("what") == "shrink"] == [[2]]


@pytest.mark.slow
def test_nobody_continues_without_the_server(tmp_path: Path, mpi: str) -> None:
    if mpi != "openmpi":
        pytest.skip("needs Open MPI")
    job = ["-m", "workers.run", "--elastic", *SMALL, "--mode", "k-of-n", "--inject", "die:rank=0,step=12"]
    result = finish(
        popen([MPIRUN, "--with-ft", "ulfm", "-np", "3", sys.executable, *job, "--output", str(tmp_path / "run")])
    )
    assert result.err.count("rankwise:") == 1
    assert "rank 0" in result.err
    assert "Continuing" not in result.out
    assert not (tmp_path / "run" / "model.npz").exists()


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 4])
def test_random_jobs_end(n: int) -> None:
    """A campaign of more: python tests/programs/served_campaign.py SEED JOBS under mpirun."""
    assert program(n, "served_campaign.py", str(n), "20").out.split() == ["ok", "20"]


@pytest.mark.parametrize("n", [2, 3, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 4, 7))])
def test_rounded_pushes_move_the_server_by_their_sum(n: int) -> None:
    """Parameters themselves are not rounded; a push has half of the bytes; what bf16 cannot hold is seen by all."""
    assert program(n, "served_bf16.py").out == "ok\n"


@pytest.mark.parametrize("mode", ["k-of-n", "async"])
@pytest.mark.parametrize("wire", ["int8", "powersgd", "topk"])
def test_wires_that_pushes_do_not_take_are_refused(mode: str, wire: str) -> None:
    check_wire(RunConfig(mode=mode, wire="bf16"), Origin())
    said = f"wire: {wire} is not one that mode {mode} takes; use --wire float32 or bf16, or .* --mode ring, local"
    with pytest.raises(JobError, match=said) as got:
        check_wire(RunConfig(mode=mode, wire=wire), Origin())
    assert got.value.exit_code == 2


def test_nothing_is_rounded_where_nothing_is_sent() -> None:
    with pytest.raises(JobError, match="bf16 has no effect with --simulate-delay") as got:
        check_wire(RunConfig(mode="async", wire="bf16", simulate_delay=2), Origin())
    assert got.value.exit_code == 2


def test_memory_for_rounded_pushes_is_counted() -> None:
    """At rank 0 its own halves and those of each other rank's push; elsewhere its own."""
    n = 1000
    for rank, vectors in ((0, 4), (1, 1)):
        topology: Any = SimpleNamespace(comm=SimpleNamespace(rank=rank, size=4), local=SimpleNamespace(size=4))
        plain, half = (vector_bytes(topology, RunConfig(mode="async", wire=w), "async", n) for w in ("float32", "bf16"))
        assert half - plain == vectors * 2 * n
