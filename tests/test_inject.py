"""Faults brought in on purpose: read, refused where they cannot be, and doing what they say."""

import itertools
import os
import signal
import statistics
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from common.config import RunConfig
from common.data.sampler import RowSampler
from common.data.shards import shard_starts
from common.errors import ConfigError
from ps.sync.modes import MODES, exact
from tests.ranks import MPIRUN, Result, SharedStart, epochs, popen, records, wait_for_epochs
from tests.watched import insist
from workers.launch.fault_spec import Fault, of_job, parse
from workers.launch.run_options import parse as parse_options
from workers.training import dirichlet_skew
from workers.training.fault_injection import FaultySync, check, place

Job = Callable[..., Result]
SHORT = ("--epochs", "2", "--hidden", "8")
HELP = dict.fromkeys(MODES, "")
RANKS_BEGIN = [shard_starts(1000)[64 * rank // 3] for rank in (1, 2)]
STEPS = 20
"""Of an epoch of the digits' 1,259 training rows, 64 at a time."""


def test_a_text_becomes_faults() -> None:
    text = " slow : rank=2, x=3 ;skew; nan:step=50,rank=1;diverge:rank=3;hang:rank=0;die:rank=10,step=7;slow:rank=1"
    assert parse(text) == (
        Fault("slow", 2, x=3.0),
        Fault("skew"),
        Fault("nan", 1, step=50),
        Fault("diverge", 3, step=1),
        Fault("hang", 0, step=1),
        Fault("die", 10, step=7),
        Fault("slow", 1, x=2.0),
    )
    shown = "; ".join(str(fault) for fault in parse(text))
    assert shown.startswith("slow:rank=2,x=3; skew; nan:rank=1,step=50; diverge:rank=3,step=1; ")
    assert parse(shown) == parse(text)
    assert parse("") == parse(" ") == ()
    lasting = "stall:rank=1,every=20,seconds=0.5; skew:alpha=0.3"
    assert parse(lasting) == (Fault("stall", 1, every=20, seconds=0.5), Fault("skew", alpha=0.3))
    assert "; ".join(str(fault) for fault in parse(lasting)) == lasting


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "slwo:rank=1",
            r"unknown value 'slwo' \(did you mean 'slow'\?\); choose one of slow, stall, skew, nan, diverge",
        ),
        ("slow:rank=1;", "unknown value ''; choose one of slow"),
        ("SKEW", "unknown value 'SKEW'; choose one of"),
        ("nan:", "nan: got ''; allowed is name=value, as in nan:rank=1,step=50"),
        ("slow:rank=1,3", "slow: got '3'; allowed is name=value, as in slow:rank=1,x=3"),
        ("slow:rank=1,step=3", "slow: unknown value 'step'; choose one of rank, x"),
        ("hang:rnk=1", r"hang: unknown value 'rnk' \(did you mean 'rank'\?\); choose one of rank, step"),
        ("die:rank=1,rank=2", "die: rank is given twice; give it once"),
        ("skew:rank=1", "skew: unknown value 'rank'; choose one of alpha"),
        ("skew:alpha=0", "skew: alpha: got '0'; allowed is a number above 0, at most 1000"),
        ("stall:every=0", "stall: every: got '0'; allowed is a whole number from 1"),
        ("slow:rank=1,x=1", "slow: x: got '1'; allowed is a number above 1, at most 1000"),
        ("slow:rank=1,x=nan", "slow: x: got 'nan'; allowed is a number above 1"),
        ("slow:rank=1,x=inf", "slow: x: got 'inf'; allowed is a number above 1"),
        ("slow:rank=1,x=fast", "slow: x: got 'fast'; allowed is a number above 1"),
        ("slow:rank=-1", "slow: rank: got '-1'; allowed is a whole number from 0 to 1000000000"),
        ("nan:rank=1,step=0", "nan: step: got '0'; allowed is a whole number from 1 to 1000000000"),
        ("nan:rank=1,step=2.5", "nan: step: got '2.5'; allowed is a whole number from 1"),
        ("nan:rank=" + "9" * 5000, "nan: rank: got '9{80}'; allowed is a whole number from 0"),
        ("skew;skew", "skew is given twice; give it once"),
        ("die;die:step=3", "die is given twice; give it once"),
        ("nan:rank=1;nan:rank=1,step=2", "nan of rank 1 is given twice; give it once"),
    ],
)
def test_a_wrong_text_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^inject: {message}"):
        parse_options(["--inject", text], HELP)


def test_a_rank_outside_the_job_is_refused() -> None:
    assert of_job("slow:rank=3", 4) == (Fault("slow", 3),)
    with pytest.raises(ConfigError, match=r"^inject: slow:rank=3,x=2: there is no rank 3; .* ranks are 0 to 2"):
        of_job("slow:rank=3", 3)


def test_only_the_command_line_injects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.toml"
    path.write_text('inject = "skew"\n')
    with pytest.raises(
        ConfigError, match=r"^inject: got it in .*run.toml; allowed is the command line only, give --inj"
    ):
        parse_options(["--config", str(path), "--inject", "skew"], HELP)
    monkeypatch.setenv("INJECT", "skew")  # somebody else's
    config = parse_options(["--inject", "skew"], HELP)
    assert isinstance(config, RunConfig)
    assert (config.inject, config.rows) == ("skew", "shard")
    monkeypatch.setenv("RANKWISE_INJECT", "")
    with pytest.raises(
        ConfigError, match=r"^inject: got it as RANKWISE_INJECT in the environment; allowed is the command"
    ):
        parse_options([], HELP)


def test_a_fault_without_a_rank_is_the_last_rank_s() -> None:
    assert of_job("nan; slow:x=3; skew; die:rank=0", 4) == (
        Fault("nan", 3, step=1), Fault("slow", 3, x=3.0), Fault("skew"), Fault("die", 0, step=1),
    )  # fmt: skip
    assert of_job("hang", 1) == (Fault("hang", 0, step=1),)
    with pytest.raises(ConfigError, match=r"^inject: hang of rank 2 is given twice; give it once"):
        of_job("hang;hang:rank=2,step=5", 3)


def test_ranks_without_a_fault_train_as_ever() -> None:
    sync: Any = SimpleNamespace(flat=None, meter=None)
    for text, rank in (("", 0), ("skew", 0), ("slow:rank=1;die:rank=2", 0)):
        assert place(parse(text), sync, rank, 0) is sync
    assert isinstance(place(parse("slow:rank=1"), sync, 1, 0), FaultySync)


def test_a_stall_comes_every_so_many_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    inner: Any = SimpleNamespace(flat=None, meter=SimpleNamespace(reduce_s=0.0), backward=lambda *_, **__: 0.0)
    sync = FaultySync(inner, list(parse("stall:rank=0,every=3,seconds=0.5")), 1)
    counts = []
    for _ in range(8):  # steps 2 to 9
        sync.backward(cast("Any", None), 0.1, sample=False)
        counts.append(len(slept))
    assert counts == [0, 1, 1, 1, 2, 2, 2, 3]
    assert set(slept) == {0.5}


@pytest.mark.parametrize("n_ranks", [1, 3, 70])
def test_dirichlet_skew_deals_each_row_once_and_shares_as_it_is_told(n_ranks: int) -> None:
    target = np.repeat(np.arange(10), 100)
    order = dirichlet_skew.order(target, n_ranks, 0.3, seed=4)
    assert np.array_equal(np.sort(order), np.arange(1000))
    assert np.array_equal(order, dirichlet_skew.order(target, n_ranks, 0.3, seed=4))
    if n_ranks == 3:
        parts = [target[order[first:end]] for first, end in itertools.pairwise([0, *RANKS_BEGIN, 1000])]
        counts = np.array([np.bincount(part, minlength=10) for part in parts])
        assert (counts.max(axis=1) > 90).all()
        even = dirichlet_skew.order(target, 3, 900.0, seed=4)
        assert np.bincount(target[even[: RANKS_BEGIN[0]]]).max() < 45
    numbers = dirichlet_skew.order(np.random.default_rng(0).standard_normal(1000), 3, 0.3, seed=4)
    assert np.array_equal(np.sort(numbers), np.arange(1000))


@pytest.mark.parametrize(
    ("text", "options", "copies", "message"),
    [
        ("hang:rank=1,step=61", {}, 2, "hang:rank=1,step=61: the run has 60 steps, counted over all epochs; take an"),
        ("diverge:rank=1", {}, 1, "diverge:rank=1,step=1: needs copies .* here they exist once; use --mode"),
        (
            "diverge:rank=1",
            {"init": "per-rank"},
            2,
            "diverge:rank=1,step=1: needs copies .* here they start different; ",
        ),
        ("nan:rank=1,step=40", {}, 2, "nan:rank=1,step=40: the rank has no rows in that step; take another one"),
    ],
)
def test_what_cannot_happen_in_a_run_is_refused(text: str, options: dict[str, Any], copies: int, message: str) -> None:
    """Two ranks, three epochs of 20 steps; the last of each has one row, rank 0's."""
    sampler = RowSampler(191, 10, 0, "shuffle", 2)
    with pytest.raises(ConfigError, match=f"^inject: {message}"):
        check(parse(text), RunConfig(epochs=3, **options), sampler, copies)
    check(parse("nan:rank=0,step=60;diverge:rank=1,step=60;skew"), RunConfig(epochs=3), sampler, 2)


@pytest.mark.parametrize(
    ("mode", "text", "message"),
    [
        ("shared", "slow:rank=2", "slow:rank=2,x=2: there is no rank 2; this job's ranks are 0 to 1"),
        ("shared", "diverge", "diverge:rank=1,step=1: needs copies"),
        ("async", "diverge:rank=1", "diverge:rank=1,step=1: needs copies"),
    ],
)
def test_what_the_job_does_not_allow_is_told_once(job: Job, tmp_path: Path, mode: str, text: str, message: str) -> None:
    result = job(2, *SHORT, "--mode", mode, "--inject", text)
    assert result.code == 2
    assert result.err.startswith(f"rankwise: inject: {message}")
    assert result.err.count("rankwise:") == 1
    assert not (tmp_path / "run").exists()


def test_all_useful_work_of_a_slow_rank_takes_longer_and_the_exchange_does_not() -> None:
    """A step of 1 ms of input, 2 of gradient, 3 of exchange and 1 of update: 8 ms more for three times the work."""
    timer = SimpleNamespace(steps=0, arrived=[0.0] * 9, left=[0.0] * 9)
    meter: Any = SimpleNamespace(timer=timer, reduce_s=0.0, sampling_s=0.0, step_times=SimpleNamespace(now=[0.0] * 10))

    def work(seconds: float) -> None:
        until = time.thread_time() + seconds
        while time.thread_time() < until:
            pass

    def backward(*_: Any, **__: Any) -> float:
        work(2e-3)
        return 0.5

    def step(*_: Any, **__: Any) -> int:
        timer.arrived[timer.steps] = time.perf_counter()
        work(3e-3)
        timer.left[timer.steps] = time.perf_counter()
        timer.steps += 1
        work(1e-3)
        return 0

    inner: Any = SimpleNamespace(flat=None, meter=meter, backward=backward, step=step)
    sync, batch, seconds = FaultySync(inner, [Fault("slow", 0, x=3.0)], 0), cast("Any", None), []
    for _ in range(8):
        work(1e-3)
        start = time.thread_time()
        assert sync.backward(batch, 0.1, sample=False) == 0.5
        seconds.append(time.thread_time() - start)
        sync.step(batch, 0.5, stop=False, sample=False)
    assert seconds[0] == pytest.approx(3 * 2e-3, rel=0.2)  # nothing else is known of the first step
    assert statistics.median(seconds[2:]) == pytest.approx(2e-3 + 2 * 4e-3, rel=0.15)


DIVERGING = {"send-recv": ("2", []), "shared": ("2, 3", ["--ranks-per-node", "2"])}
"""By mode: the ranks that are then not like the others, and options."""


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> SharedStart:
    """Return jobs that end by themselves."""
    jobs = {"skew": (3, [*SHORT, "--inject", "skew"]), "even": (3, [*SHORT, "--rows", "shard"])}
    slow = ("--epochs", "12", "--batch-size", "300", "--inject", "slow:rank=1,x=6")
    for mode in ("allreduce", "shared"):
        jobs[f"slow-{mode}"] = (2, [*slow, "--mode", mode])
    for mode in exact():
        jobs[f"nan-{mode}"] = (3, [*SHORT, "--mode", mode, "--inject", f"nan:rank=1,step={STEPS + 4}"])
    for mode, (_, more) in DIVERGING.items():
        jobs[f"diverge-{mode}"] = (4, [*SHORT, "--mode", mode, *more, "--inject", f"diverge:rank=2,step={STEPS + 3}"])
    started = {name: (n, ["-m", "workers.run", *options]) for name, (n, options) in jobs.items()}
    return SharedStart(tmp_path_factory.mktemp("inject"), started)


@pytest.mark.parametrize("mode", ["allreduce", "shared"])
def test_a_slow_rank_computes_longer_and_the_others_wait(batch: SharedStart, mode: str) -> None:
    """Six times as slow and more than twice found, in the calmest epochs and steps: other processes only add time."""
    run = batch.run(f"slow-{mode}")
    assert "Injected on purpose: slow:rank=1,x=6\n" in batch[f"slow-{mode}"].out
    header, event, *_ = records(run)
    assert (event["kind"], event["what"], event["faults"]) == ("event", "inject", "slow:rank=1,x=6")
    assert header["config"]["inject"] == "slow:rank=1,x=6"
    assert "inject" not in tomllib.loads((run / "config.toml").read_text())
    compute, wait = (np.array([e[name] for e in epochs(run)]) for name in ("compute_s", "wait_s"))
    assert compute[:, 1].min() > 2 * compute[:, 0].min()
    assert (wait[:, 0] > 2 * wait[:, 1]).any()
    steps = [r for r in records(run) if r["kind"] == "steps"]
    gradient = [np.subtract(s["moments_us"]["backward"][0], s["moments_us"]["begin"][0]) for s in steps]
    fast, slow = np.min(gradient, axis=0)  # what a trace shows
    assert slow > 2 * fast


def test_skewed_shards_hold_parts_of_the_classes(batch: SharedStart) -> None:
    skew, even = batch.run("skew"), batch.run("even")
    assert records(skew)[0]["config"]["rows"] == "shard"
    assert "inject" not in [r.get("what") for r in records(even)]
    of_skewed, of_even = (np.mean([e["cosine_all"] for e in epochs(run)]) for run in (skew, even))
    assert of_skewed < of_even - 0.1


@pytest.mark.parametrize("mode", exact())
def test_a_nan_is_found_and_its_rank_named(batch: SharedStart, mode: str) -> None:
    result = batch[f"nan-{mode}"]
    assert result.code == 1
    assert "rankwise: not finite at epoch 2, step 4: rank 1: loss, W1, b1, W2, b2; all ranks stopped" in result.err
    assert records(batch.folder / "3" / f"nan-{mode}")[-1]["status"] == "failed"


@pytest.mark.parametrize("mode", DIVERGING)
def test_a_copy_that_diverges_is_found(batch: SharedStart, mode: str) -> None:
    result = batch[f"diverge-{mode}"]
    assert result.code == 1
    assert "parameters: not the same on all ranks at epoch 2" in result.err
    assert ", ".join(str(rank) for rank in range(4) if f"rank {rank} on " in result.err) == DIVERGING[mode][0]
    assert records(batch.folder / "4" / f"diverge-{mode}")[-1]["status"] == "failed"


def test_a_rank_that_dies_ends_the_job(job: Job, tmp_path: Path) -> None:
    result = job(3, *SHORT, "--inject", f"die:rank=1,step={STEPS + 5}")
    assert result.code != 0
    assert [r["kind"] for r in records(tmp_path / "run") if r["kind"] in ("epoch", "end")] == ["epoch"]


def test_a_rank_that_hangs_holds_the_others(tmp_path: Path) -> None:
    run, fault = tmp_path / "run", f"hang:rank=1,step={STEPS + 1}"
    command = [MPIRUN, "-np", "2", sys.executable, "-m", "workers.run", *SHORT, "--inject", fault, "--output", str(run)]
    process = popen(command, cwd=tmp_path)
    wait_for_epochs(process, run, 1)
    coordinator = records(run)[0]["pid"]
    # the first signal is a wish that a rank waiting in MPI cannot fulfil
    assert insist(process, lambda: os.kill(coordinator, signal.SIGTERM)).code not in (0, 75)
    assert len(epochs(run)) == 1
