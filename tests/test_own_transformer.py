"""--prepare: a transformer of the user's own makes the features, in training, predicting, evaluating and resuming."""

import hashlib
import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from common import module_file
from common.config import RunConfig
from common.data.sources import check_prepare
from common.data.split_file import load_splits
from common.data.transformer import Transformer
from common.errors import ConfigError
from common.nn.model_file import ModelFile
from tests.ranks import Result, jobs, records
from workers.estimator import load
from workers.preparation import transformer_file
from workers.preparation.typed_frame import BOOLEAN, CATEGORY, NUMBER, TEXT, WHOLE, typed_frame

pytestmark = [pytest.mark.slow, pytest.mark.any_mpi]

PREDICT = str(Path(__file__).parent.parent / "workers" / "predict.py")
EVALUATE = str(Path(__file__).parent.parent / "workers" / "evaluate.py")
OWN = """
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler


class Mine(StandardScaler):
    pass


def columns(scaler=StandardScaler):
    return make_column_transformer(
        (make_pipeline(SimpleImputer(add_indicator=True), scaler()), ["size", "age"]),
        (OneHotEncoder(handle_unknown="ignore"), ["town", "open"]),
    )


def mine():
    return columns(Mine)


def texts():
    return make_column_transformer(("passthrough", ["town"]))


nothing = 3
"""


COPY = """
import os, shutil

if not int(os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "0"))):
    os.mkdir("other")
    for folder, names in (("run", ("model.npz", "coordinator.msgpack", "config.toml")), ("mine", ("prepare.skops",))):
        for name in names:
            shutil.copy(f"{folder}/{name}", f"other/{name}")
"""
"""Makes a run with the transformer of another one."""


def oracle() -> object:
    """Return what ``columns`` above does."""
    return make_column_transformer(
        (make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), ["size", "age"]),
        (OneHotEncoder(handle_unknown="ignore"), ["town", "open"]),
    )


def table(path: Path, n: int, seed: int) -> pd.DataFrame:
    """Write rows of numbers, texts and truth with missing cells; return them as pandas reads them."""
    rng = np.random.default_rng(seed)
    size, town = rng.normal(size=n).round(3), rng.choice(["Bern", "Ulm", "Wien"], n)
    frame = pd.DataFrame({
        "size": np.where(rng.random(n) < 0.1, np.nan, size), "age": rng.integers(1, 90, n), "town": town,
        "open": rng.random(n) < 0.5, "price": (size + (town == "Ulm")).round(3),
        "note": [f"note {i}" for i in range(n)],
    })  # fmt: skip
    frame.to_csv(path, index=False)
    return pd.read_csv(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("transformer")
    (place / "own.py").write_text(OWN)
    (place / "copy_run.py").write_text(COPY)
    table(place / "train.csv", 300, 1)
    table(place / "new.csv", 90, 2)
    return place


@pytest.fixture(scope="module")
def ended(folder: Path) -> dict[str, Result]:
    """Run all jobs on two ranks, each taken for a node of its own."""
    train = ["-m", "workers.run", "--data", "train.csv", "--target", "price", "--epochs", "2", "--ranks-per-node", "1"]
    return jobs(2, folder, {
        "run": [*train, "--prepare", "own:columns", "--checkpoint-every", "1"],
        "more": ["-m", "workers.run", "--resume", "run", "--epochs", "3"],
        "new": [PREDICT, "run", "new.csv", "--output", "new.npy"],
        "worth": [EVALUATE, "run", "--json"],
        "mine": [*train, "--prepare", "own:mine"],
        "asked": [PREDICT, "mine", "new.csv", "--output", "asked.npy"],
        "trusted": [PREDICT, "mine", "new.csv", "--trust-types", "own.Mine", "--output", "trusted.npy"],
        "copy": ["copy_run.py", "--output", "other"],
        "other": [PREDICT, "other", "new.csv", "--output", "other.npy"],
        "texts": [*train, "--prepare", "own:texts"],
        "nothing": [*train, "--prepare", "own:nothing"],
    })  # fmt: skip


def x_of(folder: Path, frame: pd.DataFrame) -> np.ndarray:
    """Return what scikit-learn makes of rows, fitted to the training rows alone."""
    rows, whole = load_splits(folder / "run").train, pd.read_csv(folder / "train.csv")
    assert 0 < len(rows) < len(whole)
    return np.asarray(oracle().fit(whole.iloc[rows]).transform(frame), np.float32)  # type: ignore[attr-defined]


def test_features_are_those_of_scikit_learn_fitted_to_training_rows(folder: Path, ended: dict[str, Result]) -> None:
    assert ended["run"].code == ended["more"].code == 0, ended["run"].err + ended["more"].err
    model = ModelFile.load(folder / "run" / "model.npz")
    whole = pd.read_csv(folder / "train.csv")
    x = x_of(folder, whole)
    assert model.n_features == x.shape[1] == 8
    train = load_splits(folder / "run").train
    np.testing.assert_allclose(model.x_mean, x[train][:, model.x_kept].mean(axis=0, dtype=np.float64), atol=1e-7)
    np.testing.assert_allclose(model.x_scale, x[train][:, model.x_kept].std(axis=0, dtype=np.float64), rtol=1e-5)
    leaked = np.asarray(oracle().fit_transform(whole), np.float32)  # type: ignore[attr-defined]
    assert abs(leaked[train].mean(axis=0) - x[train].mean(axis=0)).max() > 1e-3, "this test could not see a leak"


def test_predictions_are_those_of_what_was_trained(folder: Path, ended: dict[str, Result]) -> None:
    assert ended["new"].code == ended["worth"].code == 0, ended["new"].err + ended["worth"].err
    model = ModelFile.load(folder / "run" / "model.npz")
    expected = model.predict(x_of(folder, pd.read_csv(folder / "new.csv")))
    np.testing.assert_array_equal(np.load(folder / "new.npy"), expected)
    header, end = (records(folder / "run")[i] for i in (0, -1))
    assert header["data"]["prepare"]["name"] == "own:columns"
    assert header["data"]["notes"][-1] == "Features: 8, made by own:columns (which was fitted to the training rows)."
    assert json.loads(ended["worth"].out)["metrics"] == pytest.approx(end["test"]["metrics"], rel=1e-6)


def test_a_resumed_run_takes_the_saved_one(folder: Path, ended: dict[str, Result]) -> None:
    assert "as the run has saved it" in ended["more"].out
    prepare = [r["data"]["prepare"] for r in records(folder / "run") if "data" in r]
    assert len(prepare) == 2
    assert prepare[0] == prepare[1]


def test_types_of_ones_own_are_asked_for(folder: Path, ended: dict[str, Result]) -> None:
    assert (ended["asked"].code, ended["trusted"].code) == (2, 0)
    assert ended["asked"].err.count("--trust-types own.Mine") == 1
    assert "--trust-types own.Mine" in ended["mine"].out
    assert not (folder / "asked.npy").exists()


def test_an_estimator_of_a_run_takes_the_table(
    folder: Path, ended: dict[str, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ended["mine"].code == ended["new"].code == 0
    frame = pd.read_csv(folder / "new.csv")
    made = load(folder / "run")
    assert made.feature_names_in_.tolist() == ["size", "age", "town", "open", "note"]
    found = pickle.loads(pickle.dumps(made)).predict(frame[frame.columns[::-1]])  # noqa: S301 - as users do
    np.testing.assert_array_equal(found, np.load(folder / "new.npy"))
    with pytest.raises(ValueError, match="X, row 0: column 'age': got 'old'; allowed is a finite number"):
        made.predict(frame.assign(age="old"))
    with pytest.raises(ValueError, match="this model takes a frame with the columns size, age"):
        made.predict(frame.to_numpy())
    with pytest.raises(ValueError, match="partial_fit: the features of this model are made by own:columns"):
        made.partial_fit(frame, frame["price"])
    monkeypatch.chdir(folder)  # where the class is
    before = list(sys.path)
    with pytest.raises(ValueError, match=r"if you trust it, add trust_types=\['own.Mine'\]$"):
        load("mine")
    found = load("mine", trust_types=["own.Mine"]).predict(frame)
    np.testing.assert_array_equal(found, np.load(folder / "trusted.npy"))
    assert sys.path == before


def test_what_is_no_transformer_is_one_message(ended: dict[str, Result]) -> None:
    for name, text in (("nothing", "has no transformer nothing"), ("texts", "holds no numbers")):
        assert (ended[name].code, ended[name].err.count("rankwise:")) == (2, 1), ended[name].err
        assert text in ended[name].err


def test_another_file_is_refused(folder: Path, ended: dict[str, Result]) -> None:
    assert (folder / "other" / "model.npz").exists()
    said = ended["other"].err.count("is not the transformer that the model was trained with")
    assert (ended["other"].code, said) == (2, 1)
    assert not (folder / "other.npy").exists()


def test_nothing_of_a_file_is_imported_before_it_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "evil_of_a_test.py").write_text(
        "from sklearn.preprocessing import StandardScaler\nclass Evil(StandardScaler):\n    pass\n"
    )
    import evil_of_a_test  # type: ignore[import-not-found]

    content, types = transformer_file.save("own:x", evil_of_a_test.Evil().fit(np.eye(3)))
    assert types == ["evil_of_a_test.Evil"]
    sha256 = hashlib.sha256(content).hexdigest()
    del sys.modules["evil_of_a_test"]
    with pytest.raises(ConfigError, match="--trust-types evil_of_a_test"):
        transformer_file.load("own:x", content, sha256, [], "prepare.skops")
    assert "evil_of_a_test" not in sys.modules
    (tmp_path / "coordinator.msgpack").touch()  # what makes it a run folder
    module_file._run_folder.cache_clear()  # another test may have switched on the look at each import
    with pytest.raises(ConfigError, match="run folder"):
        transformer_file.load("own:x", content, sha256, ["evil_of_a_test"], "prepare.skops")
    assert "evil_of_a_test" not in sys.modules


def test_many_types_of_a_package_are_asked_for_by_its_name() -> None:
    types = ["skrub.a.A", "skrub.b.B", "skrub.c.C", "skrub.d.D", "os.a", "os.b", "os.c", "os.d", "own.Mine"]
    assert transformer_file.in_short(types) == "skrub,os.a,os.b,os.c,os.d,own.Mine"


@pytest.mark.parametrize(
    ("transformer", "fitted"),
    [
        (StandardScaler(), False),
        (StandardScaler().fit(np.eye(3)), True),
        (FunctionTransformer(), True),
        (make_pipeline(StandardScaler(), FunctionTransformer()), False),
        (make_pipeline(StandardScaler(), FunctionTransformer()).fit(np.eye(3)), True),
    ],
)
def test_what_is_fitted_is_left_as_it_is(transformer: object, *, fitted: bool) -> None:
    assert transformer_file.is_fitted("own:x", transformer, np.eye(3)) == fitted


def test_columns_are_typed_as_pandas_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("n,w,b,t,c\n1.5,1,True,x,1\n,2,False,,2\n3,3,True,z,10\n")
    frame, read = pl.read_csv(path, infer_schema=False), pd.read_csv(path, dtype={"c": str})
    types = [("n", NUMBER), ("w", WHOLE), ("b", BOOLEAN), ("t", TEXT), ("c", CATEGORY)]
    pd.testing.assert_frame_equal(typed_frame(frame, types, ()), read)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"prepare": "own", "data": "a.csv"}, "package.module:name"),
        ({"prepare": "own:columns"}, "no table"),
        ({"prepare": "own:columns", "data": "a.csv", "cache": "numpy"}, "--cache numpy"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, str], text: str) -> None:
    with pytest.raises(ConfigError, match=text) as caught:
        check_prepare(RunConfig(**options))  # type: ignore[arg-type]
    assert caught.value.exit_code == 2


def test_what_is_known_of_it_comes_back() -> None:
    known = Transformer("own:x", "0" * 64, (("a", "number"),), ("own.Mine",))
    assert Transformer.from_dict(json.loads(json.dumps(known.as_dict()))) == known
