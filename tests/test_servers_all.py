"""A server on each rank: the result where nobody may be ahead, rows used once, faults, stops and resumes."""

from typing import Any

import numpy as np
import pytest

from common.config import OPTIMIZERS, RunConfig
from common.errors import EXIT_USAGE, JobError
from tests.ranks import SharedStart, epochs, records
from tests.test_clock_order import bits
from tests.test_modes import RANKS, same_parameters
from workers.checkpoint.origin import Origin
from workers.training.fit import check_fit

COMMON = ["--dtype", "float64", "--hidden", "9", "5", "--batch-size", "10", "--weight-decay", "0.001",
          "--test-fraction", "0", "--validation-fraction", "0.1", "--learning-rate", "0.05"]  # fmt: skip
ALL = ["--mode", "async", "--servers", "all"]
EXACT = [*ALL, "--staleness", "0"]


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> SharedStart:
    rng, folder = np.random.default_rng(8), tmp_path_factory.mktemp("all")
    y = np.repeat([0, 1, 2], [37, 36, 36])
    np.savez(folder / "rows.npz", X=rng.standard_normal((109, 6)) + y[:, None], y=y)
    rows = ["-m", "workers.run", "--data", str(folder / "rows.npz"), *COMMON]
    given = [*rows, "--epochs", "2", "--schedule", "warmup-cosine"]
    jobs = {f"one-{o}": (1, [*given, "--optimizer", o]) for o in OPTIMIZERS}
    for n in RANKS:
        jobs[f"exact-{n}"] = (n, [*given, *EXACT])
        jobs[f"loose-{n}"] = (n, [*given, *ALL, "--staleness", "2"])
    jobs |= {f"exact-{o}": (3, [*given, *EXACT, "--optimizer", o]) for o in OPTIMIZERS}
    in_order = [*ALL, "--order", "clock", "--delay-compensation", "adaptive"]
    jobs["shard"] = (3, [*given, *ALL, "--rows", "shard"])
    jobs["whole"] = (3, [*rows, *in_order, "--epochs", "2"])
    jobs["slow"] = (3, [*rows, *in_order, "--epochs", "2", "--inject", "slow:rank=1,x=3"])
    jobs["parts"] = (3, [*rows, *in_order, "--epochs", "1"])
    jobs["rest"] = (3, ["-m", "workers.run", "--resume", str(folder / "3" / "parts"), "--epochs", "2"])
    jobs["skip"] = (3, [*given, *ALL, "--inject", "nan:rank=1,step=3", "--nonfinite", "skip"])
    jobs["nan"] = (3, [*given, *ALL, "--inject", "nan:rank=1,step=3"])
    return SharedStart(folder, jobs)


@pytest.mark.slow
@pytest.mark.parametrize("n", RANKS)
def test_equals_one_rank_where_nobody_may_be_ahead(batch: SharedStart, n: int) -> None:
    same_parameters(batch.run(f"exact-{n}"), batch.run("one-adam"))


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_equals_one_rank(batch: SharedStart, optimizer: str) -> None:
    same_parameters(batch.run(f"exact-{optimizer}"), batch.run(f"one-{optimizer}"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shard", *(f"loose-{n}" for n in RANKS)])
def test_each_row_is_used_once(batch: SharedStart, name: str) -> None:
    for epoch in epochs(batch.run(name)):
        assert sum(epoch["rows"]) == 97
        assert sum(epoch["update_share"]) == pytest.approx(1)
        assert len(set(epoch["fingerprint"])) == 1
        assert max(epoch["clock_gap"]) <= 3


@pytest.mark.slow
def test_in_order_it_has_the_same_bits_however_fast_ranks_are(batch: SharedStart) -> None:
    assert bits(batch.run("whole")) == bits(batch.run("slow"))


@pytest.mark.slow
def test_resumed_it_has_the_bits_of_an_uninterrupted_run(batch: SharedStart) -> None:
    assert batch["rest"].code == 0, batch["rest"].err
    assert bits(batch.run("parts")) == bits(batch.run("whole"))


@pytest.mark.slow
def test_a_push_that_is_not_finite_is_left_out_by_all_servers(batch: SharedStart) -> None:
    run = batch.run("skip")
    (skip,) = (r for r in records(run) if r["kind"] == "event" and r["what"] == "skip")
    assert list(skip["not_finite"]) == ["1"]
    assert all(len(set(epoch["fingerprint"])) == 1 for epoch in epochs(run))


@pytest.mark.slow
def test_or_ends_the_job_with_its_rank_named(batch: SharedStart) -> None:
    assert batch["nan"].code
    assert "not finite at epoch 1, step" in batch["nan"].err
    assert "rank 1: " in batch["nan"].err


@pytest.mark.parametrize("options", [{"clip": 1.0}, {"max_delay": "2"}, {"elastic": True}, {"simulate_delay": 2}])
def test_what_needs_whole_gradients_or_all_ranks_is_refused(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(JobError, match=f"{name}: does not go with --servers all: .* use --servers one") as raised:
        check_fit(RunConfig(mode="async", servers="all", **options), Origin(), 1)
    assert raised.value.exit_code == EXIT_USAGE
    check_fit(RunConfig(mode="async", **options), Origin(), 1)
