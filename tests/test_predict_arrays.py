"""Files and folders that are no tables, as FILE of predict and evaluate: each reads what was written, on any ranks."""

import gzip
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.datasets import dump_svmlight_file

from common.data import libsvm_file
from common.data.prepared_file import Prepared as PreparedFolder
from common.data.preprocessing import Category, Number, Preprocessing
from common.errors import DataError
from common.flat import Array
from common.nn.model_file import BLOCK, ModelFile
from tests.idx_bytes import idx
from tests.linear_models import classes_model, numbers_model
from tests.small_table import prepare_table
from workers.prediction import inputs, opening
from workers.prediction.prepared_columns import converter
from workers.prediction.rows import Asked, Block
from workers.preparation import byte_pieces
from workers.preparation.encode import cells

RNG = np.random.default_rng(5)
N = 2 * BLOCK + 77
IMAGES = RNG.integers(0, 256, (N, 2, 2)).astype(np.uint8)
LABELS = RNG.integers(0, 3, N).astype(np.uint8)
WEIGHTS = RNG.normal(size=(4, 3))
Read = Callable[..., list[Block]]


@pytest.fixture
def model(tmp_path: Path) -> ModelFile:
    """Return a model of the labels 3, 4 and 9 for rows of four numbers."""
    (tmp_path / "model").mkdir()
    return classes_model(tmp_path / "model", WEIGHTS, np.array([3, 4, 9]))


def blocks(data: object, model: ModelFile, size: int = 1, **asked: Any) -> list[Block]:
    """Return the rows of all ranks, as a job reads them."""
    given = inputs.look_at(str(data))
    opening.check_asked(given, model, Asked(**asked))
    rows = opening.open_alone(str(data), model, Asked(**asked))
    return [block for rank in range(size) for block in rows.blocks(rank, size)]


def of(name: str, read: list[Block]) -> Array:
    parts = [getattr(block, name) for block in read]
    return np.concatenate(parts)


def mnist(folder: Path, *, packed: bool) -> Path:
    """Write a training set of IDX files, and a test set of its last 50 rows."""
    folder.mkdir()
    end, pack = (".gz", gzip.compress) if packed else ("", bytes)
    labels = np.array([3, 4, 9], np.uint8)[LABELS]
    for name, rows in (("train", slice(0, N)), ("t10k", slice(N - 50, N))):
        (folder / f"{name}-images-idx3-ubyte{end}").write_bytes(pack(idx(IMAGES[rows])))
        (folder / f"{name}-labels-idx1-ubyte{end}").write_bytes(pack(idx(labels[rows])))
    return folder


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("size", [1, 3, 7])
def test_idx_files_are_rows_of_bytes_with_the_labels_beside(
    model: ModelFile, tmp_path: Path, size: int, packed: bool
) -> None:
    folder, end = mnist(tmp_path / "mnist", packed=packed), ".gz" * packed
    flat = IMAGES.reshape(N, 4).astype(float)
    for data in (folder, folder / f"train-images-idx3-ubyte{end}"):
        read = blocks(data, model, size, wants_y=True)
        assert np.array_equal(of("x", read), flat)
        assert np.array_equal(of("y", read), LABELS)
    read = blocks(folder / f"t10k-images-idx3-ubyte{end}", model, size, wants_y=True)
    assert np.array_equal(of("x", read), flat[-50:])
    assert np.array_equal(of("y", read), LABELS[-50:])
    assert len(of("x", blocks(folder, model, size, which="test"))) == 50
    (folder / f"train-labels-idx1-ubyte{end}").unlink()
    assert len(of("x", blocks(folder, model))) == N  # to predict, no labels are needed
    with pytest.raises(DataError, match="its labels are not beside it"):
        blocks(folder, model, wants_y=True)
    shutil.rmtree(folder)


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_that_lie_are_refused_by_whoever_reads_the_place(
    model: ModelFile, tmp_path: Path, packed: bool
) -> None:
    path = tmp_path / "a-images-idx3-ubyte"
    pack = gzip.compress if packed else bytes
    for content, words in (
        (idx(IMAGES)[:-1], "and 2,355 are there"),
        (idx(IMAGES) + b"x", "it goes on after"),
        (b"", "it is empty"),
        (struct.pack(">HBB3I", 0, 8, 3, 2**31, 2**10, 2**10), "more than a file of its size can hold"),
    ):
        path.write_bytes(pack(content))
        for size in (1, 3):
            with pytest.raises(DataError, match=words) as error:
                blocks(path, model, size)
            assert str(path) in str(error.value)
    path.write_bytes(gzip.compress(idx(IMAGES))[:-40])
    with pytest.raises(DataError, match="gzip stream ends in the middle"):
        blocks(path, model)


@pytest.mark.parametrize("size", [1, 3, 7])
def test_npy_files_alone_in_pairs_and_in_folders(model: ModelFile, tmp_path: Path, size: int) -> None:
    x, y = RNG.normal(size=(N, 4)), np.array([3, 4, 9])[LABELS]
    folder = tmp_path / "sets"
    folder.mkdir()
    arrays = {"X-000": x[:100], "y-000": y[:100], "X-001": x[100:], "y-001": y[100:], "X_test": x[:9], "y_test": y[:9]}
    for name, array in {**arrays, "new": np.asfortranarray(x), "true": y[:, None]}.items():
        np.save(folder / f"{name}.npy", array)
    for data in (folder, f"{folder}/new.npy,{folder}/true.npy"):
        read = blocks(data, model, size, wants_y=True)
        assert np.array_equal(of("x", read), x)
        assert np.array_equal(of("y", read), LABELS)
    assert np.array_equal(of("x", blocks(folder / "new.npy", model, size)), x)
    assert np.array_equal(of("y", blocks(folder / "X_test.npy", model, size, wants_y=True)), LABELS[:9])
    read = blocks(folder, model, size, wants_y=True, which="test")
    assert np.array_equal(of("x", read), x[:9])
    with pytest.raises(DataError, match=r"holds features alone; to evaluate, name X and y: new\.npy,TARGET\.npy"):
        blocks(folder / "new.npy", model, wants_y=True)
    with pytest.raises(DataError, match="has no set validation; it has data and test"):
        blocks(folder, model, which="validation")
    with pytest.raises(DataError, match=r"is an \.npy file, which holds one set"):
        blocks(folder / "new.npy", model, which="test")
    (folder / "y_test.npy").unlink()
    with pytest.raises(DataError, match=r"X_test\.npy: holds features alone without y_test\.npy or Y_test\.npy beside"):
        blocks(folder, model, wants_y=True, which="test")
    np.save(folder / "X-001.npy", x[100:, :3])
    with pytest.raises(DataError, match=r"X-001\.npy has the shape \(489, 3\)"):
        blocks(folder, model)


def test_the_sets_of_an_npz_file(model: ModelFile, tmp_path: Path) -> None:
    path, y = tmp_path / "sets.npz", np.array(["3", "4", "9"])[LABELS]
    x = RNG.normal(size=(N, 4))
    arrays: dict[str, Any] = {"X": x, "y": y, "X_test": x[:9], "y_test": y[:9], "sample_weight": np.full(N, 2.0)}
    np.savez(path, allow_pickle=False, **arrays)
    rows = opening.open_alone(str(path), model, Asked(wants_y=True))
    assert rows.notes == [f"{path}: of its sets data is taken; --set test takes another."]
    read = list(rows.blocks(0, 1))
    assert np.array_equal(of("y", read), LABELS)
    assert np.array_equal(of("weight", read), arrays["sample_weight"])
    (block,) = blocks(path, model, wants_y=True, which="test")
    assert np.array_equal(block.x, x[:9])
    assert block.weight is None  # those of the data say nothing of others
    with pytest.raises(DataError, match="holds no w_test"):
        blocks(path, model, wants_y=True, which="test", weight="w")
    np.savez(path, X_test=x, y_test=y)
    assert len(of("x", blocks(path, model))) == N
    np.savez(path, Z=x)
    with pytest.raises(DataError, match="holds no X; it has Z"):
        blocks(path, model)


def libsvm_model(folder: Path, n: int, first: int) -> ModelFile:
    return numbers_model(folder, n, [libsvm_file.NAME.format(i) for i in range(first, first + n)])


@pytest.mark.parametrize("size", [1, 3, 70])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("first", [0, 1])
def test_libsvm_files_are_what_scikit_learn_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int, packed: bool, size: int
) -> None:
    """Numbered as in training, though the file alone would not tell; a feature beyond those is left out."""
    monkeypatch.setattr("workers.prediction.rows.BLOCK_BYTES", 1 << 12)
    monkeypatch.setattr(byte_pieces, "BLOCK_BYTES", 1 << 12)
    model = libsvm_model(tmp_path, 6, first)
    x = np.where(RNG.random((N, 7)) < 0.4, np.round(RNG.normal(size=(N, 7)), 3), 0)
    x[:, 0] = 0
    y = RNG.normal(size=N)
    path = tmp_path / "new.libsvm"
    dump_svmlight_file(x, y, str(path), zero_based=first == 0, comment="no rows\nthese")
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    if packed:
        path = tmp_path / "new.libsvm.gz"
        path.write_bytes(gzip.compress((tmp_path / "new.libsvm").read_bytes()))
    read = blocks(path, model, size, wants_y=True)
    assert np.array_equal(of("x", read), x[:, :6])
    assert np.allclose(of("y", read)[:, 0], y, rtol=1e-14)
    assert sum(block.beyond for block in read) == np.count_nonzero(x[:, 6])
    assert np.allclose(model.predict(of("x", read)), x[:, :6].sum(axis=1))


def test_a_fault_in_a_libsvm_file_is_told_by_its_line(tmp_path: Path) -> None:
    model, path = libsvm_model(tmp_path, 3, 1), tmp_path / "new.svm"
    path.write_text("".join(f"{i} 1:{i} 3:0.5\n" for i in range(1000)) + "7 2:wide\n")
    with pytest.raises(DataError, match=r"new\.svm: .*line 1001: got '2:wide'"):
        blocks(path, model, 3)
    path.with_suffix(".svm.gz").write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(DataError, match=r"line 1001: got '2:wide'"):
        blocks(path.with_suffix(".svm.gz"), model, 3)
    path.write_text("1 0:3 2:1\n")
    with pytest.raises(DataError, match="it has the index 0, but in training features were numbered from 1"):
        blocks(path, model)
    for given, words in (({"weight": "w"}, "holds no weights"), ({"targets": ["a"]}, "a LIBSVM file, no table")):
        with pytest.raises(DataError, match=words):
            blocks(path, model, **given)


def test_features_without_names_are_numbered_as_the_file_has_them(tmp_path: Path) -> None:
    model, path = numbers_model(tmp_path, 3), tmp_path / "new.svm"
    for text, expected in (("1 1:3 2:1\n", [3, 1, 0]), ("1 0:3 2:1\n", [3, 0, 1])):
        path.write_text(text)
        assert of("x", blocks(path, model)).tolist() == [expected]


def test_what_is_no_file_of_rows_is_refused_in_one_sentence(model: ModelFile, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.xlsx").write_bytes(b"")
    np.save(tmp_path / "one.npy", 3.0)
    np.save(tmp_path / "wide.npy", np.zeros((3, 5)))
    np.save(tmp_path / "none.npy", np.zeros((0, 4)))
    np.save(tmp_path / "texts.npy", np.array(["a", "b"]))
    np.save(tmp_path / "pickled.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "long.npy").write_bytes((tmp_path / "wide.npy").read_bytes()[:-8])
    for name, words in {
        "none": "no file", "empty": "a folder without files that are known", "a.xlsx": "allowed is a name that ends",
        "one.npy": "no rows", "wide.npy": r"the shape \(3, 5\); the model takes \(rows, 4\)", "none.npy": "no rows",
        "texts.npy": "it takes numbers", "pickled.npy": "it takes numbers", "long.npy": "damaged or cut off",
        "one.npy/x.csv": "no file",
    }.items():  # fmt: skip
        with pytest.raises(DataError, match=words) as error:
            blocks(tmp_path / name, model)
        assert "\n" not in str(error.value)


def test_numbers_of_a_table_may_come_as_an_array(tmp_path: Path) -> None:
    """Of which the same is taken off as of the table's cells: a time in seconds would be rounded to minutes else."""
    columns = Preprocessing((Number("at", offset=1.7e9), Number("size")))
    model = numbers_model(tmp_path, 2, columns.features(), preprocessing=columns)
    np.save(tmp_path / "x.npy", np.array([[1.7e9 + 3, 1], [1.7e9 + 5, np.nan]]))
    (block,) = blocks(tmp_path / "x.npy", model)
    assert np.array_equal(block.x, np.array([[3, 1], [5, np.nan]]), equal_nan=True)
    assert block.missing == 1


# prepared folders


def features_of(folder: Path, name: str, frame: pl.DataFrame) -> tuple[Preprocessing, Array]:
    """Return how a table is prepared, and its features."""
    frame.with_columns(price=pl.Series(RNG.normal(size=len(frame)))).write_csv(folder / f"{name}.csv")
    found = prepare_table(folder / f"{name}.csv", {"target": "price"})
    return found.plan.preprocessing, found.arrays["x"]


def drawn(n: int, towns: list[str], *, late: bool) -> pl.DataFrame:
    """Return rows: ``late`` ones have dates in two years, missing numbers, and towns that are missing."""
    days = RNG.integers(0, 700 if late else 300, n)
    town = [None if late and i % 9 == 0 else towns[i % len(towns)] for i in range(n)]
    size = [None if late and i % 7 == 0 else float(v) for i, v in enumerate(np.round(RNG.normal(size=n), 2))]
    frame = pl.DataFrame({"town": town, "size": size, "at": np.round(RNG.normal(size=n), 2) + 1e9 * (1 + late)})
    return frame.with_columns(day=pl.Series(np.datetime64("2023-01-01") + days.astype("timedelta64[D]")))


def test_a_folder_that_was_prepared_apart_has_the_features_of_the_model(tmp_path: Path) -> None:
    """Other texts, other flags of what is missing, another offset: as if the model had read the table."""
    columns, _ = features_of(tmp_path, "train", drawn(90, ["Bern", "Ulm", "Rome"], late=False))
    new = drawn(80, ["Ulm", "Oslo", "Bern"], late=True)
    own, x = features_of(tmp_path, "new", new)
    assert own != columns
    model = numbers_model(tmp_path, len(columns.features()), columns.features(), preprocessing=columns)
    folder = PreparedFolder(tmp_path / "new", {"files": [{"path": "new.csv"}]}, own)
    found, unknown = converter(folder, model)(x.astype(float))
    expected = columns.encode(cells(new, columns.columns), "float64")
    assert np.allclose(found, expected, rtol=1e-6, atol=1e-6, equal_nan=True)
    assert unknown == {"town": sum(town == "Oslo" for town in new["town"])}
    same = PreparedFolder(tmp_path / "train", {"files": []}, columns)
    assert np.array_equal(converter(same, model)(expected)[0], expected, equal_nan=True)


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ([Number("b")], "has no column 'a'.*give the table itself"),
        ([Category("a", ("x", "y")), Number("b")], "column 'a' became other features"),
    ],
)
def test_a_folder_without_the_features_of_the_model_is_refused(tmp_path: Path, own: list[Any], words: str) -> None:
    model = numbers_model(tmp_path, 2, ["a", "b"])
    folder = PreparedFolder(tmp_path, {"files": [{"path": "new.csv"}]}, Preprocessing(tuple(own)))
    with pytest.raises(DataError, match=words):
        converter(folder, model)
