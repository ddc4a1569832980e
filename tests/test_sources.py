"""Data sources: .npy files, LIBSVM's format, IDX files and functions of one's own; and what is said of broken ones."""

import gzip
import io
import os
import re
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.config import RunConfig
from common.data import held_out_files, libsvm_file, sources
from common.data.dataset import Raw, check
from common.data.idx_file import is_idx
from common.data.stacked import is_mapped
from common.errors import ConfigError, DataError, RankwiseError
from common.memory import MemoryLimitError
from tests.idx_bytes import idx
from tests.kinds import NOBODY, limited
from tests.ranks import mpirun, records
from workers.launch import run_options

DATA_PAGE = Path(__file__).parent.parent / "docs" / "data.md"
RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((60, 4)), RNG.integers(0, 3, 60)
TEXTS = np.array(["setosa", "virginica", "versicolor"])
IMAGES = RNG.integers(0, 256, (60, 4, 5)).astype(np.uint8)


def read(data: Path | str, **options: Any) -> Raw:
    """Read data, and check them as a job does."""
    config = RunConfig(data=sources.absolute(str(data)), **options)
    raw = sources.read(config, 0, 1)
    check(sources.read(config, 0, 1), config)
    return raw


def save(folder: Path, **arrays: Any) -> Path:
    """Save .npy files, with - in their names for __."""
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name.replace('__', '-')}.npy", array)
    return folder


def mnist(folder: Path, *, packed: bool = False) -> Path:
    """Write files as MNIST is shipped."""
    folder.mkdir(exist_ok=True)
    end, pack = (".gz", gzip.compress) if packed else ("", bytes)
    for name, n in (("train", 60), ("t10k", 10)):
        (folder / f"{name}-images-idx3-ubyte{end}").write_bytes(pack(idx(IMAGES[:n])))
        (folder / f"{name}-labels-idx1-ubyte{end}").write_bytes(pack(idx(Y[:n].astype(np.uint8))))
    return folder


# .npy


def test_a_pair_of_npy_files_is_named_or_found(tmp_path: Path) -> None:
    folder = save(tmp_path, X=X.astype(np.float32), y=Y, one=X, two=TEXTS[Y], inputs=X, targets=X[:, :2])
    for data in (folder / "X.npy", f"{folder}/X.npy,{folder}/y.npy"):
        raw = read(data)
        np.testing.assert_array_equal(raw.x, X.astype(np.float32))
        np.testing.assert_array_equal(raw.y, Y)
        assert is_mapped(raw.x)
        assert raw.x.dtype == np.float32
        assert raw.test is None
        assert raw.validation is None
    raw = read(f"{folder}/one.npy,{folder}/two.npy")
    assert [raw.label_names[code] for code in raw.y] == TEXTS[Y].tolist()
    assert read(folder / "inputs.npy").y.shape == (60, 2)


def test_sets_for_validation_and_test_lie_beside(tmp_path: Path) -> None:
    sets = {"X_train": X, "y_train": TEXTS[Y], "X_val": X[:7], "y_val": TEXTS[Y[:7]], "X_test": X[:9]}
    folder = save(tmp_path / "a", **sets, y_test=np.array([*TEXTS[Y[:8]], "new"]))
    for data in (folder, folder / "X_train.npy"):
        raw = read(data)
        assert raw.validation is not None
        assert raw.test is not None
        assert (len(raw.x), len(raw.validation[0]), len(raw.test[0])) == (60, 7, 9)
        assert raw.label_names == ["new", *sorted(TEXTS)]
        assert raw.label_names[raw.test[1][8]] == "new"


def test_shards_are_joined_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    parts = {f"X__{i}": X[i * 5 : i * 5 + 5] for i in range(12)} | {f"y__{i}": Y[i * 5 : i * 5 + 5] for i in range(12)}
    raw = read(save(tmp_path / "shards", **parts, X__12=X[:0], y__12=Y[:0]))
    np.testing.assert_array_equal(raw.x[:], X)
    assert is_mapped(raw.x)
    np.testing.assert_array_equal(raw.y, Y)


def npy_bytes(text: str, data: bytes) -> bytes:
    """Return an .npy file with any text for its header."""
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode() + data


HEADER = "{{'descr': '<f8', 'fortran_order': False, 'shape': {}, }}\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "X.npy: not an array of NumPy, or its header is damaged"),
        (b"\x93NUMPX rest", "not an array of NumPy, or its header is damaged"),
        (
            npy_bytes(HEADER.format("(1099511627776, 4)"), bytes(160)),
            "its header says .1099511627776, 4. of float64, which are 35,",
        ),
        (npy_bytes(HEADER.format("(60, 4)"), bytes(1919)), "its header says"),
        (npy_bytes(HEADER.format("(60, 4)"), bytes(1921)), "its header says"),
        (npy_bytes(HEADER.format("(-1, 4)"), bytes(1920)), "its header says"),
        (npy_bytes(HEADER.format("(240,)"), bytes(1920)), r"its shape is \(240,\); it takes \(rows, features\)"),
        (npy_bytes(HEADER.replace("<f8", "|O").format("(60, 4)"), bytes(1920)), "holds object; it takes numbers"),
        (npy_bytes(HEADER.replace("<f8", "<c8").format("(60, 4)"), bytes(1920)), "holds complex64; it takes numbers"),
    ],
)
def test_npy_files_that_lie_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    save(tmp_path, y=Y)
    (tmp_path / "X.npy").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path / "X.npy")


def test_npy_files_that_do_not_fit_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"X.npy has no y.npy or Y.npy beside it"):
        read(save(tmp_path / "a", X=X) / "X.npy")
    with pytest.raises(DataError, match=r"y.npy: its shape is \(5,\); it takes \(60,\), for X.npy has 60 rows"):
        read(save(tmp_path / "b", X=X, y=Y[:5]) / "X.npy")
    with pytest.raises(DataError, match=r"write --data X\.npy,y\.npy"):
        read(save(tmp_path / "c", table=X) / "table.npy")
    with pytest.raises(DataError, match="its files have features of several shapes or types"):
        read(save(tmp_path / "d", X__0=X, y__0=Y, X__1=X[:, :2], y__1=Y))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="is a folder without data that are known; choose digits"):
        read(tmp_path / "empty")
    with pytest.raises(DataError, match=r"no file .*none\.npy"):
        read(f"{tmp_path}/none.npy,{tmp_path}/y.npy")


# LIBSVM


@pytest.mark.parametrize("zero_based", [True, False])
@pytest.mark.parametrize("piece_bytes", [1 << 20, 16])
def test_libsvm_is_read_as_scikit_learn_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zero_based: bool, piece_bytes: int
) -> None:
    from sklearn.datasets import dump_svmlight_file, load_svmlight_file

    monkeypatch.setattr(libsvm_file, "PIECE_BYTES", piece_bytes)
    x = np.where(RNG.random(X.shape) < 0.5, 0, X)
    x[0, 0] = 1e-300
    path = tmp_path / "own.libsvm"
    dump_svmlight_file(x, Y - 1, str(path), zero_based=zero_based, comment="made by hand")
    theirs, labels = load_svmlight_file(str(path))
    raw = read(path)
    np.testing.assert_array_equal(raw.x, theirs.toarray())
    np.testing.assert_array_equal(raw.y, labels)
    assert raw.y.dtype == np.int64
    assert raw.notes[0].startswith(f"Features of own.libsvm are numbered from {int(not zero_based)}")
    packed = tmp_path / "own.SVM.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    np.testing.assert_array_equal(read(packed).x, raw.x)


def test_libsvm_may_have_comments_empty_lines_and_crlf(tmp_path: Path) -> None:
    (tmp_path / "a.svmlight").write_bytes(b"# c\r\n\r\n+1 1:0.5 3:-2e1 # 4:4\r\n-1\t2:.5\r\n\r\n+1" + b"\n-1 1:3" * 9)
    raw = read(tmp_path / "a.svmlight")
    np.testing.assert_array_equal(raw.x[:3], [[0.5, 0, -20], [0, 0.5, 0], [0, 0, 0]])
    assert raw.y[:3].tolist() == [1, -1, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it holds no rows"),
        ("# only this\n\n", "it holds no rows"),
        ("1\n2\n", "no row has a feature"),
        ("1 1:2\n\n2 qid:3 1:2\n", "line 3: it has qid, for ranking"),
        ("1 1:2\n1 2:1 1:2\n", "line 2: index 1 follows 2; they ascend within a line"),
        ("1 1:2\n# c\n1 2:1 2:2\n", "line 3: index 2 follows 2"),
        ("1,3 1:2\n", "line 1: it has several labels"),
        ("1 1:2\n1 a:1\n", "line 2: got 'a:1' in '1 a:1'; a row is: label index:value"),
        ("1 1:2\n1 1:2:3 4\n", "line 2: got '1:2:3'"),
        ("1 1:nan\n", "line 1: got '1:nan'"),
        ("1 1:1e999\n", "too large for float64"),
        ("1 1:1 9999999999:2\n", "index 9999999999; at most 1,000,000,000"),
        ("1 -1:1\n", "got '-1:1'"),
        ("cat 1:1\n", "line 1: got 'cat'"),
    ],
)
def test_wrong_libsvm_lines_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.libsvm").write_text(text)
    with pytest.raises(DataError, match=message):
        read(tmp_path / "a.libsvm")


def test_a_wide_libsvm_file_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a.libsvm").write_text("1 1:1\n2 999999999:1\n" * 20_000)
    with pytest.raises(MemoryLimitError, match="fewer features: zeros are stored, too"):
        read(tmp_path / "a.libsvm")


def test_a_libsvm_file_need_not_have_all_features(tmp_path: Path) -> None:
    """What a sparse file does not have is 0; what the data do not have is left out and said."""
    (tmp_path / "a.svm").write_text("+1 1:1 3:2 5:7\n-1 2:1\n" * 9)
    (tmp_path / "a.t.svm").write_text("-1 0:8 1:3 9:4\n" * 3)
    data, test = (str(tmp_path / name) for name in ("a.svm", "a.t.svm"))
    raw = held_out_files.read(RunConfig(data=data, test_data=test), 0, 1)
    assert raw.test is not None
    np.testing.assert_array_equal(raw.test[0], [[3, 0, 0, 0, 0]] * 3)
    assert raw.notes[-1] == (
        f"--test-data {test}: left out, since a.svm has no such column: 'feature 0', 'feature 6', 'feature 7', "
        "'feature 8', 'feature 9'."
    )


# IDX


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train-images-idx3-ubyte", True), ("train-images.idx3-ubyte.gz", True), ("a-idx3", True), ("a.idx2.gz", True),
        ("images-idx3-float64", True), ("samples-idx2.npz", False), ("rows.idx1.csv", False), ("a-idx3.csv.gz", False),
        ("own-idx1.parquet", False), ("idx3", False),
    ],
)  # fmt: skip
def test_the_name_of_an_idx_file_is_known(name: str, expected: bool) -> None:
    assert is_idx(name) == expected
    assert (sources.source_of(name) == "an IDX file") == expected


@pytest.mark.parametrize("packed", [True, False])
def test_idx_files_keep_their_bytes_and_find_labels_and_test_set(tmp_path: Path, packed: bool) -> None:
    folder = mnist(tmp_path / "mnist", packed=packed)
    for data in (folder, folder / ("train-images-idx3-ubyte" + ".gz" * packed)):
        raw = read(data)
        assert raw.x.dtype == np.uint8
        np.testing.assert_array_equal(raw.x, IMAGES.reshape(60, 20))
        np.testing.assert_array_equal(raw.y, Y)
        assert raw.test is not None
        np.testing.assert_array_equal(raw.test[0], IMAGES[:10].reshape(10, 20))
    assert read(folder / ("t10k-images-idx3-ubyte" + ".gz" * packed)).test is None


def test_idx_files_of_other_types_and_names(tmp_path: Path) -> None:
    values = RNG.standard_normal((60, 2, 3)).astype(">f4")
    (tmp_path / "own-images.idx3-float").write_bytes(idx(values, kind=13))
    (tmp_path / "own-labels.idx1-ubyte").write_bytes(idx(Y.astype(np.uint8)))
    with pytest.raises(DataError, match="its labels are not beside it"):
        read(tmp_path / "own-images.idx3-float")
    (tmp_path / "own-images.idx3-ubyte").write_bytes(idx(values, kind=13))
    raw = read(tmp_path / "own-images.idx3-ubyte")
    np.testing.assert_array_equal(raw.x, values.reshape(60, 6))
    assert raw.x.dtype.isnative


BIG = struct.pack(">HBB3I", 0, 8, 3, 2**31, 2**10, 2**10)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"\0\0\x08", "it begins with 00 00 08; it takes"),
        (b"P5 60 20" * 9, "it begins with 50 35 20 36"),
        (b"\0\0\x07\x03" + bytes(40), "it begins with 00 00 07 03"),
        (idx(IMAGES)[:10], "it ends within its header"),
        (idx(IMAGES)[:-1], "1,200 bytes, and 1,199 are there"),
        (idx(IMAGES) + b"x", "it goes on after the"),
        (BIG + bytes(100), "more than a file of its size can hold"),
        (gzip.compress(BIG + bytes(100)), "more than a file of its size can hold"),
        (gzip.compress(idx(IMAGES)[:-5]), r"claims \(60, 4, 5\) of uint8, 1,200 bytes, and 1,195 are there"),
        (gzip.compress(idx(IMAGES))[:-100], "its gzip stream ends in the middle"),
        (gzip.compress(idx(IMAGES))[:8], "its gzip stream ends in the middle"),
        (gzip.compress(idx(IMAGES))[:-8] + bytes(8), "its gzip stream is damaged"),
        (idx(IMAGES[:7]), r"images of shape \(7, 4, 5\), but train-labels-idx1-ubyte holds \(60,\)"),
        (idx(IMAGES.reshape(-1)), r"images of shape \(1200,\)"),
    ],
)
def test_idx_files_that_lie_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    folder = mnist(tmp_path)
    (folder / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(folder / "train-images-idx3-ubyte")


def test_labels_alone_are_not_taken_for_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="name the file of images"):
        read(mnist(tmp_path) / "train-labels-idx1-ubyte")


# a function of one's own

MODULE = """
import numpy as np

X = np.random.default_rng(0).standard_normal((40, 3))
CALLS = []

class Frame:
    columns = ["size", "age", "weight"]
    def __array__(self, dtype=None, copy=None): return X

class Sparse:
    def toarray(self): return X

def pair(): return X, np.arange(40) % 2
def placed(size, rank, more=1): CALLS.append((rank, size, more)); return X, np.arange(40) % 2
def sets(): return {"X": Frame(), "y": ["a", "b"] * 20, "X_test": X[:3], "y_test": ["a", "b", "a"],
                    "sample_weight": np.arange(40.0), "kept": np.arange(40) // 4}
def more(): return {"X": X, "y": np.arange(40) % 2, "about": None, "parts": {"a": [1, "b"]}}
def broken(): raise RuntimeError("no network")
def nothing(): return None
def sparse(): return Sparse(), X
def objects(): return X, [None] * 40
def lonely(): return {"X": X, "y": X, "X_val": X}
"""


def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> str:
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_a_function_gives_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = module(tmp_path, monkeypatch, "own_data_right")
    assert read(f"{own}:pair").x.shape == (40, 3)
    sources.read(RunConfig(data=f"{own}:placed"), 2, 3)
    import own_data_right  # type: ignore[import-not-found]

    assert own_data_right.CALLS == [(2, 3, 1)]
    assert read(f"{own}:more").x.shape == (40, 3)  # what else it returns need not be arrays
    raw = read(f"{own}:sets", group="kept")
    assert raw.test is not None
    assert (raw.feature_names, raw.label_names) == (["size", "age", "weight"], ["a", "b"])
    assert (raw.test[1].tolist(), raw.weight.sum(), len(raw.group)) == ([0, 1, 0], 780, 40)  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("broken", r"broken\(\) failed: RuntimeError: no network \(own_data_wrong.py, line \d+\)"),
        ("nothing", r"returned a NoneType; it returns \(X, y\), or a dict"),
        ("sparse", r"X is a sparse matrix; return X.toarray\(\)"),
        ("objects", "y is a list of 40 of object; it takes an array of numbers"),
        ("lonely", "holds X, X_val, y; it takes X and y"),
        ("none", "has no function none; it has pair, placed, sets"),
        ("Frame", "has no function Frame"),
    ],
)
def test_wrong_functions_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, message: str
) -> None:
    own = module(tmp_path, monkeypatch, "own_data_wrong")
    with pytest.raises(RankwiseError, match=message) as caught:
        read(f"{own}:{function}")
    assert caught.value.exit_code == 2


def test_no_function_comes_from_a_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = module(tmp_path, monkeypatch, "own_data_of_a_run")
    (tmp_path / "coordinator.msgpack").touch()
    with pytest.raises(ConfigError, match=f"data {own}:pair: .* lies in a run folder"):
        read(f"{own}:pair")


# all of them


@pytest.mark.skipif(os.getuid() != 0, reason="it takes root to be somebody else for a while")
@pytest.mark.parametrize("rights", [0o000, 0o644, 0o111])
def test_a_folder_without_rights_is_named(rights: int) -> None:
    """Whether the data are the folder or lie in it; rights to list and to open are different ones."""
    with tempfile.TemporaryDirectory(dir="/tmp") as place:  # pytest's own folders are closed to others
        top, out = Path(place), Path(place) / "out"
        top.chmod(0o755)
        folder = mnist(save(top / "closed", X=X, y=Y))
        (folder / "a.csv").write_text("a,y\n" + "1,2\n2,3\n" * 9)
        np.savez(folder / "a.npz", X=X, y=Y)
        out.mkdir()
        out.chmod(0o777)
        table = {"target": "y", "cache": "numpy"}
        names = ("X.npy", "a.npz", "a.csv", "train-images-idx3-ubyte")
        for name in names:  # so that what is imported late is there
            read(folder / name, **(table if name == "a.csv" else {}))
        folder.chmod(rights)
        for name in ("", *names):
            options = table if name == "a.csv" else {}

            def act(path: Path = folder / name, options: dict[str, str] = options) -> None:
                try:
                    read(path, **options)
                except DataError as error:
                    print(error)

            found = limited(act, out, user=NOBODY)
            assert found.code == 0, found.err
            if name and rights == 0o111:
                assert found.out == ""  # who knows what is there may open it
            else:
                what = f"the folder {folder}" if not name else str(folder / name)
                assert found.out.startswith(f"data: {what} cannot be read (Permission denied)"), found.out


def test_texts_in_an_npz_are_classes(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", X=X, y=TEXTS[Y])
    raw = read(tmp_path / "a.npz")
    assert [raw.label_names[code] for code in raw.y] == TEXTS[Y].tolist()
    np.savez(tmp_path / "b.npz", X=X, y=TEXTS[Y], X_test=X, y_test=Y)
    with pytest.raises(DataError, match=r"texts takes one column, .* got \(60,\) of <U10, \(60,\) of int64"):
        read(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", X=X, y=np.array("setosa"))
    with pytest.raises(DataError, match=r"texts takes one column, .* got \(\) of <U6"):
        read(tmp_path / "c.npz")


@pytest.mark.parametrize("own", ["validation", "test"])
def test_texts_have_the_same_codes_in_all_files(tmp_path: Path, own: str) -> None:
    """Though a file has other texts than another."""
    held, seen = np.array(["versicolor", "virginica", "other"] * 3), TEXTS[Y]
    save(tmp_path, X=X, y=seen, held=X[:9], of_held=held)
    np.savez(tmp_path / "data.npz", X=X, y=seen, X_test=X[:9], y_test=held)
    np.savez(tmp_path / "held.npz", X=X[:9], y=held)
    option: dict[str, Any] = {f"{own}_data": str(tmp_path / "held.npz")}
    for data in (tmp_path / "X.npy", tmp_path / "data.npz"):
        if own == "test" and data.suffix == ".npz":
            continue  # it has a test set
        raw = held_out_files.read(RunConfig(data=str(data), **option), 0, 1)
        sets = [(raw.y, seen), *((pair[1], held) for pair in (raw.validation, raw.test) if pair)]
        assert len(sets) == (2 if data.suffix == ".npy" else 3)
        for codes, texts in sets:
            assert [raw.label_names[code] for code in codes] == texts.tolist()
        notes = " ".join(check(raw, RunConfig()).notes)
        assert "no training row has the label 'other', which" in notes
    np.savez(tmp_path / "numbers.npz", X=X[:9], y=Y[:9])
    with pytest.raises(DataError, match=r"numbers.npz: its target is numbers, and that of X.npy is texts"):
        held_out_files.read(RunConfig(data=str(tmp_path / "X.npy"), test_data=str(tmp_path / "numbers.npz")), 0, 1)


def test_a_file_that_is_found_may_be_named(tmp_path: Path) -> None:
    """With an option, and then it is not there twice; or another one in its place."""
    folder = mnist(save(tmp_path, X_train=X, y_train=Y, X_test=X[:9], y_test=Y[:9], X_val=X[:7], y_val=Y[:7]))
    for data, test in (("X_train.npy", "X_test.npy"), ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte")):
        config = RunConfig(data=str(folder / data), test_data=str(folder / test))
        found = held_out_files.read(config, 0, 1)
        beside = sources.read(RunConfig(data=str(folder / data)), 0, 1)
        assert found.test is not None
        assert beside.test is not None
        np.testing.assert_array_equal(found.test[0], beside.test[0])
        assert (found.validation is None) == (beside.validation is None)


@pytest.mark.parametrize(
    "option", ["weight", "group", "time", "features", "drop", "categorical", "missing", "encoding"]
)
def test_an_option_that_nothing_comes_of_is_refused(tmp_path: Path, option: str) -> None:
    """Rows of one group would be in several splits, and weights would not count."""
    folder, asked = mnist(save(tmp_path, X=X, y=Y)), dict[str, Any]({option: "own"})
    (tmp_path / "a.svm").touch()
    np.savez(tmp_path / "a.npz", X=X, y=Y)
    for data in ("digits", *(str(folder / name) for name in ("X.npy", "a.svm", "train-images-idx3-ubyte"))):
        with pytest.raises(ConfigError, match=rf"^{option}: got 'own', but .*; .*leave --{option} out$"):
            sources.check_columns(RunConfig(data=data, **asked))
    if option in ("weight", "group", "time"):
        sources.check_columns(RunConfig(data="a.npz", **asked))
        with pytest.raises(DataError, match=f"{option}: no array 'own' in"):
            read(tmp_path / "a.npz", **{option: "own"})
    else:
        (tmp_path / "a.csv").write_text("a,y\n1,2\n2,3\n")
        with pytest.raises(DataError, match=rf"^{option}: got 'own', which takes a table that polars prepares"):
            read(tmp_path / "a.csv", target="y", cache="numpy", **{option: "own"})


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": np.array(["setosa"] * 60)}, r"the label is 'setosa' in all 60 rows; .* check which column it is$"),
        ({"y": np.array([f"t{i}" for i in range(60)])}, r"60 different texts in 60 rows are .* which column it is$"),
        ({"y": np.full((60, 2), 3.5)}, "the target's 2 columns are the same in all 60 rows, so there is nothing to"),
        ({"y": np.tile([1, 0], (60, 1))}, "the target's 2 columns are the same in all 60 rows"),
        ({"y": np.full((60, 1), True)}, "the target is True in all 60 rows"),
        ({"y": Y.astype("S1")}, r"y holds \|S1; it takes numbers, or texts \(of dtype str: y.astype\(str\)\)"),
        ({"y": Y.astype(object)}, r"'y' holds objects of Python; save plain numbers, or texts by array.astype\(str\)"),
        (
            {"y": Y, "X": X.reshape(60, 2, 2)},
            r"X has shape \(60, 2, 2\); .*; X.reshape\(len\(X\), -1\) makes such rows",
        ),
        ({"y": Y, "X_test": X[:0], "y_test": Y[:0]}, "X_test has no rows; leave it out"),
        ({"y": Y[:0], "X": X[:0]}, "X has no rows; there is nothing to train on"),
    ],
)
def test_odd_arrays_are_named(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "a.npz", **{"X": X, **arrays})
    with pytest.raises(DataError, match=message):
        read(tmp_path / "a.npz")


MAKE: dict[str, Callable[[Path], str]] = {
    "npy": lambda folder: str(save(folder, X=X, y=Y) / "X.npy"),
    "idx": lambda folder: str(mnist(folder)),
}


@pytest.mark.parametrize("kind", MAKE)
def test_ranks_train_on_them(tmp_path: Path, kind: str) -> None:
    data = MAKE[kind](tmp_path / "data")
    options = ["--epochs", "2", "--hidden", "4", "--output", "run"]
    result = mpirun(2, "-m", "workers.run", "--data", data, *options, cwd=tmp_path)
    assert result.code == 0, result.err
    assert records(tmp_path / "run")[0]["data"]["classes"] == 3


def test_a_lie_is_told_once_by_all_ranks(tmp_path: Path) -> None:
    path = mnist(tmp_path) / "train-images-idx3-ubyte"
    path.write_bytes(gzip.compress(BIG + bytes(100)))
    result = mpirun(2, "-m", "workers.run", "--data", str(path), cwd=tmp_path)
    assert (result.code, result.err.count("not a readable IDX file")) == (2, 1)


def test_an_npy_file_in_fortran_order_is_read_as_it_is(tmp_path: Path) -> None:
    file = io.BytesIO()
    np.save(file, np.asfortranarray(X))
    save(tmp_path, y=Y)
    (tmp_path / "X.npy").write_bytes(file.getvalue())
    np.testing.assert_array_equal(read(tmp_path / "X.npy").x, X)


def test_scikit_learns_loaders_give_data() -> None:
    raw = read("sklearn.datasets:load_wine")
    assert (raw.x.shape, raw.feature_names[0], np.unique(raw.y).tolist()) == ((178, 13), "alcohol", [0, 1, 2])
    assert raw.label_names == ["class_0", "class_1", "class_2"]
    assert read("sklearn.datasets:load_wine", loss="mse").label_names == []
    assert read("sklearn.datasets:load_diabetes").label_names == []
    assert read("sklearn.datasets:load_linnerud").target_names == ["Weight", "Waist", "Pulse"]


def test_the_function_of_the_documentation_gives_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (text,) = re.findall(r"```python\n# own_data\.py: ([^\n]*)\n(.*?)```", DATA_PAGE.read_text(), re.DOTALL)
    (tmp_path / "own_data.py").write_text(text[1])
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "own_data", raising=False)
    command = text[0].split()
    assert command[:7] == ["mpirun", "-np", "2", "python", "-m", "workers.run", "--data"]
    result = mpirun(2, *command[4:], "--epochs", "20", "--output", "run", cwd=tmp_path)
    assert result.code == 0, result.err
    header, *_, end = records(tmp_path / "run")
    assert header["data"]["rows"] == {"train": 280, "validation": 40, "test": 80}
    assert end["test_metric"] > 0.85  # of two half moons; a majority is 0.5


def test_a_function_that_only_an_earlier_run_names_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run may be somebody else's: whose data it names must be named again, or trusted."""
    saved = {"data": "own_data_of_somebody:load", "epochs": 3}
    monkeypatch.setattr(run_options, "saved_config", lambda *_: saved)
    resume = ["--resume", "run"]
    with pytest.raises(ConfigError, match="name it: --data own_data_of_somebody:load") as caught:
        run_options.parse(resume, {"allreduce": ""})
    assert caught.value.exit_code == 2
    for more in (["--data", saved["data"]], ["--trust-model"]):
        config = run_options.parse([*resume, *map(str, more)], {"allreduce": ""})
        assert isinstance(config, RunConfig)
        assert config.data == saved["data"]


@pytest.mark.parametrize(
    ("option", "value"),
    [("drop", "a"), ("features", "b"), ("categorical", "a"), ("missing", "4"), ("encoding", "latin-1")],
)
@pytest.mark.parametrize("cache", ["numpy", "auto"])
def test_options_that_need_a_prepared_table_are_not_left_out(
    tmp_path: Path, option: str, value: str, cache: str
) -> None:
    """Where polars is not there, or not asked for."""
    path = tmp_path / "t.csv"
    path.write_text("a,b,y\n1,2,3\n2,3,5\n4,1,4\n")
    shared: dict[str, Any] = {"data": str(path), "target": "y", "cache": cache}
    assert sources.read(RunConfig(**shared), 0, 1).feature_names == ["a", "b"]
    instead = "leave --cache numpy out" if cache == "numpy" else "pip install"
    with pytest.raises(
        DataError, match=f"{option}: got '{value}', which takes a table that polars prepares; {instead}"
    ):
        sources.read(RunConfig(**(shared | {option: value})), 0, 1)
