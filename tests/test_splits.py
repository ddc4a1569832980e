"""Which rows train, validate and test: by chance, group, time or files of their own, and never one in two of them."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.config import RunConfig
from common.data.dataset import Dataset, Raw, check
from common.data.held_out_files import check_options, read
from common.data.split_file import load_splits, save_splits
from common.errors import ConfigError, DataError
from ps.coordinator.earlier_run import known_config

RNG = np.random.default_rng(7)
N = 240
X, Y = RNG.standard_normal((N, 3)), RNG.integers(0, 3, N)
SITE = np.arange(N) // 10
GROUP = RNG.integers(0, 30, N)
SPLITS = ("train", "validation", "test")


def dataset(
    y: Any = Y, *, test: int = 0, validation: int = 0, raw: dict[str, Any] | None = None, **options: Any
) -> Dataset:
    """Return made-up data; ``test``, ``validation``: rows of sets of their own."""
    y = np.asarray(y)
    sets = [(RNG.standard_normal((n, 3)), np.resize(y, n)) if n else None for n in (validation, test)]
    return check(Raw("data", X[: len(y)], y, sets[1], validation=sets[0], **(raw or {})), RunConfig(**options))


def parts(data: Dataset) -> list[np.ndarray]:
    return [getattr(data, name) for name in SPLITS]


def check_apart(data: Dataset, n: int) -> None:
    np.testing.assert_array_equal(np.sort(np.concatenate(parts(data))), np.arange(n))


def check_no_value_twice(data: Dataset, values: np.ndarray) -> None:
    sets = [np.unique(values[rows]) for rows in parts(data)]
    assert sum(map(len, sets)) == len(np.unique(values))


def test_seeds_compare_on_one_split() -> None:
    one, other, own = (parts(dataset(seed=seed, split_seed=split)) for seed, split in ((0, 0), (5, 0), (0, 5)))
    for k in range(3):
        np.testing.assert_array_equal(one[k], other[k])
        assert not np.array_equal(one[k], own[k])


def test_a_run_of_an_earlier_version_keeps_the_split_of_its_seed() -> None:
    """--seed decided then; and the labels of several columns were numbers."""
    saved = RunConfig(seed=3).as_dict()
    for name in ("split_seed", "group", "time", "weight", "class_weight", "test_data", "validation_data"):
        del saved[name]
    header = {"data": {"classes": None, "targets": 2}}
    config = known_config(saved, header)
    assert config is not None
    assert (config.split_seed, config.loss) == (3, "mse")
    config = known_config(saved, {"data": {"classes": 3, "targets": 1}})
    assert config is not None
    assert (config.split_seed, config.loss) == (3, "auto")
    config = known_config(RunConfig(seed=3).as_dict(), header)
    assert config is not None
    assert (config.split_seed, config.loss) == (0, "auto")


@pytest.mark.parametrize("y", [Y, X[:, 0]])
@pytest.mark.parametrize("kind", ["int", "float"])
def test_rows_of_a_group_stay_together(y: np.ndarray, kind: str) -> None:
    group = GROUP * 7 - 3 if kind == "int" else GROUP / 7
    data = dataset(y, group="site", raw={"group": group})
    check_apart(data, N)
    check_no_value_twice(data, group)
    largest = np.bincount(GROUP).max()
    for rows, fraction in zip(parts(data), (0.7, 0.1, 0.2), strict=True):
        assert abs(len(rows) - N * fraction) <= largest
    assert any(re.search(r"Split by groups, because of --group site: of 30 different values", n) for n in data.notes)
    other = dataset(y, group="site", raw={"group": group}, split_seed=1)
    assert not np.array_equal(other.test, data.test)


def test_the_latest_rows_test_and_those_before_them_validate() -> None:
    time = RNG.permutation(N) / 10
    data = dataset(time="when", raw={"time": time})
    check_apart(data, N)
    train, validation, test = (time[rows] for rows in parts(data))
    assert train.max() < validation.min() <= validation.max() < test.min()
    assert (len(validation), len(test)) == (24, 48)


def test_rows_of_one_time_stay_together() -> None:
    """Days with many rows each: a cut within a day would put what happened on it into both."""
    day = np.sort(RNG.integers(0, 12, N))
    data = dataset(time="day", raw={"time": day}, test_fraction=0.25, validation_fraction=0.25)
    check_no_value_twice(data, day)
    sets = [set(day[rows]) for rows in parts(data)]
    assert max(sets[0]) < min(sets[1]) <= max(sets[1]) < min(sets[2])


@pytest.mark.parametrize("option", ["group", "time"])
@pytest.mark.parametrize(
    ("values", "fractions", "sizes"),
    [
        ([1, 1, 2, 2, 3, 3], (0.2, 0.1), (1, 1, 1)),
        ([1, 1, 1, 1, 2, 3], (0.5, 0.4), (1, 1, 1)),
        ([1, 2, 2, 2, 2, 2], (0.3, 0.0), (1, 0, 1)),
        ([1, 1, 1, 2, 2, 2], (0.0, 0.3), (1, 1, 0)),
        ([4, 4, 4, 4, 4, 4], (0.0, 0.0), (1, 0, 0)),
    ],
)
def test_every_split_that_is_asked_for_gets_a_value(
    option: str, values: list[int], fractions: tuple[float, float], sizes: tuple[int, int, int]
) -> None:
    group = np.array(values)
    options: Any = {option: "g", "raw": {option: group}}
    data = dataset(X[:6, 0], test_fraction=fractions[0], validation_fraction=fractions[1], **options)
    assert tuple(len(set(group[rows])) for rows in parts(data)) == sizes


@pytest.mark.parametrize(("n_validation", "n_test"), [(20, 0), (0, 30), (20, 30)])
def test_sets_of_their_own_stay_as_they_came(n_validation: int, n_test: int) -> None:
    data = dataset(validation=n_validation, test=n_test)
    check_apart(data, N + n_validation + n_test)
    if n_validation:
        assert data.validation.tolist() == list(range(N, N + n_validation))
    if n_test:
        assert data.test.tolist() == list(range(N + n_validation, N + n_validation + n_test))
    assert len(data.test) == n_test or abs(len(data.test) - N / 5) < 3
    assert len(data.validation) == n_validation or abs(len(data.validation) - N / 10) < 3


@pytest.mark.parametrize(
    ("options", "raw", "message"),
    [
        ({"group": "g"}, {"group": np.zeros(N)}, r"--group g has 1 different value; training and test and validation"),
        ({"time": "t"}, {"time": np.arange(N) % 2}, r"give a column of 3 or more, or set --test-fraction 0 and --val"),
        (
            {"group": "g"},
            {"group": np.where(np.arange(N) == 9, np.nan, 1)},
            r"row 9 has no value for --group g \(1 row",
        ),
        (
            {"time": "t"},
            {"time": np.where(np.arange(N) == 4, np.datetime64("NaT"), np.arange(N).astype("M8[s]"))},
            r"row 4 has no value for --time t \(1 row",
        ),
        (
            {"time": "t"},
            {"time": np.where(np.arange(N) > 9, np.nan, 1)},
            r"row 10 has no value for --time t \(230 rows",
        ),
        ({"group": "g"}, {"group": np.zeros(9)}, "group has 9 values, but there are 240 rows"),
    ],
)
def test_what_cannot_be_split_is_told(options: Any, raw: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        dataset(raw=raw, **options)


def test_a_group_in_two_sets_that_came_apart_is_refused() -> None:
    group = np.r_[GROUP, [100, 101, 5, 100]]
    with pytest.raises(DataError, match=r"1 group of --group g \(the first: 5\) have rows in the data and in the test"):
        dataset(test=4, group="g", raw={"group": group})
    dataset(test=4, group="g", raw={"group": np.r_[GROUP, [100, 101, 102, 100]]})


def test_group_and_time_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="time: does not go with --group"):
        RunConfig(group="a", time="b")


def test_rows_of_weight_0_are_in_no_split() -> None:
    weight = RNG.integers(0, 3, N)
    data = dataset(raw={"weight": weight})
    np.testing.assert_array_equal(np.sort(np.concatenate(parts(data))), np.flatnonzero(weight))


def test_row_numbers_are_kept_in_the_run_folder(tmp_path: Path) -> None:
    data = dataset(validation=20, test=30)
    save_splits(tmp_path, data)
    read = load_splits(tmp_path)
    for name in SPLITS:
        np.testing.assert_array_equal(getattr(read, name), getattr(data, name))
    assert read.given.tolist() == [N, 20, 30]
    assert read.sha256 == data.sha256


@pytest.mark.parametrize(
    "change",
    [{"train": np.array([3, 3])}, {"test": np.array([-1])}, {"test": np.array([N + 50])}, {"validation": np.zeros(3)},
     {"given": np.arange(4)}, {"train": None}],
)  # fmt: skip
def test_a_broken_file_of_row_numbers_is_told(tmp_path: Path, change: dict[str, Any]) -> None:
    save_splits(tmp_path, dataset(validation=20, test=30))
    with np.load(tmp_path / "splits.npz") as file:
        arrays = {name: array for name, array in {**file, **change}.items() if array is not None}
    np.savez(tmp_path / "splits.npz", **arrays)
    with pytest.raises(DataError, match=r"splits\.npz: "):
        load_splits(tmp_path)


def test_a_run_without_row_numbers_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="runs of earlier versions have none"):
        load_splits(tmp_path)


HELD = {"validation": "validation_data", "test": "test_data"}


def whole(**options: Any) -> Dataset:
    config = RunConfig(**options)
    check_options(config)
    return check(read(config, 0, 1), config)


def csv(path: Path, rows: slice, columns: str = "a b c y s w") -> str:
    """Write rows as a table; ``columns``: which, and in which order."""
    values = {"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "y": Y, "s": SITE, "w": np.arange(N) % 3 + 1, "z": X[:, 0]}
    table = np.column_stack([values[name][rows] for name in columns.split()])
    path.write_text(
        "\n".join([columns.replace(" ", ","), *(",".join(map(repr, row)) for row in table.tolist())]) + "\n"
    )
    return str(path)


def test_files_of_their_own_are_the_sets(tmp_path: Path) -> None:
    for name, rows in (("data", slice(100)), ("val", slice(100, 150)), ("test", slice(150, None))):
        np.savez(tmp_path / f"{name}.npz", X=X[rows], y=Y[rows], sample_weight=1 + np.arange(N)[rows] % 3)
    files = {
        option: str(tmp_path / f"{name}.npz") for name, option in (("val", HELD["validation"]), ("test", HELD["test"]))
    }
    data = whole(data=str(tmp_path / "data.npz"), **files)
    assert [len(rows) for rows in parts(data)] == [100, 50, 90]
    np.testing.assert_array_equal(data.x[data.test], X[150:])
    np.testing.assert_array_equal(data.y[data.validation], Y[100:150])
    assert data.weight is not None
    np.testing.assert_allclose(data.weight[data.test], np.resize([1, 2, 3], 90) / 2)
    data = whole(data=str(tmp_path / "data.npz"), test_data=files["test_data"])
    assert abs(len(data.validation) - 10) < 3
    assert len(data.test) == 90


def test_one_file_is_one_set(tmp_path: Path) -> None:
    """Else its rows would train and test."""
    for name, rows in (("data", slice(100)), ("held", slice(100, 150))):
        np.savez(tmp_path / f"{name}.npz", X=X[rows], y=Y[rows])
    (tmp_path / "link.npz").symlink_to("data.npz")
    data, held, link = (str(tmp_path / f"{name}.npz") for name in ("data", "held", "link"))
    both: list[tuple[dict[str, Any], str]] = [
        ({"test_data": link}, "test_data: .*data.npz is the file of --data, too, and a row must not be in two sets"),
        ({"validation_data": held, "test_data": held}, "test_data: .*held.npz is the file of --validation-data, too"),
    ]
    for options, message in both:
        with pytest.raises(ConfigError, match=message):
            check_options(RunConfig(data=data, **options))
    check_options(RunConfig(data=data, validation_data=held))


def test_columns_of_a_set_are_found_by_their_names(tmp_path: Path) -> None:
    data = whole(
        data=csv(tmp_path / "a.csv", slice(100)), target="y", weight="w", group="s", validation_fraction=0.0,
        test_data=csv(tmp_path / "b.csv", slice(100, 120), "y c z b w a s"),
    )  # fmt: skip
    np.testing.assert_array_equal(data.x, X[:120])
    np.testing.assert_array_equal(data.y, Y[:120])
    assert data.test.tolist() == list(range(100, 120))
    assert data.weight is not None
    np.testing.assert_allclose(data.weight[100:], np.resize([2, 3, 1], 20) / np.resize([2, 3, 1], 20).mean())


def test_several_columns_are_the_target(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", slice(None))
    data = whole(data=path, target="y, c", time="s")
    assert (data.task, data.target_names) == ("regression", ("y", "c"))
    np.testing.assert_array_equal(data.y, np.column_stack([Y, X[:, 2]]))
    assert data.x.shape == (N, 3)
    assert "Target: 'y' and 'c'." in data.notes
    assert SITE[data.test].min() > SITE[data.train].max()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "y,nothing"}, "target: no column 'nothing'"),
        ({"target": "y,y"}, "names a column twice"),
        ({"target": "y", "weight": "y"}, "weight: column 'y' of .* is the target already; give --weight another one"),
        ({"target": "y", "group": "sit"}, "group: no column 'sit'"),
        ({"target": "a,b,c,y,s,w"}, "no column is left to learn from"),
        ({"target": "y", "test_data": "c.csv"}, "has no column 'a', 'w', which a.csv has"),
        ({"target": "y", "test_data": "nowhere.csv"}, "^test_data: no file nowhere.csv"),
        (
            {"target": "y", "group": "s", "test_data": "d.csv"},
            r"--group s \(the first: 0.0\) have rows in the data and",
        ),
    ],
)
def test_what_does_not_fit_together_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: Any, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    csv(tmp_path / "a.csv", slice(100))
    csv(tmp_path / "c.csv", slice(100), "b c y s")
    csv(tmp_path / "d.csv", slice(5, 8))
    with pytest.raises(DataError, match=message):
        whole(data="a.csv", **options)


def test_sets_that_are_there_twice_are_told(tmp_path: Path) -> None:
    for name in ("data", "other"):
        np.savez(tmp_path / f"{name}.npz", X=X, y=Y, X_test=X, y_test=Y)
    path, other = (str(tmp_path / f"{name}.npz") for name in ("data", "other"))
    with pytest.raises(DataError, match=r"holds a test set, and --test-data .* is another"):
        whole(data=path, test_data=other)
    with pytest.raises(DataError, match="holds sets of its own"):
        whole(data=path, validation_data=other)
    with pytest.raises(ConfigError, match="test_data: --data digits has its own rows; leave --test-data out"):
        whole(data="digits", test_data=path)
