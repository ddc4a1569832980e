"""A job that was stopped or killed goes on as if nothing had happened."""

import copy
import math
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from common.config import RunConfig
from common.errors import LogError, RankwiseError
from common.flat import Flat
from common.nn import optimizers
from common.run_files import LOG_NAME
from ps.findings.detectors import Findings
from ps.logfile.reader import LogReader
from ps.logfile.records import encode
from ps.sync.modes import exact
from tests.fuzz.targets import ABOUT, HEADER
from tests.ranks import (
    MPIRUN,
    PROGRAMS,
    Result,
    SharedStart,
    epochs,
    finish,
    kill_all,
    mpirun,
    popen,
    records,
    wait_until,
)
from workers.checkpoint import checkpoint_file
from workers.checkpoint.checkpoint_file import Snapshot
from workers.checkpoint.resume import open_origin
from workers.launch.run_options import saved_config

SMALL = ("--hidden", "16", "--batch-size", "50", "--epochs", "4", "--dtype", "float64")


def run(n: int, folder: Path, *arguments: str) -> Result:
    result = mpirun(n, "-m", "workers.run", *arguments, *(() if "--resume" in arguments else ("--output", str(folder))))
    assert result.code == 0, result.err
    return result


def parameters(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "model.npz", allow_pickle=False) as arrays:
        return {name: array for name, array in arrays.items() if array.dtype.kind != "U"}  # facts are of each run


def same_bits(one: Path, other: Path) -> bool:
    a, b = parameters(one), parameters(other)
    return a.keys() == b.keys() and all(a[name].tobytes() == b[name].tobytes() for name in a)


def close(one: Path, other: Path) -> None:
    a, b = parameters(one), parameters(other)
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=1e-10, atol=1e-13)


def killed_copy(done: Path, copy: Path, epoch: int, checkpoint: str) -> Path:
    """Make of a run what SIGKILL would have left: a log torn behind an epoch, and a checkpoint from before."""
    shutil.copytree(done, copy)
    for path in copy.iterdir():
        if path.name not in ("coordinator.msgpack", "config.toml", checkpoint):
            path.unlink()
    log = copy / "coordinator.msgpack"
    reader = LogReader(log)
    for record in reader.records():
        if record["kind"] == "epoch" and record["epoch"] == epoch:
            break
    log.write_bytes(log.read_bytes()[: reader.offset + 7])
    return copy


@dataclass(frozen=True, slots=True)
class Case:
    """A run on 3 or fewer ranks that is killed behind an epoch, and resumed on ``then`` from a checkpoint before."""

    options: tuple[str, ...]
    n: int = 3
    then: int = 3
    epoch: int = 3
    """The last one in the log; 0: the last but one of the run."""
    step: int = 10
    """Of the checkpoint; 0: that after ``epoch``."""


SAME = {
    f"{mode}-{optimizer}": (mode, optimizer, more)
    for mode, optimizer, more in (
        *((mode, "adam", ()) for mode in (*exact(), "auto")),
        ("allreduce", "sgd", ("--rows", "shard", "--shards", "by-rank")),
        ("shared", "nesterov", ("--ranks-per-node", "2", "--clip", "0.1")),
        ("factors", "adamw", ("--ranks-per-node", "2")),
        ("send-recv", "momentum", ("--clip", "0.1")),
    )
}
OTHERS = [("allreduce", 1), ("allreduce", 2), ("shared", 4), ("factors", 1), ("sharded", 2)]
OTHER_SHARDS = [("allreduce", 2), ("factors", 4)]
BEST = [("allreduce", "64"), ("shared", "64"), ("sharded", "64"), ("factors", "0")]


def cases() -> dict[str, Case]:
    same = ("--hidden", "64", "--batch-size", "300", "--epochs", "4", "--dtype", "float64", "--keep", "9",
            "--schedule", "warmup-cosine", "--checkpoint-every", "1")  # fmt: skip
    best = ("--hidden", "16", "--epochs", "12", "--patience", "3", "--learning-rate", "0.05",
            "--checkpoint-every", "1", "--keep", "20")  # fmt: skip
    found = {}
    for name, (mode, optimizer, more) in SAME.items():
        found[f"same-{name}"] = Case((*same, "--mode", mode, "--optimizer", optimizer, *more))
    for mode, n in OTHERS:
        found[f"other-{mode}-{n}"] = Case((*SMALL, "--mode", mode, "--checkpoint-every", "2"), then=n, epoch=2, step=52)
    for mode, n in OTHER_SHARDS:
        shards = (*SMALL, "--mode", mode, "--rows", "shard", "--checkpoint-every", "2")
        found[f"shards-{mode}-{n}"] = Case(shards, then=n, epoch=2, step=52)
    for mode, batch in BEST:
        found[f"best-{mode}"] = Case((*best, "--mode", mode, "--batch-size", batch), 2, 2, epoch=0, step=0)
    return found


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path]]:
    """Return the run of a case as it is undisturbed, and killed and resumed. Runs of as many ranks share a start."""
    folder = tmp_path_factory.mktemp("resumed")
    every = cases()
    wholes = SharedStart(folder, {name: (case.n, ["-m", "workers.run", *case.options]) for name, case in every.items()})
    killed = {name: folder / "killed" / name for name in every}
    resumes = {name: (case.then, ["-m", "workers.run", "--resume", str(killed[name])]) for name, case in every.items()}
    again = SharedStart(folder / "again", resumes)

    def both(name: str) -> tuple[Path, Path]:
        whole = wholes.run(name)
        for other, case in every.items():
            if not killed[other].exists() and wholes[other].code == 0:
                last = epochs(wholes.run(other))[-1]
                epoch = case.epoch or last["epoch"] - 1
                killed_copy(
                    wholes.run(other), killed[other], epoch, f"checkpoint-{case.step or last['steps'] * epoch}.npz"
                )
        assert again[name].code == 0, again[name].err
        return whole, killed[name]

    return both


@pytest.mark.parametrize("name", SAME)
def test_the_same_number_of_ranks_ends_with_the_same_bits(
    resumed: Callable[[str], tuple[Path, Path]], name: str
) -> None:
    whole, killed = resumed(f"same-{name}")
    assert same_bits(whole, killed)
    events = [r for r in records(killed) if r["kind"] == "event" and r["what"] == "resume"]
    assert [(r["epoch"], r["ranks_before"], r["ranks"]) for r in events] == [(3, 3, 3)]
    assert [r["epoch"] for r in epochs(killed)] == [1, 2, 3, 3, 4]
    assert [r["loss"] for r in epochs(killed)][-1] == epochs(whole)[-1]["loss"]


@pytest.mark.parametrize(
    ("name", "mode", "n"), [*(("other", *one) for one in OTHERS), *(("shards", *one) for one in OTHER_SHARDS)]
)
def test_another_number_of_ranks_ends_within_rounding(
    resumed: Callable[[str], tuple[Path, Path]], name: str, mode: str, n: int
) -> None:
    whole, killed = resumed(f"{name}-{mode}-{n}")
    close(whole, killed)
    assert [len(r["rows"]) for r in epochs(killed)] == [3, 3, n, n]


@pytest.mark.parametrize("mode", [mode for mode, _ in BEST])
def test_the_best_parameters_are_kept_across_a_resume(resumed: Callable[[str], tuple[Path, Path]], mode: str) -> None:
    whole, killed = resumed(f"best-{mode}")
    last = epochs(whole)[-1]
    with np.load(whole / f"checkpoint-{last['steps'] * (last['epoch'] - 1)}.npz") as arrays:
        assert "kept/W1" in arrays.files
    assert same_bits(whole, killed)
    assert records(killed)[-1]["best_epoch"] == records(whole)[-1]["best_epoch"]


@pytest.mark.parametrize("mode", ["allreduce", "shared"])
def test_a_signal_in_the_middle_of_an_epoch(tmp_path: Path, mode: str) -> None:
    """The stop is anywhere in an epoch; what is left of it is trained, and every row is used exactly once."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    run(2, whole, *SMALL, "--mode", mode)
    command = [str(PROGRAMS / "faulty.py"), "term", "1", "2", "9", *SMALL, "--mode", mode, "--output", str(stopped)]
    assert mpirun(2, *command).code == 75
    assert (stopped / "checkpoint-35.npz").exists()  # 26 steps of the first epoch, 9 of the second
    assert records(stopped)[-1]["status"] == "stopped"
    run(2, stopped, "--resume", str(stopped))
    assert same_bits(whole, stopped)
    found = epochs(stopped)
    assert [r["epoch"] for r in found] == [1, 2, 3, 4]
    assert found[1]["before"]["steps"] == 9
    assert [sum(r["rows"]) + (r["before"] or {"rows": 0})["rows"] for r in found] == [sum(found[0]["rows"])] * 4
    assert found[1]["loss"] == pytest.approx(epochs(whole)[1]["loss"], rel=1e-12)


def test_a_kill_in_the_middle_of_training(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    options = ("--hidden", "300", "--epochs", "60", "--checkpoint-minutes", "0.003", "--dtype", "float64")
    run(2, whole, *options)
    command = [MPIRUN, "-np", "2", sys.executable, "-m", "workers.run", *options, "--output"]
    for attempt in range(5):  # where other processes have the cores, the job may be done before it is killed
        killed = tmp_path / f"killed-{attempt}"
        process = popen([*command, str(killed)])
        wait_until(lambda place=killed: list(place.glob("checkpoint-*.npz")), "no checkpoint")  # type: ignore[misc]
        kill_all(str(killed))
        if finish(process).code:
            break
    run(2, killed, "--resume", str(killed))
    assert same_bits(whole, killed)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("done") / "run"
    run(2, folder, *SMALL, "--checkpoint-every", "1", "--keep", "3")
    return folder


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, done: Path) -> None:
    killed = killed_copy(done, tmp_path / "killed", epoch=4, checkpoint="checkpoint-78.npz")
    (killed / "checkpoint-104.npz").write_bytes((done / "checkpoint-104.npz").read_bytes()[:-100])
    result = run(2, killed, "--resume", str(killed))
    assert "checkpoint-104.npz" in result.err
    assert same_bits(done, killed)


def refused(n: int, *arguments: str, cwd: Path) -> str:
    result = mpirun(n, "-m", "workers.run", *arguments, cwd=cwd)
    assert result.code in (1, 2), result.out
    assert result.err.count("rankwise:") == 1
    assert "Traceback" not in result.err
    return result.err


def test_other_options_and_data_are_refused(tmp_path: Path, done: Path) -> None:
    killed = killed_copy(done, tmp_path / "killed", epoch=2, checkpoint="checkpoint-52.npz")
    before = (killed / "coordinator.msgpack").read_bytes()
    said = refused(2, "--resume", str(killed), "--hidden", "32", "--seed", "1", cwd=tmp_path)
    assert "--hidden: got 32, the run has 16 (the saved parameters are of that model)" in said
    assert "--seed: got 1, the run has 0 (rows of the epoch would be used twice" in said
    said = refused(2, "--resume", str(done), cwd=tmp_path)
    assert f"{done} is done: it has trained its 4 epochs; to train on, give more: --epochs 8; for a new run" in said
    assert "is of epoch 2; give at least 2" in refused(2, "--resume", str(killed), "--epochs", "1", cwd=tmp_path)
    assert "no log at" in refused(2, "--resume", "nowhere", cwd=tmp_path)
    assert (killed / "coordinator.msgpack").read_bytes() == before


OTHER_KINDS: tuple[object, ...] = (None, 3, "x", [], {})
FORGED: list[tuple[str, object]] = [
    *((place, value) for place in ("position", "coordinator", "counts", "skipped") for value in OTHER_KINDS),
    *((f"position.{name}", value) for name in ("epoch", "steps", "rows") for value in (None, 1.5, True, -1, 2**60)),
    ("position.epoch", 0),
    ("position.steps", 10_000),
    ("position.closed", 1),
    ("position.loss_sum", "1"),
    ("mode", "alreduce"),
    ("mode", ["allreduce"]),
    ("world", 0),
    ("world", "2"),
    ("counts.t", 1.5),
    ("skipped", [0, 0]),
    ("skipped", [0, 0, None]),
    *((f"coordinator.{name}", "x") for name in ("epochs", "best_loss", "best_epoch", "noise", "elapsed_s")),
    ("coordinator.noise", [0.0, None]),
    *(
        (place, value)
        for value in (math.nan, math.inf, -math.inf)
        for place in ("position.loss_sum", "coordinator.best_loss", "coordinator.elapsed_s")
    ),
    *(("coordinator.noise", [0.0, value]) for value in (math.nan, math.inf)),
]


@pytest.mark.parametrize(("place", "value"), FORGED)
def test_forged_values_are_refused(tmp_path: Path, place: str, value: object) -> None:
    """Checksums are right, and what they cover is of a kind that no job writes."""
    (tmp_path / LOG_NAME).write_bytes(encode(HEADER))
    about: dict[str, Any] = copy.deepcopy(ABOUT)
    *way, name = place.split(".")
    inner = about
    for key in way:
        inner = inner[key]
    inner[name] = value
    shapes = {"W1": (3, 2), "b1": (2,)}
    arrays: dict[str, Any] = {f"{kind}/{k}": np.ones(s) for kind in ("parameters", "m", "v") for k, s in shapes.items()}
    checkpoint_file.save(tmp_path, Snapshot(5, arrays, about), keep=1)
    flat = Flat(shapes, np.dtype(np.float64))
    adam = optimizers.build(RunConfig(optimizer="adam"), [flat.param_vector])
    state: Any = SimpleNamespace(flat=flat, optimizer=adam, vectors=lambda: list(adam.state().items()))
    with pytest.raises(RankwiseError, match=r"^resume: .*checkpoint-5.npz"):
        open_origin(tmp_path, RunConfig()).checkpoint.saved_state(state, 13)  # type: ignore[union-attr]


def test_a_forged_checkpoint_is_one_message(tmp_path: Path, done: Path) -> None:
    killed = killed_copy(done, tmp_path / "killed", epoch=2, checkpoint="checkpoint-52.npz")
    snapshot = checkpoint_file.load(killed / "checkpoint-52.npz")
    forged: dict[str, Any] = {
        "position": {**snapshot.about["position"], "epoch": "2"},
        "counts": {"t": 1, "u": 1},
    }
    for place, value in forged.items():
        checkpoint_file.save(killed, Snapshot(52, snapshot.arrays, {**snapshot.about, place: value}), keep=1)
        said = refused(2, "--resume", str(killed), cwd=tmp_path)
        assert "checkpoint-52.npz" in said
        assert "about.position.epoch" in said if place == "position" else "another optimizer's" in said


@pytest.mark.parametrize("left", [b"", encode(HEADER)[:-9]])
def test_a_log_that_was_not_begun_is_refused_with_what_to_do(tmp_path: Path, left: bytes) -> None:
    """A kill between making the log and writing its first record leaves it."""
    (tmp_path / LOG_NAME).write_bytes(left)
    for read in (lambda: saved_config(str(tmp_path), ""), lambda: open_origin(tmp_path, RunConfig())):
        with pytest.raises(RankwiseError, match=r"^resume: .* holds no record: .* start a new run") as caught:
            read()
        assert LOG_NAME in str(caught.value)


@pytest.mark.parametrize(
    "forged", [{}, {"code": "straggler"}, {"ranks": [1]}, {"code": 1, "ranks": [1]}, {"code": "x", "ranks": 3},
               {"code": "x", "ranks": [[1]]}, {"code": "x", "ranks": ["1"]}]
)  # fmt: skip
def test_a_forged_verdict_is_an_error_of_the_log(tmp_path: Path, forged: dict[str, object]) -> None:
    log = tmp_path / LOG_NAME
    verdict = {"kind": "verdict", "seq": 1, "t": 1.0}
    findings = Findings({**HEADER, "config": {"epochs": 1}, "nodes": [], "threads": {"set_by": ""}})
    log.write_bytes(encode(HEADER) + encode({**verdict, "code": "straggler", "ranks": [1]}))
    findings.recall(log)
    assert findings.reported == {("straggler", (1,))}
    assert findings.not_judged()["loss-stalled"] == "fewer than 20 epochs since the run was continued"
    log.write_bytes(encode(HEADER) + encode({**verdict, **forged}))
    with pytest.raises(LogError, match="verdict with"):
        findings.recall(log)


@pytest.mark.slow
def test_changed_data_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((60, 3)), rng.integers(0, 2, 60)
    data, folder = tmp_path / "own.npz", tmp_path / "run"
    np.savez(data, allow_pickle=False, X=x, y=y)
    run(2, folder, "--data", str(data), *SMALL, "--checkpoint-every", "1")
    killed = killed_copy(folder, tmp_path / "killed", epoch=2, checkpoint="checkpoint-2.npz")
    moved = killed_copy(folder, tmp_path / "moved", epoch=2, checkpoint="checkpoint-2.npz")
    data.rename(tmp_path / "elsewhere.npz")
    said = refused(2, "--resume", str(killed), cwd=tmp_path)
    assert f"no file {data}" in said
    assert "if the data of the resumed run lie elsewhere now, name the place with --data" in said
    run(2, moved, "--resume", str(moved), "--data", str(tmp_path / "elsewhere.npz"))
    assert same_bits(folder, moved)
    event = next(r for r in records(moved) if r.get("what") == "resume")
    assert [(change["name"], change["effect"]) for change in event["changes"]] == [("data", "none")]
    then = records(killed)[0]["data"]["sha256"]
    x[0, 0] += 1
    np.savez(data, allow_pickle=False, X=x, y=y)
    said = refused(2, "--resume", str(killed), cwd=tmp_path)
    assert f"data {data} is not what the run was trained on (SHA-256 {then[:12]}... in the run, " in said
    assert f"give the place of those data with --data, or start a new run from its parameters: --from {killed}" in said
    said = refused(2, "--resume", str(killed), "--data", "digits", cwd=tmp_path)
    assert "data digits is not what the run was trained on" in said
    assert "features 3 in the run, 64 now" in said
    assert "rows train 42, validation 6, test 12 in the run, train 1259, validation 179, test 359 now" in said


def test_more_epochs_may_be_asked_for(tmp_path: Path, done: Path) -> None:
    killed = killed_copy(done, tmp_path / "killed", epoch=4, checkpoint="checkpoint-104.npz")
    run(2, killed, "--resume", str(killed), "--epochs", "6")
    whole = tmp_path / "whole"
    run(2, whole, *SMALL[:4], "--epochs", "6", *SMALL[6:])
    assert same_bits(whole, killed)


def test_auto_takes_the_newest_that_can_go_on_or_begins(tmp_path: Path, job: Callable[..., Result]) -> None:
    result = mpirun(2, "-m", "workers.run", *SMALL, "--resume", "auto", "--checkpoint-every", "1", cwd=tmp_path)
    assert result.code == 0, result.err
    (first,) = (path for path in (tmp_path / "runs").iterdir() if not path.is_symlink())
    killed = killed_copy(first, tmp_path / "runs" / "killed", epoch=2, checkpoint="checkpoint-104.npz")
    assert not list(killed.glob("model.npz"))
    result = mpirun(2, "-m", "workers.run", *SMALL, "--resume", "auto", "--checkpoint-every", "1", cwd=tmp_path)
    assert result.code == 0, result.err
    assert same_bits(first, killed)
    result = mpirun(2, "-m", "workers.run", *SMALL, "--resume", "auto", "--output", str(killed), cwd=tmp_path)
    assert "is done: it has trained its 4 epochs" in result.err
