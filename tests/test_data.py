"""Data: what is accepted, how it is split, and what is said of what is not."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.config import RunConfig
from common.data import scaling
from common.data.dataset import Dataset, check
from common.data.sources import read
from common.data.training_features import scale_alone
from common.errors import DataError
from tests.ranks import mpirun

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((60, 3)), RNG.integers(0, 3, 60)


def load(path: Path | str, **options: Any) -> Dataset:
    """Read, check and bring to the final dtype, as a job does."""
    config = RunConfig(data=str(path), **{"standardize": False, "standardize_target": False, **options})
    data = check(read(config, 0, 1), config)
    scale_alone(data, config.dtype, standardize=config.standardize)
    if not data.n_classes:
        mean, deviation = np.zeros(data.n_targets), np.ones(data.n_targets)
        if config.standardize_target:
            mean, deviation = data.target_scaling()
        data.scale_target(mean, deviation, config.dtype)
    return data


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path / "data.npz", **arrays)
    return path / "data.npz"


def csv(path: Path, text: str) -> Path:
    (path / "data.csv").write_text(text, encoding="utf-8")
    return path / "data.csv"


def test_digits_are_the_real_ones() -> None:
    from sklearn.datasets import load_digits

    data = load("digits", dtype="float64")
    theirs = load_digits()
    np.testing.assert_array_equal(data.x[:], theirs.data)
    np.testing.assert_array_equal(data.y, theirs.target)
    assert data.n_classes == 10


def test_split_is_complete_disjoint_and_stratified() -> None:
    data = load("digits")
    parts = (data.train, data.validation, data.test)
    assert sorted(np.concatenate(parts)) == list(range(1797))
    for part, fraction in zip(parts, (0.7, 0.1, 0.2), strict=True):
        counts = np.bincount(data.y[part], minlength=10)
        np.testing.assert_allclose(counts, np.bincount(data.y) * fraction, atol=1.01)
    assert not np.array_equal(load("digits", split_seed=1).test, data.test)
    np.testing.assert_array_equal(load("digits", seed=1).test, data.test)
    np.testing.assert_array_equal(load("digits").test, data.test)


def test_own_npz_with_and_without_test_rows(tmp_path: Path) -> None:
    data = load(npz(tmp_path, X=X, y=Y))
    assert (data.n_classes, len(data.test)) == (3, 12)
    data = load(npz(tmp_path, X=X, y=Y, X_test=X[:7], y_test=Y[:7]))
    assert data.test.tolist() == list(range(60, 67))
    assert len(data.train) + len(data.validation) == 60
    numbers = load(npz(tmp_path, X=X, y=X @ RNG.standard_normal((3, 2))))
    assert (numbers.n_classes, numbers.n_targets) == (0, 2)


def test_own_csv(tmp_path: Path) -> None:
    rows = "".join(f"{a},{b},{a + b}\n" for a, b in zip(range(20), range(20, 40), strict=True))
    path = csv(tmp_path, '\ufeffsize,"the price",kind\n' + rows)
    data = load(path, target="the price", loss="mse", dtype="float64")
    np.testing.assert_array_equal(data.x[:, 0], np.arange(20))
    np.testing.assert_array_equal(data.y[:, 0], np.arange(20, 40))


def test_names_in_quotes_may_hold_line_ends(tmp_path: Path) -> None:
    data = load(csv(tmp_path, '"a\nb",c\n' + "1,2\n2,1\n" * 15), target="c", loss="mse")
    np.testing.assert_array_equal(data.x[:2, 0], [1, 2])


def test_type_of_the_training_target_decides(tmp_path: Path) -> None:
    """Unsigned and signed numbers joined would be float64, and so a regression."""
    data = load(npz(tmp_path, X=X, y=Y.astype(np.uint64), X_test=X[:7], y_test=Y[:7]))
    assert (data.n_classes, data.y.dtype.name) == (3, "int64")


@pytest.mark.parametrize("parts", [1 << 20, 8])
def test_features_are_scaled_before_they_are_cast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: int) -> None:
    """Seconds since 1970 have no digits left in float32; whether the work is done in parts makes no difference."""
    monkeypatch.setattr(scaling, "NUMBERS_AT_A_TIME", parts)
    data = load(npz(tmp_path, X=1.7e9 + 50 * X, y=Y), standardize=True)
    training = X[data.train]
    expected = (X - training.mean(axis=0)) / training.std(axis=0)
    assert data.x.dtype == np.float32
    np.testing.assert_allclose(data.x[:], expected, atol=1e-6)


@pytest.mark.parametrize("value", [0.1, -1e30, 0.0, 2**60])
def test_a_constant_column_is_only_shifted(tmp_path: Path, value: float) -> None:
    noise = np.where(np.arange(60) % 2, value, np.nextafter(value, np.inf))
    x = np.column_stack([np.full(60, value), noise if value else np.zeros(60), X])
    x_test = np.column_stack([np.full(2, 2 * value), np.full(2, 2 * value), X[:2]])
    data = load(npz(tmp_path, X=x, y=Y, X_test=x_test, y_test=Y[:2]), standardize=True)
    np.testing.assert_array_equal(data.x[:60, 0], 0)
    np.testing.assert_allclose(data.x[60:, :2], value, rtol=1e-6)
    assert np.abs(data.x[:60, 1]).max() <= 1e-12 * abs(value)


def test_same_content_same_fingerprint(tmp_path: Path) -> None:
    one = load(npz(tmp_path, X=X, y=Y)).sha256
    other = X.copy()
    other[0, 0] += 1e-12
    assert load(npz(tmp_path, X=other, y=Y)).sha256 != one
    assert load(npz(tmp_path, X=X, y=Y)).sha256 == one


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({"X": X}, {}, "holds X; it takes X and y"),
        ({"X": X, "y": Y, "X_test": X}, {}, "X_test with y_test"),
        ({"X": X, "y": Y[:5]}, {}, r"y has shape \(5,\); it takes \(60,\)"),
        ({"X": X[:, 0], "y": Y}, {}, r"X has shape \(60,\); it takes \(rows, features\)"),
        ({"X": X[:0], "y": Y[:0]}, {}, "no rows"),
        ({"X": np.where(X[4, 1] == X, np.nan, X), "y": Y}, {}, "X, row 4, column 1: got nan"),
        ({"X": X, "y": X[:, 0] * np.inf}, {"loss": "mse"}, "y, row 0, column 0: got"),
        ({"X": X, "y": Y + 0.5}, {"loss": "cross-entropy"}, r"label \d\.5 of row 0 is no class label; .*: --loss mse"),
        ({"X": X, "y": Y + 0.5}, {"model": "softmax"}, r"no class label; .* \(for a regression: --model linear\)"),
        ({"X": X, "y": np.arange(60)}, {"loss": "cross-entropy"}, "60 different labels in 60 rows are too many"),
        (
            {"X": X, "y": np.ones(60)},
            {},
            r"the target is 1.0 in all 60 rows, so there .*--loss mse",
        ),
        ({"X": X, "y": np.full(60, 2.5)}, {}, r"the target is 2.5 in all 60 rows"),
        ({"X": X, "y": Y < 3}, {}, "the target is True in all 60 rows"),
        ({"X": X, "y": Y * 0}, {"model": "softmax"}, "the label is 0 in all 60 rows; classes need at least two"),
        ({"X": X, "y": Y * 0, "X_test": X[:1], "y_test": [3]}, {}, "all 54 training rows have the label 0"),
        ({"X": X, "y": X}, {"loss": "cross-entropy"}, r"y has shape \(60, 3\); labels of classes take one column"),
        ({"X": X, "y": Y, "X_test": X[:, :2], "y_test": Y}, {}, "do not fit together"),
        ({"X": X.astype(str), "y": Y}, {}, "X holds <U.*; it takes numbers"),
        ({"X": X * 1e300, "y": Y}, {}, "too large for float32; use --dtype float64"),
        ({"X": X * 1e300, "y": Y}, {"standardize": True}, "column 0: its deviation is too large for float64"),
        ({"X": X * 1e300, "y": Y}, {"standardize": True, "dtype": "float64"}, "column 0: its deviation is too large"),
        ({"X": X.astype(np.longdouble) * np.longdouble("1e400"), "y": Y}, {}, "too large for float32"),
        ({"X": X.astype(np.longdouble) * np.longdouble("1e400"), "y": Y}, {"standardize": True}, "for float64"),
        ({"X": X, "y": Y, "X_test": X[:5] * 1e300, "y_test": Y[:5]}, {"standardize": True}, "too large for float32"),
        ({"X": X, "y": X[:, 0] * 1e300}, {}, "y holds numbers too large for float32; use --dtype float64"),
        ({"X": X, "y": Y[:50], "X_test": X[:10], "y_test": Y[:20]}, {}, r"y has shape \(50,\); it takes \(60,\)"),
        ({"X": X, "y": Y, "X_test": X[:10], "y_test": Y[:20]}, {}, r"y_test has shape \(20,\); it takes \(10,\)"),
        ({"X": X, "y": Y, "X_test": X[:5], "y_test": Y[:5, None]}, {}, "do not fit together"),
        ({"X": X[:0], "y": Y[:0], "X_test": X, "y_test": Y}, {}, "no rows"),
        ({"X": X[:, :0], "y": Y}, {}, r"X has shape \(60, 0\); it takes \(rows, features\)"),
        ({"X": X[:, :, None], "y": Y}, {}, r"X has shape \(60, 3, 1\)"),
        ({"X": np.array(3.0), "y": np.array(3)}, {}, r"X has shape \(\)"),
        ({"X": X, "y": np.array(3)}, {}, r"y has shape \(\)"),
        ({"X": X, "y": Y[:, None, None]}, {}, r"y has shape \(60, 1, 1\)"),
        ({"X": X, "y": np.zeros((60, 0))}, {}, r"y has shape \(60, 0\)"),
        ({"X": X, "y": Y, "X_test": X[:5].astype("datetime64[s]"), "y_test": Y[:5]}, {}, "X_test holds datetime64"),
        ({"X": X, "y": Y, "X_test": X[:5] * np.nan, "y_test": Y[:5]}, {}, "X_test, row 0, column 0: got nan"),
        ({"X": X.astype(complex), "y": Y}, {}, "X holds complex128; it takes numbers"),
        ({"X": X, "y": Y.astype(complex)}, {}, "y holds complex128; it takes numbers"),
        ({"X": np.zeros((60, 2), [("a", "f8")]), "y": Y}, {}, "X. holds .*no plain array of numbers"),
        (
            {"X": X, "y": np.where(Y > 0, 1e300, 0)},
            {"loss": "cross-entropy"},
            r"label 1e\+300 of row .* between -2\^53 and 2\^53",
        ),
        ({"X": X, "y": X[:, 0] * 1e300}, {"standardize_target": True}, "y, column 0: its deviation is too large"),
        ({"X": X, "y": np.full(60, 2**64 - 1, np.uint64)}, {}, "the target is 18446744073709551615 in all 60 rows"),
        ({"X": X[:6], "y": Y[:6]}, {"patience": 2}, "patience: needs validation rows; raise --validation-fraction"),
        ({"X": X, "y": np.array([None] * 60)}, {}, "not a readable .npz file of plain arrays"),
    ],
)
def test_wrong_arrays_are_named(tmp_path: Path, arrays: Any, options: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(npz(tmp_path, **arrays), **options)


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("a,b\n1,2\n", "", "name the column with --target: a, b"),
        ("apple,pear\n1,2\n", "aple", r"no column 'aple' .*\(did you mean 'apple'\?\)"),
        ("a,b\n1,Paris\n", "a", "not a table of numbers .*Paris"),
        ("a,b\n1,2\n3\n", "a", "not a table of numbers"),
        ("a,b\n1,\n", "a", "not a table of numbers"),
        ("a,b\n", "a", "no rows"),
        ("a,b\n\n \n", "a", "no rows"),
        ("", "a", "no rows; the file is empty"),
        ("a,a\n1,2\n", "a", "two columns have the same name"),
        ("a,b\n1,2,3\n", "a", "2 column names, but rows of 3 numbers"),
        ("a,b\n1,2\nnan,4\n", "b", "X, row 1, column 'a': got nan"),
        ("a,b\n\x001,2\n", "b", "not a"),
    ],
)
def test_wrong_tables_are_named(tmp_path: Path, text: str, target: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(csv(tmp_path, text), target=target)


LONE_NPY = (
    b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }".ljust(127) + b"\n" + bytes(8)
)


@pytest.mark.parametrize("junk", [b"", b"PK\x03\x04junk", b"\x93NUMPY", bytes(100), LONE_NPY])
def test_broken_files_are_no_tracebacks(tmp_path: Path, junk: bytes) -> None:
    for name in ("data.npz", "data.csv"):
        (tmp_path / name).write_bytes(junk)
        with pytest.raises(DataError):
            load(tmp_path / name, target="a" if name.endswith("csv") else "")


def test_every_truncated_npz_is_refused(tmp_path: Path) -> None:
    whole = npz(tmp_path, X=X, y=Y).read_bytes()
    for cut in range(0, len(whole), 37):
        (tmp_path / "cut.npz").write_bytes(whole[:cut])
        with pytest.raises(DataError):
            load(tmp_path / "cut.npz")


@pytest.mark.parametrize("name", ["npz", ".npz", ".csv"])
def test_a_suffix_is_no_name_of_a_set(name: str) -> None:
    with pytest.raises(DataError, match=rf"unknown set '{re.escape(name)}'; choose digits"):
        load(name)


def test_missing_and_unknown_data_are_reported_differently() -> None:
    with pytest.raises(DataError, match=r"no file nowhere\.npz"):
        load("nowhere.npz")
    with pytest.raises(DataError, match=r"unknown set 'digit' \(did you mean 'digits'\?\)"):
        load("digit")


def test_a_pickle_in_an_npz_is_never_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Bomb:
        def __reduce__(self) -> Any:
            return Path.touch, (marker,)

    with pytest.raises(DataError, match="plain arrays"):
        load(npz(tmp_path, X=np.array([[Bomb()]], dtype=object), y=Y[:1]))
    assert not marker.exists()


@pytest.mark.parametrize("fault", ["found by rank 0", "found by all", "found when reading"])
def test_a_job_says_it_once(tmp_path: Path, fault: str) -> None:
    path = {
        "found by rank 0": lambda: npz(tmp_path, X=X * 1e300, y=Y),
        "found by all": lambda: npz(tmp_path, X=X, y=Y, X_test=X[:5] * 1e300, y_test=Y[:5]),
        "found when reading": lambda: csv(tmp_path, "a,b\n"),
    }[fault]()
    target = ["--target", "a"] if path.suffix == ".csv" else []
    result = mpirun(3, "-m", "workers.run", "--data", str(path), *target, cwd=tmp_path)
    assert result.code == 2
    assert result.err.startswith("rankwise: ")
    assert "rankwise:" not in result.err.split("\n", 1)[1]
    assert "Warning" not in result.err  # Open MPI's launcher adds lines of its own
    assert not (tmp_path / "runs").exists()
