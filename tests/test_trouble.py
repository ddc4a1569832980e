"""Steps that go wrong: left out together, repaired, or the end of the job, with the culprit's name."""

from pathlib import Path

import numpy as np
import pytest

from tests.ranks import PROGRAMS, SharedStart, epochs, program, records

FAULTY = str(PROGRAMS / "faulty.py")
SMALL = ("--hidden", "16", "--epochs", "3", "--batch-size", "50", "--dtype", "float64")
COPIES = [("allreduce", 0), ("send-recv", 0), ("shared", 1), ("factors", 1)]
"""Modes, with so many ranks a node that there are copies of the parameters."""


def jobs() -> dict[str, tuple[int, list[str]]]:
    """Return all jobs of this file by name: ranks and arguments."""

    def faulty(n: int, fault: str, rank: int, epoch: int, step: int, *more: str) -> tuple[int, list[str]]:
        return n, [FAULTY, fault, str(rank), str(epoch), str(step), *SMALL, *more]

    too_many = ("--nonfinite", "skip", "--nonfinite-most", "4", "--learning-rate", "1e30", "--optimizer", "sgd")
    named = {
        "too-many": (2, ["-m", "workers.run", *SMALL, *too_many]),
        "drift": faulty(3, "drift", 1, 1, 3),
        "drift-of-two": faulty(2, "drift", 1, 1, 3, "--heal"),
    }
    for mode, nodes in COPIES:
        named[f"skip-{mode}"] = faulty(2, "nan-gradient", 1, 2, 5, "--mode", mode, "--nonfinite", "skip")
        options = ("--mode", mode, "--ranks-per-node", str(nodes))
        named[f"whole-{mode}"] = (3, ["-m", "workers.run", *SMALL, *options])
        named[f"drift-after-{mode}"] = faulty(3, "drift-after", 2, 1, 26, *options, "--heal")
        named[f"flip-{mode}"] = faulty(3, "flip", 1, 2, 12, *options, "--heal")
    return named


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> SharedStart:
    """Return how the jobs ended, all of which end by themselves."""
    return SharedStart(tmp_path_factory.mktemp("trouble"), jobs())


def events(folder: Path, what: str) -> list[dict[str, object]]:
    return [r for r in records(folder) if r["kind"] == "event" and r["what"] == what]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_step_that_is_left_out_leaves_nothing_behind(n: int) -> None:
    assert program(n, "skips.py").out == f"ok {n}\n"


@pytest.mark.parametrize("mode", [mode for mode, _ in COPIES])
def test_a_step_that_is_not_finite_is_left_out_and_counted(batch: SharedStart, mode: str) -> None:
    run = batch.run(f"skip-{mode}")
    (skip,) = events(run, "skip")
    assert (skip["epoch"], skip["step"]) == (2, 5)
    assert list(skip["not_finite"]) == ["1"]  # type: ignore[call-overload]
    found = epochs(run)
    assert [record["skipped"] for record in found] == [0, 1, 0]
    assert [sum(record["rows"]) for record in found] == [1259, 1209, 1259]


def test_too_many_in_a_row_end_the_job(batch: SharedStart) -> None:
    result = batch["too-many"]
    assert result.code == 1
    assert "not finite in 4 steps in a row" in result.err
    assert result.err.count("rankwise:") == 1
    assert len(events(batch.folder / "2" / "too-many", "skip")) == 4


def model(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "model.npz", allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files if name != "facts"}


@pytest.mark.parametrize("mode", [mode for mode, _ in COPIES])
def test_the_minority_is_repaired_from_the_majority(batch: SharedStart, mode: str) -> None:
    """The drift comes after an epoch's last step, so nobody has computed with it when it is found."""
    healed = batch.run(f"drift-after-{mode}")
    (heal,) = events(healed, "heal")
    assert heal["ranks"] == [2]
    assert heal["parameters"] == {"2": ["W1"]}
    expected, found = model(batch.run(f"whole-{mode}")), model(healed)
    for name, value in expected.items():  # the majority won: nothing of the drift is left
        np.testing.assert_allclose(found[name], value, rtol=1e-10, atol=1e-13, err_msg=name)


@pytest.mark.parametrize("mode", [mode for mode, _ in COPIES])
def test_a_bit_repaired_in_the_middle_of_an_epoch_leaves_no_trace(batch: SharedStart, mode: str) -> None:
    """It is found in the step in which it flipped, which is taken again."""
    healed = batch.run(f"flip-{mode}")
    (heal,) = events(healed, "heal")
    assert (heal["epoch"], heal["step"], heal["ranks"]) == (2, 12, [1])
    expected, found = model(batch.run(f"whole-{mode}")), model(healed)
    assert {name: value.tobytes() for name, value in found.items()} == {n: v.tobytes() for n, v in expected.items()}


def test_without_heal_the_job_ends_and_names_rank_parameter_and_step(batch: SharedStart) -> None:
    result = batch["drift"]
    assert result.code == 1
    assert "parameters: not the same on all ranks at epoch 1" in result.err
    assert "rank 1 on" in result.err
    assert "W1" in result.err
    assert "--heal repairs them" in result.err
    assert result.err.count("rankwise:") == 1


def test_two_ranks_have_no_majority(batch: SharedStart) -> None:
    result = batch["drift-of-two"]
    assert result.code == 1
    assert "no majority" in result.err
