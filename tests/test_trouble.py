"""Steps that go wrong: left out together, repaired, or the end of the job, with the culprit's name."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.ranks import PROGRAMS, Result, epochs, mpirun, program, records

FAULTY = str(PROGRAMS / "faulty.py")
SMALL = ("--hidden", "16", "--epochs", "3", "--batch-size", "50", "--dtype", "float64")


def faulty(n: int, folder: Path, fault: str, rank: int, epoch: int, step: int, *arguments: str) -> Result:
    place = [fault, str(rank), str(epoch), str(step)]
    return mpirun(n, FAULTY, *place, *SMALL, *arguments, "--output", str(folder))


def events(folder: Path, what: str) -> list[dict[str, object]]:
    return [r for r in records(folder) if r["kind"] == "event" and r["what"] == what]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_step_that_is_left_out_leaves_nothing_behind(n: int) -> None:
    assert program(n, "skips.py").out == f"ok {n}\n"


@pytest.mark.parametrize("mode", ["allreduce", "send-recv", "shared", "factors"])
def test_a_step_that_is_not_finite_is_left_out_and_counted(tmp_path: Path, mode: str) -> None:
    result = faulty(2, tmp_path / "run", "nan-gradient", 1, 2, 5, "--mode", mode, "--nonfinite", "skip")
    assert result.code == 0, result.err
    (skip,) = events(tmp_path / "run", "skip")
    assert (skip["epoch"], skip["step"]) == (2, 5)
    assert list(skip["not_finite"]) == ["1"]  # type: ignore[call-overload]
    found = epochs(tmp_path / "run")
    assert [record["skipped"] for record in found] == [0, 1, 0]
    assert [sum(record["rows"]) for record in found] == [1259, 1209, 1259]


def test_too_many_in_a_row_end_the_job(tmp_path: Path) -> None:
    options = ("--nonfinite", "skip", "--nonfinite-most", "4", "--learning-rate", "1e30", "--optimizer", "sgd")
    result = mpirun(2, "-m", "workers.run", *SMALL, *options, "--output", str(tmp_path / "run"))
    assert result.code == 1
    assert "not finite in 4 steps in a row" in result.err
    assert result.err.count("rankwise:") == 1
    assert len(events(tmp_path / "run", "skip")) == 4


def model(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "model.npz", allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


@pytest.mark.parametrize(("mode", "nodes"), [("allreduce", 0), ("send-recv", 0), ("shared", 1), ("factors", 1)])
def test_the_minority_is_repaired_from_the_majority(
    tmp_path: Path, mode: str, nodes: int, job: Callable[..., Result]
) -> None:
    """The drift comes after an epoch's last step, so nobody has computed with it when it is found."""
    options = ("--mode", mode, "--ranks-per-node", str(nodes), "--heal")
    result = faulty(3, tmp_path / "healed", "drift-after", 2, 1, 26, *options)
    assert result.code == 0, result.err
    (heal,) = events(tmp_path / "healed", "heal")
    assert heal["ranks"] == [2]
    assert heal["parameters"] == {"2": ["W1"]}
    whole = job(3, *SMALL, "--mode", mode, "--ranks-per-node", str(nodes))
    assert whole.code == 0, whole.err
    expected, found = model(tmp_path / "run"), model(tmp_path / "healed")
    for name, value in expected.items():  # the majority won: nothing of the drift is left
        np.testing.assert_allclose(found[name], value, rtol=1e-10, atol=1e-13, err_msg=name)


@pytest.mark.parametrize(("mode", "nodes"), [("allreduce", 0), ("send-recv", 0), ("shared", 1), ("factors", 1)])
def test_a_bit_repaired_in_the_middle_of_an_epoch_leaves_no_trace(
    tmp_path: Path, mode: str, nodes: int, job: Callable[..., Result]
) -> None:
    """It is found in the step in which it flipped, which is taken again."""
    options = ("--mode", mode, "--ranks-per-node", str(nodes))
    result = faulty(3, tmp_path / "healed", "flip", 1, 2, 12, *options, "--heal")
    assert result.code == 0, result.err
    (heal,) = events(tmp_path / "healed", "heal")
    assert (heal["epoch"], heal["step"], heal["ranks"]) == (2, 12, [1])
    whole = job(3, *SMALL, *options)
    assert whole.code == 0, whole.err
    expected, found = model(tmp_path / "run"), model(tmp_path / "healed")
    assert {name: value.tobytes() for name, value in found.items()} == {n: v.tobytes() for n, v in expected.items()}


def test_without_heal_the_job_ends_and_names_rank_parameter_and_step(tmp_path: Path) -> None:
    result = faulty(3, tmp_path / "run", "drift", 1, 1, 3)
    assert result.code == 1
    assert "parameters: not the same on all ranks at epoch 1" in result.err
    assert "rank 1 on" in result.err
    assert "W1" in result.err
    assert "--heal repairs them" in result.err
    assert result.err.count("rankwise:") == 1


def test_two_ranks_have_no_majority(tmp_path: Path) -> None:
    result = faulty(2, tmp_path / "run", "drift", 1, 1, 3, "--heal")
    assert result.code == 1
    assert "no majority" in result.err
