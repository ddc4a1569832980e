"""The benchmark command: its figures are there and plausible, its options are checked."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from ps.sync.modes import exact
from tests.ranks import Result, finish, mpirun, popen
from workers.benchmark.scaling import counts, karp_flatt

QUICK = ("--rounds", "3", "--steps", "20", "--batch", "24", "--layers", "12,16,3")


def bench(n: int, path: Path, *arguments: str) -> tuple[str, dict[str, Any]]:
    file = path / "figures.json"
    result = mpirun(n, "-m", "workers.bench", "--json", str(file), *arguments)
    assert result.code == 0, result.out + result.err
    return result.out, json.loads(file.read_text())


@pytest.mark.parametrize("n", [1, 3])
def test_steps_of_all_modes(n: int, tmp_path: Path) -> None:
    text, found = bench(n, tmp_path, *QUICK, "--dtype", "float64")
    assert list(found["modes"]) == exact()
    assert found["job"]["ranks"] == n
    assert found["steps"] == 20
    assert found["flops"] == 2 * 24 * (2 * 12 * 16 + 3 * 16 * 3)
    assert found["peak_flops"] > 1e8
    assert 0 < found["start"]["seconds"] < 100
    assert found["start"]["from"] != "the process"
    for mode, figures in found["modes"].items():
        assert mode in text
        assert figures["low_s"] <= figures["median_s"] <= figures["high_s"]
        assert figures["rows_per_s"] == pytest.approx(24 / figures["median_s"])
        assert set(figures["split_s"]) == {"forward", "backward", "wait", "transfer", "update"}
        assert all(seconds >= 0 for seconds in figures["split_s"].values())
        parts = figures["input_s"] + sum(figures["split_s"].values())
        assert 0.02 < parts / figures["median_s"] < 50  # others may use the machine; the units would be 1000 off
        assert figures["sent_bytes_most"] <= figures["sent_bytes_all"]
        assert 10e6 < figures["rank_peak_bytes"] < 1e9
        assert 10e6 < figures["node_bytes"] < n * 1e9
    losses = list(found["losses"].values())
    assert losses[1] < losses[0]
    assert losses[1:] == pytest.approx([losses[1]] * len(exact()), rel=1e-10)


def test_sums_of_all_modes(tmp_path: Path) -> None:
    text, found = bench(3, tmp_path, "--sync-only", "--sizes", "1e1..1e3", "--rounds", "2", "--steps", "5")
    assert [size["n"] for size in found["sizes"]] == [10, 100, 1000]
    for size in found["sizes"]:
        assert list(size["modes"]) == exact()
        for figures in size["modes"].values():
            assert figures["median_s"] > 0
            assert figures["ratio"] == pytest.approx(size["raw"]["median_s"] / figures["median_s"])
    assert "MPI_Allreduce" in text


@pytest.mark.parametrize("kind", ["strong", "weak"])
def test_scaling(kind: str, tmp_path: Path) -> None:
    text, found = bench(3, tmp_path, *QUICK, f"--{kind}", "--mode", "shared,allreduce")
    table = found["table"]
    assert [row["ranks"] for row in table] == [1, 2, 3]
    assert [row["batch"] for row in table] == ([24, 48, 72] if kind == "weak" else [24, 24, 24])
    for row in table:
        ratio = table[0]["modes"]["shared"]["median_s"] / row["modes"]["shared"]["median_s"]
        speed_up = ratio * (row["ranks"] if kind == "weak" else 1)
        assert row["modes"]["shared"]["speed_up"] == pytest.approx(speed_up)
        assert row["modes"]["shared"]["efficiency"] == pytest.approx(speed_up / row["ranks"])
    assert table[0]["modes"]["shared"]["karp_flatt"] is None
    assert "Karp-Flatt" in text


def test_regression_over_two_nodes_without_a_launcher_option(tmp_path: Path) -> None:
    _, found = bench(2, tmp_path, "--layers", "10,1", "--batch", "50", "--rows", "50", "--rounds", "2", "--steps", "5",
                     "--optimizer", "adam", "--ranks-per-node", "1")  # fmt: skip
    assert found["job"]["nodes"] == 2
    assert found["rows"] == 50


def wrong(*arguments: str) -> Result:
    result = mpirun(2, "-m", "workers.bench", *arguments)
    assert [line for line in result.err.splitlines() if line.startswith("rankwise: ")] == [result.err.splitlines()[0]]
    assert "Traceback" not in result.err
    return result


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mode", "allredce"], "mode: unknown value 'allredce' (did you mean 'allreduce'?); choose one of"),
        (["--stepz", "3"], "--steps"),
        (["--layers", "784"], "layers: got 784; allowed are at least two whole numbers"),
        (["--strong", "--weak"], "--strong and --weak: exclude each other"),
        (["--sync-only", "--sizes", "1e3,x"], "sizes: got '1e3,x'; allowed are"),
    ],
)
def test_wrong_options(arguments: list[str], message: str) -> None:
    result = wrong(*arguments)
    assert result.code == 2
    assert message in result.err


def test_too_large_a_rate_is_told(tmp_path: Path) -> None:
    result = wrong(*QUICK, "--strong", "--learning-rate", "1e30")
    assert result.code == 1
    assert "give a smaller --learning-rate" in result.err


def test_without_mpirun() -> None:
    import sys

    result = finish(popen([sys.executable, "-m", "workers.bench", *QUICK, "--mode", "shared"]))
    assert result.code == 0, result.err
    assert "Start of the process" in result.out


def test_scaling_arithmetic() -> None:
    assert counts(3) == [1, 2, 3]
    assert counts(40) == [*range(1, 9), 16, 32, 40]
    # Amdahl: a serial share of 10 % on 4 ranks
    assert math.isclose(karp_flatt(1 / (0.1 + 0.9 / 4), 4) or 0, 0.1)
    assert karp_flatt(1, 1) is None
