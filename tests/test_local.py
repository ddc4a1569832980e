"""Mode ``local``: steps on a rank's own rows, and averages of parameters."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from common.config import RunConfig
from ps.reader.commands.export import export
from ps.reader.commands.report import report
from ps.reader.commands.show import show
from ps.sync.local import moments_at_averages
from tests.ranks import MPIRUN, PROGRAMS, SharedStart, environment, epochs, finish, mpirun, popen, program, records
from workers.checkpoint.changes import changed_options

RANKS = [1, 2, 3, pytest.param(4, marks=pytest.mark.slow), pytest.param(7, marks=pytest.mark.slow)]
EVERY, STEPS = 7, 20
"""The digits' 1,259 training rows, 64 at a time: rounds end at steps 7, 14 and 20."""
LOCAL = ("--mode", "local", "--sync-every", str(EVERY), "--hidden", "8", "--optimizer", "momentum", "--momentum", "0.5",
         "--learning-rate", "0.1", "--outer-momentum", "0.4")  # fmt: skip
NAN = ("--inject", f"nan:rank=1,step={STEPS + 4}")


@pytest.mark.parametrize("n", RANKS)
def test_rounds_follow_the_formulas(n: int) -> None:
    assert program(n, "local.py").out == f"ok {n}\n"


@pytest.mark.parametrize(
    ("optimizer", "asked", "found"),
    [
        ("momentum", "auto", "reset"),
        ("adam", "auto", "keep"),
        ("adam", "reset", "reset"),
        ("sgd", "average", "average"),
    ],
)
def test_what_becomes_of_moments(optimizer: str, asked: str, found: str) -> None:
    assert moments_at_averages(RunConfig(mode="local", optimizer=optimizer, local_momentum=asked)) == found


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> SharedStart:
    """Return jobs of two and of three ranks; those of three that resume others come behind them."""
    run, term = ["-m", "workers.run"], [str(PROGRAMS / "faulty.py"), "term", "1", "2", "9"]
    adam = ("--mode", "local", "--sync-every", "7", "--hidden", "8", "--epochs", "2", "--checkpoint-every", "1",
            "--keep", "9")  # fmt: skip
    # fmt: off
    jobs = {
        "whole": [*run, *LOCAL, "--epochs", "4"],
        "half": [*run, *LOCAL, "--epochs", "2"],
        "second-half": [*run, "--resume", "half", "--epochs", "4"],
        "stopped": [*term, *LOCAL, "--epochs", "4"],
        "after-stop": [*run, "--resume", "stopped"],
        "nan": [*run, *LOCAL, *NAN, "--epochs", "2"],
        "skip": [*run, *LOCAL, *NAN, "--epochs", "2", "--nonfinite", "skip"],
        "adam": [*run, *adam, "--wire", "topk"],
        "other-mode": [*run, "--resume", "adam", "--mode", "allreduce", "--wire", "float32", "--epochs", "3"],
        "mode-back": [*run, "--resume", "adam", "--mode", "local", "--outer-momentum", "0.5", "--epochs", "4"],
        "best": [*run, "--mode", "local", "--epochs", "9", "--learning-rate", "0.2", "--patience", "1"],
        "nodes": [*run, *LOCAL, *NAN, "--epochs", "3", "--local-group", "node", "--ranks-per-node", "2",
                  "--nonfinite", "skip"],
        "no-effect": [*run, "--sync-every", "7"],
        "apart": [*run, *LOCAL, "--init", "per-rank"],
        "diverge": [*run, *LOCAL, "--inject", "diverge:rank=1"],
        "balance": [*run, *LOCAL, "--epochs", "5", "--balance", "speed", "--rows", "shard"],
    }
    # fmt: on
    named = {name: (3, arguments) for name, arguments in jobs.items()}
    return SharedStart(tmp_path_factory.mktemp("local"), named)


def same_bits(one: Path, other: Path) -> bool:
    return bool(records(one)[-1]["fingerprint"] == records(other)[-1]["fingerprint"])


def test_a_resumed_run_ends_with_the_same_bits(batch: SharedStart) -> None:
    whole = batch.run("whole")
    for name, run in (("second-half", "half"), ("after-stop", "stopped")):
        assert batch[name].code == 0, batch[name].err
        assert same_bits(batch.folder / "3" / run, whole)


def test_a_stop_waits_for_the_average(batch: SharedStart) -> None:
    assert batch["stopped"].code == 75
    event = next(r for r in records(batch.folder / "3" / "stopped") if r.get("what") == "stop")
    assert (event["epoch"], event["step"], event["signals"]) == (2, 14, {"1": "SIGTERM"})
    rows = [sum(epoch["rows"]) for epoch in epochs(batch.folder / "3" / "stopped")]
    before = [(epoch["before"] or {"rows": 0})["rows"] for epoch in epochs(batch.folder / "3" / "stopped")]
    assert np.add(rows, before).tolist() == [1259] * 4
    assert before == [0, 14 * 64, 0, 0]


def test_what_is_not_finite_is_named_with_its_step(batch: SharedStart) -> None:
    assert batch["nan"].code == 1
    assert batch["nan"].err.count("rankwise:") == 1
    assert (
        "rankwise: not finite at epoch 2, step 7: rank 1: loss, W1, b1, W2, b2 in step 4; all ranks stopped"
        in batch["nan"].err
    )


def test_a_round_that_is_not_finite_is_left_out(batch: SharedStart) -> None:
    first, second = epochs(batch.run("skip"))
    assert (first["skipped"], second["skipped"]) == (0, EVERY)
    assert (sum(first["rows"]), sum(second["rows"])) == (1259, 1259 - EVERY * 64)
    assert second["pushes"] == [2, 2, 2]
    assert second["loss"] < first["loss"]
    assert len(set(second["fingerprint"])) == 1


def test_ranks_of_a_node_take_steps_together(batch: SharedStart) -> None:
    """Two of three ranks are one node: the NaN of rank 1 is found by both in the same step, and is rank 1's."""
    run = batch.run("nodes")
    (skip,) = [r for r in records(run) if r.get("what") == "skip"]
    assert skip["not_finite"] == {"1": ["loss", "W1", "b1", "W2", "b2 in step 4"]}
    for epoch in epochs(run):
        assert epoch["drift"][0] == epoch["drift"][1] != epoch["drift"][2]
        assert epoch["update_share"][0] == pytest.approx(epoch["update_share"][1], rel=0.1)
        assert epoch["reduce_s"][0] > epoch["reduce_s"][2] == 0


def test_the_log_has_what_averages_did(batch: SharedStart, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = batch.run("whole")
    header = records(run)[0]
    for epoch in epochs(run):
        assert epoch["pushes"] == [3] * 3
        assert epoch["sent_bytes"] == [3 * header["packet_bytes"]] * 3
        assert sum(epoch["update_share"]) == pytest.approx(1, abs=1e-5)
        assert all(0 < drift < 1 for drift in epoch["drift"])
        assert epoch["sampled_steps"] == []
        assert epoch["share_all"] == [None] * 3
    assert [show(run), report(run, output=tmp_path / "report.html"), export(run, csv=True)] == [0, 0, 0]
    assert "update_share" in capsys.readouterr().out


def test_modes_may_change_on_the_way(batch: SharedStart) -> None:
    for name in ("adam", "other-mode", "mode-back"):
        assert batch[name].code == 0, batch[name].err
    run = batch.folder / "3" / "adam"
    assert ["pushes" in epoch for epoch in epochs(run)] == [True, True, False, True]
    with np.load(run / "checkpoint-20.npz") as arrays:
        assert "wire_error/W1" in arrays.files
    losses = [epoch["loss"] for epoch in epochs(run)]
    assert losses == sorted(losses, reverse=True)


def test_another_number_of_ranks_goes_on(batch: SharedStart, tmp_path: Path) -> None:
    shutil.copytree(batch.run("whole"), tmp_path / "run")
    result = mpirun(2, "-m", "workers.run", "--resume", str(tmp_path / "run"), "--epochs", "5", "--sync-every", "3")
    assert result.code == 0, result.err
    last, before = epochs(tmp_path / "run")[-1], epochs(tmp_path / "run")[-2]
    assert last["pushes"] == [7, 7]
    assert last["loss"] < 1.1 * before["loss"]


def test_early_stopping_keeps_the_best_average(batch: SharedStart) -> None:
    end = records(batch.run("best"))[-1]
    assert end["epochs"] == end["best_epoch"] + 1 < 9


def test_rows_go_where_ranks_are_fast(batch: SharedStart) -> None:
    assert [sum(epoch["rows"]) for epoch in epochs(batch.run("balance"))] == [1259] * 5


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--optimizer", "adam", "--wire", "topk")], ids=["reset", "kept"])
def test_the_others_go_on_from_the_last_average(tmp_path: Path, mpi: str, more: tuple[str, ...]) -> None:
    """Ranks die in the middle of rounds, which are begun again: each row counts once all the same."""
    if mpi != "openmpi":
        pytest.skip("needs Open MPI")
    deaths = "3:2:5:compute,1:3:0:evaluation,0:4:13:compute"
    options = (*LOCAL[: -8 if more else None], "--epochs", "5", "--elastic", "--output", "run", *more)
    command = [MPIRUN, "--with-ft", "ulfm", "-np", "4", sys.executable, str(PROGRAMS / "dies_at.py"), deaths, *options]
    result = finish(popen(command, cwd=tmp_path, env=environment(TEST_JOB=str(tmp_path))), 90)
    assert result.code == 0, result.out + result.err
    run = tmp_path / "run"
    assert [r["dead"] for r in records(run) if r.get("what") == "shrink"] == [[3], [1], [0]]
    for epoch in epochs(run):
        assert sum(epoch["rows"]) + (epoch["before"] or {"rows": 0})["rows"] == 1259
        assert len(set(epoch["fingerprint"])) == 1
    assert [(epoch["before"] or {"steps": 0})["steps"] for epoch in epochs(run)] == [0, 0, 20, 7, 0]
    losses = [epoch["loss"] for epoch in epochs(run)]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("diverge", "start equal and are compared; here they differ between exchanges (mode local); use --mode"),
        ("no-effect", "sync_every: 7 has no effect in mode allreduce; leave it out, or choose --mode local"),
        (
            "apart",
            'init = "per-rank": mode local keeps parameters that are those of all ranks, so ranks cannot start apart',
        ),
    ],
)
def test_what_does_not_go_together_is_refused(batch: SharedStart, name: str, message: str) -> None:
    assert batch[name].code == 2
    assert batch[name].err.count("rankwise:") == 1
    assert message in batch[name].err


@pytest.mark.parametrize(
    ("before", "now", "effect"),
    [("allreduce", "shared", "rounding"), ("allreduce", "local", "result"), ("local", "allreduce", "result")],
)
def test_what_changes_on_the_way_is_told(before: str, now: str, effect: str) -> None:
    (found,) = changed_options(RunConfig(mode=before), RunConfig(mode=now), trained=True, anew=False)
    assert (found.name, found.effect) == ("mode", effect)
