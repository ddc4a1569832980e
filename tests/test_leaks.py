"""Nothing of the rows held out is in what was trained: with anything else in their place, it has the same bits."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.ranks import SharedStart, epochs

RNG = np.random.default_rng(11)
N = 120
X, GROUP, TIME = RNG.standard_normal((N, 4)), RNG.integers(0, 20, N), RNG.permutation(N).astype(float)
Z = X @ RNG.standard_normal((4, 3))
TARGETS = {"classes": Z.argmax(axis=1), "numbers": 1e4 + Z[:, :2] * [1.0, 50.0], "labels": (Z > 0).astype(int)}
WEIGHT = RNG.uniform(1, 2, N)
HOW = ("group", "time", "chance", "sets")
OPTIONS = ["--dtype", "float64", "--hidden", "8", "--epochs", "3", "--batch-size", "7", "--test-fraction", "0.3",
           "--validation-fraction", "0.2"]  # fmt: skip
PARTS = {"": slice(60), "_val": slice(60, 90), "_test": slice(90, N)}
COLOURS = ["red", "green", "blue"]


def held_out(run: Path) -> np.ndarray:
    with np.load(run / "splits.npz") as splits:
        return np.concatenate([splits["validation"], splits["test"]])


def save(path: Path, how: str, x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> None:
    if how == "sets":
        arrays: dict[str, Any] = {
            f"{name}{end}": of[rows] for end, rows in PARTS.items() for name, of in (("X", x), ("y", y))
        }
        np.savez(path, **arrays, sample_weight=WEIGHT[PARTS[""]])
    else:
        np.savez(path, X=x, y=y, sample_weight=weight, g=GROUP, t=TIME)


def save_table(path: Path, x: np.ndarray, y: np.ndarray, colour: np.ndarray, absent: np.ndarray) -> None:
    """``absent``: rows in which the first number is missing."""
    columns: dict[str, Any] = {f"x{k}": x[:, k] for k in range(4)}
    columns["x0"] = [None if gone else value for value, gone in zip(x[:, 0].tolist(), absent, strict=True)]
    frame = pl.DataFrame({**columns, "colour": colour, "t": TIME, "y": y})
    frame.write_csv(path)


def jobs_of(folder: Path, data: list[str]) -> SharedStart:
    def options(name: str) -> Iterator[str]:
        yield from ["--data", str(folder / name), *OPTIONS]
        yield from {"group": ["--group", "g"], "time": ["--time", "t"]}.get(name.split("-", maxsplit=1)[0], [])
        yield from ["--target", "y", "--time", "t"] if name.endswith(".csv") else []

    named = {Path(name).stem: (2, ["-m", "workers.run", *options(name)]) for name in data}
    return SharedStart(folder / "runs", named)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> SharedStart:
    folder = tmp_path_factory.mktemp("plain")
    names = [f"{how}-{task}.npz" for how in HOW for task in TARGETS]
    for name in names:
        how, task = name.removesuffix(".npz").split("-")
        save(folder / name, how, X, TARGETS[task], WEIGHT)
    colour = np.resize(COLOURS, N)
    absent = np.zeros(N, bool)
    absent[np.argsort(TIME)[:50:7]] = True
    for name, where in (("gaps.csv", absent), ("whole.csv", absent & False)):
        save_table(folder / name, X, TARGETS["numbers"][:, 0], colour, where)
    return jobs_of(folder, [*names, "gaps.csv", "whole.csv"])


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory, plain: SharedStart) -> SharedStart:
    """Return the same jobs, with everything else in the rows that those have held out."""
    folder, rng = tmp_path_factory.mktemp("changed"), np.random.default_rng(5)
    names = [f"{how}-{task}.npz" for how in HOW for task in TARGETS]
    for name in names:
        how, task = name.removesuffix(".npz").split("-")
        held = held_out(plain.run(f"{how}-{task}"))
        x, y, weight = X.copy(), TARGETS[task].copy(), WEIGHT.copy()
        x[held] = rng.standard_normal((len(held), 4)) * [1e30, 1.0, 0.0, -1e6]
        if how != "chance" or task != "classes":  # classes are split by their labels
            y[held] = rng.permutation(y)[: len(held)] * (1e6 if task == "numbers" else 1)
        weight[held] *= np.linspace(1, 1000, len(held))
        save(folder / name, how, x, y, weight)
    for name in ("gaps", "whole"):
        held = held_out(plain.run(name))
        x, y, colour = X.copy(), TARGETS["numbers"][:, 0].copy(), np.resize(COLOURS, N)
        x[held], y[held], colour[held] = -1e9 * x[held] + 7, 1e6, COLOURS[2]
        absent = np.zeros(N, bool)
        absent[np.argsort(TIME)[:50:7]] = name == "gaps"
        absent[held[::3]] = True
        save_table(folder / f"{name}.csv", x, y, colour, absent)
    return jobs_of(folder, [*names, "gaps.csv", "whole.csv"])


def same_bits(one: Path, other: Path) -> None:
    assert np.array_equal(held_out(one), held_out(other))
    with np.load(one / "model.npz") as first, np.load(other / "model.npz") as second:
        for name in {*first.files, *second.files} - {"facts", "x_kept"}:  # places among features that may be more
            assert first[name].tobytes() == second[name].tobytes(), name
    assert epochs(one)[-1]["loss"] == epochs(other)[-1]["loss"]
    assert epochs(one)[-1]["validation_loss"] != epochs(other)[-1]["validation_loss"]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("task", TARGETS)
def test_nothing_leaks_out_of_arrays(plain: SharedStart, changed: SharedStart, task: str, how: str) -> None:
    """Values, extreme ones among them, targets and weights."""
    same_bits(plain.run(f"{how}-{task}"), changed.run(f"{how}-{task}"))


@pytest.mark.parametrize("name", ["gaps", "whole"])
def test_nothing_leaks_out_of_tables(plain: SharedStart, changed: SharedStart, name: str) -> None:
    """Missing numbers too, where training rows have some or none, and categories."""
    same_bits(plain.run(name), changed.run(name))
