"""workers.predict and workers.evaluate: from a file to predictions and their worth, with any number of ranks."""

import csv
import gzip
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn import metrics

from common.data.preprocessing import MISSING, UNKNOWN
from common.errors import DataError
from common.nn.model_file import ModelFile
from tests.idx_bytes import idx
from tests.linear_models import numbers_model
from tests.ranks import SharedStart, finish, mpirun, popen, program, records
from workers.prediction.inputs import TABLE, Input
from workers.prediction.plain_rows import PlainRows
from workers.prediction.rows import Asked
from workers.prediction.truth import class_codes
from workers.preparation import checked_cells
from workers.preparation.cells import DATES
from workers.preparation.encode import as_seconds

ROOT = Path(__file__).parent.parent
PREDICT = str(ROOT / "workers" / "predict.py")
TOWNS = ["Bern", 'a "quoted", town', "Ulm\nline"]


def table(path: Path, n: int, seed: int, extra: str = "note") -> pl.DataFrame:
    """Write rows with texts, dates and missing numbers; return them."""
    rng = np.random.default_rng(seed)
    town, size = rng.choice(TOWNS, n), np.round(rng.normal(size=n) * 10 + 50, 3)
    kind = np.where(size + 10 * (town == "Bern") > 53, "big", 'sm,"all')
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["town", "size", "day", "kind", extra, "price"])
        for i in range(n):
            shown = "" if i % 13 == 5 else size[i]
            out.writerow([town[i], shown, f"2024-0{1 + i % 9}-0{1 + i % 7}", kind[i], i % 3, round(100 * size[i], 1)])
    return pl.read_csv(path)


def written(text: str, separator: str = ",") -> pl.DataFrame:
    """Return a text of predictions as a frame; polars leaves doubled quotes in the names of columns."""
    found = pl.read_csv(text.encode(), separator=separator)
    found.columns = next(csv.reader([text.partition("\n")[0]], delimiter=separator))
    return found


def images_to_test(folder: Path) -> Path:
    return folder / "idx" / "t10k-images-idx3-ubyte.gz"


@dataclass
class Trained:
    """Runs and files that all tests share. ``x``: features of ``numbers``, two columns of targets behind them."""

    folder: Path
    start: SharedStart
    new: pl.DataFrame

    @property
    def kinds(self) -> Path:
        return self.start.run("kinds")

    @property
    def images(self) -> Path:
        return self.start.run("images")

    @property
    def numbers(self) -> Path:
        return self.start.run("numbers")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Train on two ranks, and predict on them in the same start."""
    folder = tmp_path_factory.mktemp("predict")
    table(folder / "train.csv", 600, 1)
    new = table(folder / "new.csv", 777, 2, extra="other")
    new.write_parquet(folder / "new.parquet")
    (folder / "new.tsv.gz").write_bytes(gzip.compress(new.write_csv(separator="\t").encode()))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(700, 4)) * 5 + 3
    y = x @ rng.normal(size=(4, 2)) * [1, 300] + 7
    np.savez(folder / "numbers.npz", X=x, y=y)
    np.save(folder / "x.npy", x[:301])
    (folder / "idx").mkdir()
    for set_name, n_images in (("train", 300), ("t10k", 90)):
        labels = (np.arange(n_images) % 3 + 4).astype(np.uint8)
        images = np.clip(rng.normal(labels[:, None, None] * 30, 20, (n_images, 4, 4)), 0, 255).astype(np.uint8)
        for word, array in (("images", images), ("labels", labels)):
            path = folder / "idx" / f"{set_name}-{word}-idx{array.ndim}-ubyte.gz"
            path.write_bytes(gzip.compress(idx(array)))
    runs = folder / "2"
    options = ["-m", "workers.run", "--hidden", "16", "--epochs"]
    from_table = ["--data", str(folder / "train.csv"), "--target", "kind", "--drop", "price,note"]
    proba = ["--proba"]
    named = {
        "kinds": [*options, "8", *from_table],
        "numbers": [*options, "5", "--data", str(folder / "numbers.npz"), "--dtype", "float64"],
        "images": [*options, "5", "--data", str(folder / "idx")],
        "p.csv": [PREDICT, str(runs / "kinds"), str(folder / "new.csv"), "--output", str(folder / "two.csv"), *proba],
        "p.npz": [PREDICT, str(runs / "numbers"), str(folder / "numbers.npz"), "--output", str(folder / "two.npz")],
        "p.parquet": [
            PREDICT, str(runs / "kinds"), str(folder / "new.parquet"), "--proba", "--output",
            str(folder / "two.parquet"),
        ],
        "p.idx": [
            PREDICT, str(runs / "images"), str(images_to_test(folder)), "--output", str(folder / "idx.csv"), *proba,
        ],
    }  # fmt: skip
    return Trained(folder, SharedStart(folder, {name: (2, given) for name, given in named.items()}), new)


def run(*arguments: object) -> tuple[int, str, str]:
    result = finish(popen([sys.executable, *map(str, arguments)]))
    return result.code, result.out, result.err


def test_predictions_are_those_of_the_model_in_the_order_of_the_file(trained: Trained) -> None:
    result = trained.start["p.csv"]
    assert result.code == 0, result.err
    assert "1 column not used" not in result.out  # of "other" and "price" there are two
    assert "2 columns not used, since the model was trained without: 'other' and 'price'." in result.out
    assert "Predicted 777 rows; 60 missing values are taken as the mean" in result.out
    found = written((trained.folder / "two.csv").read_text())
    assert found.columns == ["kind", "p(big)", 'p(sm,"all)']
    model = ModelFile.load(trained.kinds / "model.npz")
    columns = model.facts.preprocessing
    assert columns is not None
    days = trained.new["day"].str.to_datetime("%Y-%m-%d").dt.epoch("s").to_numpy().astype(float)
    towns = next(column for column in columns.columns if column.name == "town")
    cells = {"town": towns.codes(trained.new["town"]), "size": trained.new["size"].to_numpy(), "day": days}  # type: ignore[union-attr]
    assert np.allclose(found[:, 1:].to_numpy(), model.predict_proba(model.encode(cells)), atol=1e-6)
    assert found["kind"].to_list() == model.predict_table(cells).tolist()
    assert metrics.accuracy_score(trained.new["kind"], found["kind"]) > 0.85


def test_any_number_of_ranks_writes_the_same_bytes(trained: Trained) -> None:
    for suffix, n in (("csv", 3), ("npz", 1)):
        assert trained.start[f"p.{suffix}"].code == 0
        data = trained.folder / {"csv": "new.csv", "npz": "numbers.npz"}[suffix]
        name = {"csv": "kinds", "npz": "numbers"}[suffix]
        out = trained.folder / f"other.{suffix}"
        proba = ["--proba"] * (suffix == "csv")
        result = mpirun(n, "-m", "workers.predict", str(trained.start.run(name)), str(data), "-o", str(out), *proba)
        assert result.code == 0, result.err
        two = trained.folder / f"two.{suffix}"
        if suffix == "csv":
            assert out.read_bytes() == two.read_bytes()
        else:
            assert np.array_equal(np.load(out)["prediction"], np.load(two)["prediction"])


def test_every_kind_of_file_holds_the_same(trained: Trained) -> None:
    assert trained.start["p.parquet"].code == 0, trained.start["p.parquet"].err
    first = written((trained.folder / "two.csv").read_text())
    others = [pl.read_parquet(trained.folder / "two.parquet")]
    for source, name in (("new.tsv.gz", "o.tsv.gz"), ("new.csv", "o.csv.gz")):
        code, _, error = run(
            "-m", "workers.predict", trained.kinds, trained.folder / source, "--proba", "-o", trained.folder / name
        )
        assert code == 0, error
        packed = (trained.folder / name).read_bytes()
        others.append(written(gzip.decompress(packed).decode(), "\t" if "tsv" in name else ","))
    code, out, error = run(
        "-m", "workers.predict", trained.kinds / "model.npz", trained.folder / "new.csv", "--proba", "-o", "-"
    )
    assert code == 0
    assert "rankwise: Predicted 777 rows" in error  # not where the predictions go
    others.append(written(out))
    for other in others:
        assert other.columns == first.columns
        assert other["kind"].to_list() == first["kind"].to_list()
        assert np.allclose(other[:, 1:].to_numpy(), first[:, 1:].to_numpy(), rtol=1e-5)
    model = ModelFile.load(trained.numbers / "model.npz")
    code, _, error = run(
        "-m", "workers.predict", trained.numbers, trained.folder / "x.npy", "-o", trained.folder / "predicted.npy"
    )
    assert code == 0, error
    assert np.allclose(
        np.load(trained.folder / "predicted.npy"), model.predict(np.load(trained.folder / "x.npy")), rtol=1e-12
    )


def test_idx_files_are_predicted_and_evaluated_as_the_test_set_that_they_are(trained: Trained) -> None:
    """Training has seen them as its test set: the figures are those that it ended with."""
    assert trained.start["p.idx"].code == 0, trained.start["p.idx"].err
    found = pl.read_csv(trained.folder / "idx.csv")
    images = np.frombuffer(gzip.decompress(images_to_test(trained.folder).read_bytes()), np.uint8, offset=16)
    model = ModelFile.load(trained.images / "model.npz")
    assert found[:, 0].to_list() == model.predict(images.reshape(90, 16)).tolist()
    assert np.allclose(found[:, 1:].to_numpy().sum(axis=1), 1, rtol=1e-14)
    assert found.columns[1:] == ["p(4)", "p(5)", "p(6)"]
    result = mpirun(3, "-m", "workers.evaluate", str(trained.images), str(images_to_test(trained.folder)), "--json")
    assert result.code == 0, result.err
    scores, end = json.loads(result.out), records(trained.images)[-1]
    assert scores["metrics"] == pytest.approx(end["test"]["metrics"], rel=1e-6)
    assert (scores["rows"], scores["matrix"]) == (90, end["test"]["matrix"])
    assert scores["metrics"]["accuracy"] == metrics.accuracy_score(np.arange(90) % 3 + 4, found[:, 0])


def test_a_folder_that_was_prepared_apart_scores_as_its_table(trained: Trained, tmp_path: Path) -> None:
    folder, table = tmp_path / "prepared", trained.folder / "new.csv"
    result = mpirun(2, "-m", "workers.prepare", str(table), "-o", str(folder), "--target", "kind")
    assert result.code == 0, result.err
    scores = []
    for data in (folder, table):
        code, out, error = run("-m", "workers.evaluate", trained.kinds, data, "--json")
        assert code == 0, error
        scores.append(json.loads(out))
    assert scores[0]["metrics"] == pytest.approx(scores[1]["metrics"], rel=1e-5)
    assert scores[0]["matrix"] == scores[1]["matrix"]
    code, out, error = run("-m", "workers.predict", trained.kinds, folder, "-o", folder / "x.npy")
    assert (code, out) == (2, "")
    assert "x.npy is a file that is read" in error


def test_unknown_texts_are_counted(trained: Trained, tmp_path: Path) -> None:
    trained.new.with_columns(town=pl.col("town").replace({"Bern": "Rome"})).write_csv(tmp_path / "new.csv")
    code, out, error = run("-m", "workers.predict", trained.kinds, tmp_path / "new.csv", "-o", tmp_path / "out.csv")
    assert code == 0, error
    n = int((trained.new["town"] == "Bern").sum())
    assert f"{n} texts that training did not see, taken as none of the known ones ('town' {n})" in out


@pytest.mark.parametrize("n", [1, 3])
def test_evaluation_is_that_of_scikit_learn(trained: Trained, n: int) -> None:
    assert trained.start["p.csv"].code == 0
    result = mpirun(n, "-m", "workers.evaluate", str(trained.kinds), str(trained.folder / "new.csv"), "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    predicted = pl.read_csv(trained.folder / "two.csv")
    true, labels, p = trained.new["kind"].to_list(), ["big", 'sm,"all'], predicted[:, 1:].to_numpy()
    assert found["metrics"] == pytest.approx(
        {
            "accuracy": metrics.accuracy_score(true, predicted["kind"]),
            "balanced accuracy": metrics.balanced_accuracy_score(true, predicted["kind"]),
            "log-loss": metrics.log_loss(true, p, labels=labels),
            "ROC AUC": metrics.roc_auc_score(np.array(true) == labels[1], p[:, 1]),
        },
        rel=1e-9,
    )
    assert found["matrix"] == metrics.confusion_matrix(true, predicted["kind"], labels=labels).tolist()
    assert [line["label"] for line in found["by_class"]] == labels
    assert found["baseline"]["of"] in [f"always {label}" for label in labels]


def test_test_rows_score_as_at_the_end_of_training(trained: Trained) -> None:
    """Again from the data, for classes of texts and for two targets of numbers."""
    for path in (trained.kinds, trained.numbers):
        end = records(path)[-1]
        assert end["test"]["rows"] == records(path)[0]["data"]["rows"]["test"]
        code, out, error = run("-m", "workers.evaluate", path, "--json")
        assert code == 0, error
        found = json.loads(out)
        assert found["metrics"] == pytest.approx(end["test"]["metrics"], rel=1e-6)
        assert found["baseline"]["metrics"] == pytest.approx(end["test"]["baseline"]["metrics"], rel=1e-6)
    assert end["test"]["metrics"]["R2"] == pytest.approx(end["test_metric"], rel=1e-6)
    assert len(end["test"]["points"]["true"]) == end["test"]["rows"]
    assert len(end["test"]["by_target"]) == 2


def test_evaluation_of_arrays_with_weights_and_of_a_label_that_only_the_file_has(
    trained: Trained, tmp_path: Path
) -> None:
    with np.load(trained.folder / "numbers.npz") as file:
        x, y = file["X"][:90], file["y"][:90]
    k = np.arange(90) % 3
    np.savez(tmp_path / "weighted.npz", X=x, y=y, w=k)
    np.savez(tmp_path / "repeated.npz", X=np.repeat(x, k, axis=0), y=np.repeat(y, k, axis=0))
    scores = []
    for name, more in (("weighted", ["--weight", "w"]), ("repeated", [])):
        code, out, error = run("-m", "workers.evaluate", trained.numbers, tmp_path / f"{name}.npz", "--json", *more)
        assert code == 0, error
        scores.append(json.loads(out)["by_target"])
    for one, other in zip(*scores, strict=True):
        assert one["metrics"] == pytest.approx(other["metrics"], rel=1e-10)
    trained.new.with_columns(kind=pl.col("kind").replace({"big": "huge"})).write_csv(tmp_path / "new.csv")
    code, out, error = run("-m", "workers.evaluate", trained.kinds, tmp_path / "new.csv")
    assert code == 0, error
    n = int((trained.new["kind"] == "big").sum())
    assert f"{n} rows with a label that the model does not know" in out
    assert "(other)" in out


Make = Callable[[Trained, Path], list[object]]


def changed(trained: Trained, path: Path, act: Callable[[list[str]], list[str]]) -> Path:
    """Write ``new.csv`` with other lines."""
    lines = trained.new.write_csv().splitlines(keepends=True)
    path.write_text("".join(act(lines)))
    return path


BAD: dict[str, tuple[str, Make, list[str]]] = {
    "no run": ("predict", lambda t, p: ["nosuch", t.folder / "new.csv"], ["no run and no file nosuch"]),
    "no model": ("predict", lambda t, p: [p, t.folder / "new.csv"], ["has no model.npz"]),
    "no file": ("predict", lambda t, p: [t.kinds, p / "none.csv"], ["no file", "none.csv"]),
    "a word too few": ("predict", lambda t, p: [t.kinds], ["got 1 word;", "RUN FILE"]),
    "columns": (
        "predict", lambda t, p: [t.kinds, changed(t, p / "n.csv", lambda s: [s[0].replace("town", "city"), *s[1:]])],
        ["no column 'town'", "'city'"],
    ),
    "text": (
        "predict",
        lambda t, p: [t.kinds, changed(t, p / "n.csv", lambda s: [*s[:1], "Bern,wide,2024-01-01,big,0,1\n", *s[1:]])],
        ["n.csv", "line 2", "'size'", "'wide'"],
    ),
    "empty": ("predict", lambda t, p: [t.kinds, changed(t, p / "n.csv", lambda s: [])], ["n.csv", "empty"]),
    "header only": ("predict", lambda t, p: [t.kinds, changed(t, p / "n.csv", lambda s: s[:1])], ["n.csv", "row"]),
    "probabilities": (
        "predict", lambda t, p: [t.numbers, t.folder / "numbers.npz", "--proba", "-o", p / "o.csv"], ["--proba"],
    ),
    "shape": ("predict", lambda t, p: [t.kinds, t.folder / "numbers.npz"], ["X has the shape (700, 4)"]),
    "suffix": ("predict", lambda t, p: [t.kinds, t.folder / "new.csv", "-o", p / "o.xlsx"], ["o.xlsx", ".parquet"]),
    "no folder": ("predict", lambda t, p: [t.kinds, t.folder / "new.csv", "-o", p / "no" / "o.csv"], ["no folder"]),
    "itself": ("predict", lambda t, p: [t.kinds, t.folder / "new.csv", "-o", t.folder / "new.csv"], ["is read"]),
    "no truth": (
        "evaluate", lambda t, p: [t.kinds, changed(t, p / "n.csv", lambda s: [s[0].replace("kind", "k"), *s[1:]])],
        ["no column 'kind'", "compared with", "--target"],
    ),
    "features alone": ("evaluate", lambda t, p: [t.numbers, t.folder / "x.npy"], ["X and y"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_message_and_exit_code_2(trained: Trained, tmp_path: Path, case: str) -> None:
    command, make, words = BAD[case]
    assert trained.start["p.csv"].code == 0
    code, out, error = run("-m", f"workers.{command}", *make(trained, tmp_path))
    assert (code, out) == (2, ""), error
    assert error.startswith("rankwise: ")
    assert len(error.splitlines()) == 1, error
    assert all(word in error for word in words), error


def test_a_disk_that_is_full_while_ranks_send_ends_all_of_them() -> None:
    assert program(3, "disk_full.py").out == "told each time\n"


def test_a_fault_on_one_rank_ends_all_with_one_message(trained: Trained, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    x = np.load(trained.folder / "x.npy")
    x[-1, 2] = np.inf
    np.save(path, x)
    result = mpirun(3, "-m", "workers.predict", str(trained.numbers), str(path), "-o", str(tmp_path / "o.csv"))
    assert result.code == 2
    assert result.err.count("rankwise:") == 1
    assert "row 300, column 2: got inf" in result.err
    assert not (tmp_path / "o.csv").exists()


@pytest.mark.parametrize("n_rows", [1, 5, 3000])
def test_a_csv_of_numbers_is_read_without_polars(tmp_path: Path, n_rows: int) -> None:
    model, path = numbers_model(tmp_path, 3, ("b", "c", "a")), tmp_path / "new.csv"
    values = np.round(np.random.default_rng(1).normal(size=(n_rows, 4)), 3)
    lines = [",".join(f'"{v}"' if i % 7 == 3 else str(v) for v in row) for i, row in enumerate(values)]
    path.write_text("\n".join(["a,more,c,b", *lines]) + "\n")
    for size in (1, 3, 64):
        rows = PlainRows.open(Input(TABLE, (path,)), model, Asked())
        blocks = [block for rank in range(size) for block in rows.blocks(rank, size)]
        found = np.concatenate([model.predict(block.x) for block in blocks])
        assert np.allclose(found, values[:, [0, 2, 3]].sum(axis=1), rtol=1e-12)
        assert rows.notes == [f"{path}: 1 column not used, since the model was trained without: 'more'."]
    with path.open("a") as file:
        file.write("1,2,,4\n1,2,wide,4\n")
    with pytest.raises(DataError, match=rf"line {n_rows + 3:,}: column 'c': got 'wide'"):
        list(PlainRows.open(Input(TABLE, (path,)), model, Asked()).blocks(0, 1))
    path.write_text(path.read_text().replace("1,2,wide,4", "1,2,3"))
    with pytest.raises(DataError, match=f"line {n_rows + 3:,}: got 3 cells, but the first row has 4"):
        list(PlainRows.open(Input(TABLE, (path,)), model, Asked()).blocks(0, 1))
    path.write_text(path.read_text().replace("\n1,2,3\n", "\n"))
    *_, last = PlainRows.open(Input(TABLE, (path,)), model, Asked()).blocks(0, 1)
    assert last.missing == 1
    assert model.predict(last.x)[-1] == 5  # the mean of a feature that is not standardised is 0


def test_targets_are_found_however_they_are_written() -> None:
    labels = np.array([-1, 3, 40])
    for values in (
        np.array([3, 40, 7]),
        np.array([3.0, 40, np.pi]),
        np.array(["3", "40", "x"]),
        np.array([3, 40, 7], "u1"),
    ):
        assert class_codes(values, labels).tolist() == [1, 2, UNKNOWN]
    assert class_codes(np.array([np.nan, -1.0]), labels).tolist() == [MISSING, 0]
    assert class_codes(np.array([True, False]), np.array(["False", "True"])).tolist() == [1, 0]
    assert class_codes(np.array([1, 0, 2]), np.array(["0", "1"])).tolist() == [1, 0, UNKNOWN]


def test_dates_have_an_example_for_messages() -> None:
    assert checked_cells.EXAMPLES.keys() == DATES.keys()
    for form, text in checked_cells.EXAMPLES.items():
        found = as_seconds(pl.Series([text, "soon"]), form, ())
        assert np.isfinite(found).tolist() == [True, False]
