"""Exported models predict what the run's own model predicts: in ONNX Runtime, scikit-learn and PyTorch's terms."""

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import polars as pl
import pytest
import skops.io
from safetensors import safe_open

from common.config import RunConfig
from common.data.preprocessing import Category, Date, Number, Preprocessing
from common.errors import ConfigError, RankwiseError
from common.flat import Array
from common.nn.model_file import ModelFile
from tests import fake_torch
from tests.ranks import Result, finish, popen
from tests.test_model_file import dataset, parameters, write
from workers.exporting import exporting
from workers.exporting.exporters import EXPORTERS
from workers.exporting.options import ExportConfig
from workers.preparation.encode import cells

RNG = np.random.default_rng(0)
N = 60
TEXTS = ["cat", "dog", "äpfel"]
KINDS: dict[str, tuple[Array, dict[str, Any], dict[str, Any]]] = {
    "classes": (np.arange(N) % 3 * 5 - 5, {}, {}),
    "texts": (np.arange(N) % 3, {}, {"label_names": TEXTS}),
    "binary": (np.arange(N) % 2 * 2 - 1, {}, {}),
    "logistic": (np.arange(N) % 2, {"model": "logistic"}, {"label_names": ["no", "yes"]}),
    "softmax": (np.arange(N) % 3, {"model": "softmax"}, {}),
    "regression": (1e8 + RNG.standard_normal(N), {}, {}),
    "linear": (RNG.standard_normal(N) * 1e-3, {"model": "linear"}, {}),
    "several targets": (RNG.standard_normal((N, 2)) * [1e6, 1] + [0, 3], {}, {"target_names": ["a", "b"]}),
    "several labels": (RNG.integers(0, 2, (N, 3)), {"loss": "cross-entropy"}, {"target_names": ["a", "b", "c"]}),
    "deep, tanh, float64": (np.arange(N) % 4, {"hidden": (6, 5), "activation": "tanh", "dtype": "float64"}, {}),
    "sigmoid": (np.arange(N) % 4, {"activation": "sigmoid"}, {}),
    "gelu": (np.arange(N) % 4, {"activation": "gelu"}, {}),
}


def model_of(folder: Path, kind: str) -> ModelFile:
    y, options, more = KINDS[kind]
    config = RunConfig(**{"hidden": (8,), **options})
    data = dataset(y, config, **more)
    return ModelFile.load(write(folder / "model.npz", config, data, parameters(config, data)))


def rows(n_features: int = 5) -> Array:
    x: Array = RNG.standard_normal((40, n_features)) * [1, 2, 5, 0.1, 9][:n_features] + 7
    x[3, 1] = x[4, 0] = np.nan
    return x


def run_onnx(path: Path, feed: dict[str, Any]) -> dict[str, Array]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return dict(zip([one.name for one in session.get_outputs()], session.run(None, feed), strict=True))


def check_outputs(found: dict[str, Array], model: ModelFile, x: Array) -> None:
    """Compare the outputs of ONNX with what the model itself says of encoded features."""
    if model.facts.task == "regression":
        numbers = model.predict(x).reshape(len(x), -1)
        np.testing.assert_allclose(found["prediction"], numbers, rtol=1e-5, atol=1e-5 * model.y_scale.max())
        return
    np.testing.assert_allclose(found["probabilities"], model.predict_proba(x), atol=1e-5)
    assert found["label"].tolist() == model.predict(x).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_onnx_predicts_the_same(tmp_path: Path, kind: str) -> None:
    model, x = model_of(tmp_path, kind), rows()
    assert EXPORTERS["onnx"].write(model, tmp_path / "m.onnx") == [str(tmp_path / "m.onnx")]
    check_outputs(run_onnx(tmp_path / "m.onnx", {"X": x}), model, x)


def left_out(folder: Path, kind: str) -> tuple[ModelFile, Array]:
    """Return a model that takes five of seven features, the last first, and rows for it."""
    path = model_of(folder, kind).path
    with np.load(path) as file:
        arrays = dict(file)
    facts = {**json.loads(str(arrays["facts"])), "n_features": 7}
    changed = {"facts": json.dumps(facts), "x_kept": np.array([6, 0, 2, 3, 4]), "x_fill": np.arange(5.0)}
    np.savez(path, allow_pickle=False, **{**arrays, **changed})
    return ModelFile.load(path), np.hstack([rows(), rows()[:, 1:3]])


@pytest.mark.parametrize("kind", ["classes", "regression"])
def test_features_may_be_left_out_and_missing(tmp_path: Path, kind: str) -> None:
    model, x = left_out(tmp_path, kind)
    EXPORTERS["onnx"].write(model, tmp_path / "m.onnx")
    check_outputs(run_onnx(tmp_path / "m.onnx", {"X": x}), model, x)
    EXPORTERS["sklearn"].write(model, tmp_path / "m.skops")
    expected = model.predict_proba(x) if kind == "classes" else model.predict(x)
    np.testing.assert_allclose(sklearn_outputs(tmp_path / "m.skops", x, model), expected, rtol=1e-5, atol=1e-5)


SECONDS = np.array([0.0, -1.0, 86399.0, 951782400.0, 951868800.5, -2208988801.0, 4107542400.0, 1709164800.0, np.nan,
                    -62135596800.0, 253402300799.0])  # fmt: skip
COLUMNS = Preprocessing((
    Number("price per unit", missing=True, offset=1e6), Category("label", ("red", "grün"), missing=True),
    Date("day", missing=True), Number("size"), Category("ok", ("false", "true")),
))  # fmt: skip


def test_a_table_comes_in_as_it_is(tmp_path: Path) -> None:
    """Numbers, texts and dates, some missing, some texts unknown; leap days, and days before 1970."""
    colours, columns = ["red", None, "grün", "blue", None, "red", None, "grün", "red", "blue", "red"], COLUMNS
    n = len(SECONDS)
    price = 1e6 + RNG.standard_normal(n)
    price[2] = np.nan
    of_colours, of_truth = columns.columns[1], columns.columns[4]
    assert isinstance(of_colours, Category)
    assert isinstance(of_truth, Category)
    truth = ["true", "false", "maybe"] * 3 + ["true", "true"]
    cells = {
        "price per unit": price, "label": of_colours.codes(colours), "day": SECONDS, "size": np.arange(float(n)),
        "ok": of_truth.codes(truth),
    }  # fmt: skip
    x = columns.encode(cells, "float32")
    training = np.where(np.isnan(x), 0, x)
    config = RunConfig(hidden=(8,))
    data = dataset(np.arange(n) % 2, config, x=training, label_names=["no", "yes"], preprocessing=columns,
                   feature_names=columns.features())  # fmt: skip
    model = ModelFile.load(write(tmp_path / "model.npz", config, data, parameters(config, data)))
    EXPORTERS["onnx"].write(model, tmp_path / "m.onnx")
    texts = {"label": [colour or "" for colour in colours], "ok": truth}
    feed = {name: np.array(texts.get(name, values), object if name in texts else float)[:, None]
            for name, values in cells.items()}  # fmt: skip
    found = run_onnx(tmp_path / "m.onnx", feed)
    found["label"] = found.pop("label_")  # a column has that name
    check_outputs(found, model, x)
    assert len({tuple(p) for p in found["probabilities"].round(4).tolist()}) > 5


def test_hashed_texts_are_refused(tmp_path: Path) -> None:
    columns = Preprocessing((Category("street", buckets=5),))
    config, x = RunConfig(hidden=(8,)), np.eye(5)[np.arange(N) % 5]
    data = dataset(np.arange(N) % 2, config, x=x, preprocessing=columns, feature_names=columns.features())
    model = ModelFile.load(write(tmp_path / "model.npz", config, data, parameters(config, data)))
    with pytest.raises(ConfigError, match=r"onnx: column 'street' has too many texts .* CRC-32"):
        EXPORTERS["onnx"].write(model, tmp_path / "m.onnx")


# scikit-learn


def sklearn_outputs(path: Path, x: Array, model: ModelFile) -> Array:
    missing = ["numpy.dtype"] * bool(
        (model.x_fill != model.x_mean).any()
    )  # the imputer's; else nothing is to be trusted
    pipeline = skops.io.load(path, trusted=missing)
    predicted = pipeline.predict(x)
    if model.facts.task == "regression":
        return np.asarray(predicted)
    assert predicted.tolist() == model.predict(x).tolist()
    if model.facts.task == "classes":
        assert pipeline.classes_.tolist() == model.labels.tolist()
    return np.asarray(pipeline.predict_proba(x))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "gelu"])
def test_scikit_learn_predicts_the_same(tmp_path: Path, kind: str) -> None:
    model, x = model_of(tmp_path, kind), np.nan_to_num(rows())
    EXPORTERS["sklearn"].write(model, tmp_path / "m.skops")
    expected = model.predict(x) if model.facts.task == "regression" else model.predict_proba(x)
    found = sklearn_outputs(tmp_path / "m.skops", x, model)
    scale = max([*model.y_scale, 1.0])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * scale)


TABLE = """price,colour,ok,floor,size
1000001.5,red,True,1,3
,grün,False,2,4
1000000.25,,True,10,5
999999.75,blue,False,1,6
1000002,red,,3,7
"""
"""Of the last columns, no cell of training was missing, and floors 1, 2 and 10 were known."""
OF_TABLE = Preprocessing((
    Number("price", missing=True, offset=1e6), Category("colour", ("grün", "red"), missing=True),
    Category("ok", ("False", "True")), Category("floor", ("1", "10", "2")), Number("size"),
))  # fmt: skip


def of_table(folder: Path, columns: Preprocessing, x: Array, y: Array) -> ModelFile:
    config = RunConfig(hidden=(8,))
    data = dataset(y, config, x=x, preprocessing=columns, feature_names=columns.features())
    return ModelFile.load(write(folder / "model.npz", config, data, parameters(config, data)))


@pytest.mark.parametrize("y", [np.arange(N) % 3, np.linspace(1e6, 1e6 + 5, N)])
def test_scikit_learn_takes_a_table_as_pandas_reads_it(tmp_path: Path, y: Array) -> None:
    frame, texts = pd.read_csv(io.StringIO(TABLE)), pl.read_csv(io.StringIO(TABLE), infer_schema=False)
    x = OF_TABLE.encode(cells(texts, OF_TABLE.columns), "float32")
    training = RNG.standard_normal((N, x.shape[1])) * np.where(OF_TABLE.standardized(), 2.0, 0) + RNG.integers(0, 2)
    training[:, ~OF_TABLE.standardized()] = RNG.integers(0, 2, (N, int((~OF_TABLE.standardized()).sum())))
    training[::7, 0] = np.nan
    training[:, -2] = 1  # the floor 2 is no feature that is used
    model = of_table(tmp_path, OF_TABLE, training, y)
    assert len(model.x_kept) == x.shape[1] - 1
    assert EXPORTERS["sklearn"].write(model, tmp_path / "m.skops") == [str(tmp_path / "m.skops")]
    pipeline = skops.io.load(tmp_path / "m.skops", trusted=["numpy.dtype"])
    found = pipeline.predict_proba if model.facts.task == "classes" else pipeline.predict
    expected = model.predict_proba(x) if model.facts.task == "classes" else model.predict(x)
    assert len({tuple(np.ravel(row)) for row in expected}) == len(x)
    for given in (frame, frame[frame.columns[::-1]]):
        np.testing.assert_allclose(found(given), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("column", [Date("day"), Category("town", buckets=4)])
def test_scikit_learn_takes_encoded_features_where_it_cannot_encode(tmp_path: Path, column: Any) -> None:
    columns = Preprocessing((Number("size", missing=True), column))
    training = RNG.standard_normal((N, len(columns.features())))
    model = of_table(tmp_path, columns, training, np.arange(N) % 2)
    (told,) = EXPORTERS["sklearn"].write(model, tmp_path / "m.skops")
    assert f"takes encoded features: scikit-learn has nothing that encodes {column.name} as here" in told
    found = skops.io.load(tmp_path / "m.skops", trusted=["numpy.dtype"]).predict_proba(training)
    np.testing.assert_allclose(found, model.predict_proba(training), atol=1e-5)


def test_scikit_learn_has_no_gelu(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no activation gelu; allowed are relu, tanh, sigmoid"):
        EXPORTERS["sklearn"].write(model_of(tmp_path, "gelu"), tmp_path / "m.skops")


# safetensors and PyTorch


def test_safetensors_has_the_names_and_shapes_of_torch(tmp_path: Path) -> None:
    model = model_of(tmp_path, "deep, tanh, float64")
    EXPORTERS["safetensors"].write(model, tmp_path / "m.safetensors")
    with safe_open(tmp_path / "m.safetensors", framework="np") as file:
        state, told = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    assert {name: array.shape for name, array in state.items()} == {
        "0.weight": (6, 5), "0.bias": (6,), "2.weight": (5, 6), "2.bias": (5,), "4.weight": (4, 5), "4.bias": (4,),
    }  # fmt: skip
    facts = {name: json.loads(text) for name, text in told.items() if name != "format"}
    x = np.where(np.isnan(rows()), facts["x_fill"], rows())
    hidden = (x - facts["x_mean"]) / facts["x_scale"]
    for i in (0, 2, 4):
        hidden = hidden @ state[f"{i}.weight"].T + state[f"{i}.bias"]
        hidden = np.tanh(hidden) if i < 4 else hidden
    np.testing.assert_allclose(hidden, model.outputs(x), rtol=1e-12)
    assert (told["format"], facts["outputs"], facts["labels"]) == ("pt", "softmax", [0, 1, 2, 3])


@pytest.mark.parametrize("kind", KINDS)
def test_the_module_for_torch_predicts_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """PyTorch's calls are stood in for by NumPy's where it is not installed."""
    model, x = model_of(tmp_path, kind), rows()
    files = EXPORTERS["torch"].write(model, tmp_path / "m.py")
    assert files == [str(tmp_path / "m.py"), str(tmp_path / "m.safetensors")]
    fake_torch.install(monkeypatch)
    names: dict[str, Any] = {"__file__": str(tmp_path / "m.py"), "__name__": "m"}
    exec(compile((tmp_path / "m.py").read_text(), "m.py", "exec"), names)
    found = fake_torch.array(names["load"]()(fake_torch.tensor(x)))
    if model.facts.task == "regression":
        np.testing.assert_allclose(
            found, model.predict(x).reshape(len(x), -1), rtol=1e-5, atol=1e-5 * model.y_scale.max()
        )
    else:
        expected = model.predict_proba(x)
        np.testing.assert_allclose(found, expected[:, -found.shape[1] :], atol=1e-5)


def test_a_class_of_ones_own_has_no_layers_to_export(tmp_path: Path) -> None:
    model = model_of(tmp_path, "classes")
    own: Any = type("Own", (), {"model": object(), "path": model.path, "facts": model.facts})
    for exporter in EXPORTERS.values():
        with pytest.raises(ConfigError, match="is a class of your own, whose layers are not known here"):
            exporter.write(own, tmp_path / f"m{exporter.ending}")


# the command


def export(*arguments: str, cwd: Path, module: str = "workers.export") -> Result:
    return finish(popen([sys.executable, "-m", module, *arguments], cwd=cwd))


def test_the_command_writes_each_format_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    model, x = model_of(tmp_path / "run", "texts"), rows()
    result = export("run", "--onnx", "--safetensors", "--sklearn", "--torch", cwd=tmp_path)
    assert result.code == 0, result.err
    names = ("model.onnx", "model.safetensors", "model.skops", "model.py")
    assert all((tmp_path / "run" / name).exists() and name in result.out for name in names)
    check_outputs(run_onnx(tmp_path / "run" / "model.onnx", {"X": x}), model, x)
    result = export("export", "run/model.npz", "--onnx", "-o", "own.onnx", cwd=tmp_path, module="workers.rankwise")
    assert (result.code, result.out) == (0, "Saved own.onnx.\n"), result.err
    assert (tmp_path / "own.onnx").read_bytes() == (tmp_path / "run" / "model.onnx").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run"], "no format; give one of --onnx, --safetensors, --sklearn, --torch"),
        (["--onnx"], "got 0 words; write python -m workers.export RUN"),
        (["run", "--onnx", "--torch", "-o", "x"], "output: got one file for 2 formats"),
        (["none", "--onnx"], "no run and no file none"),
    ],
)
def test_wrong_commands_are_one_message(tmp_path: Path, arguments: list[str], said: str) -> None:
    result = export(*arguments, cwd=tmp_path)
    assert (result.code, result.out) == (2, "")
    assert said in result.err
    assert len(result.err.splitlines()) == 1


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    model_of(tmp_path, "classes")
    for output, said in (("none/m.onnx", "none/m.onnx: No such file"), ("model.npz", "is the model itself")):
        result = export("model.npz", "--onnx", "-o", output, cwd=tmp_path)
        assert result.code != 0
        assert said in result.err
        assert len(result.err.splitlines()) == 1


def test_a_package_that_is_not_there_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model_of(tmp_path, "classes")
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(RankwiseError, match=r"is not installed; pip install 'rankwise\[safetensors\]'"):
        exporting.export(ExportConfig(safetensors=True, run=str(tmp_path / "model.npz")))


def test_the_examples_of_the_documentation_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = RunConfig(hidden=(8,))
    data = dataset(np.arange(N) % 10, config, x=RNG.standard_normal((N, 64)))
    path = write(tmp_path / "model.npz", config, data, parameters(config, data))
    exporting.export(ExportConfig(onnx=True, sklearn=True, torch=True, run=str(path)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    fake_torch.install(monkeypatch)
    page = (Path(__file__).parent.parent / "docs" / "export.md").read_text()
    names: dict[str, Any] = {"x": fake_torch.tensor(data.x[:])}
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    for block in blocks:
        exec(block, names)
    assert len(blocks) == 3
    assert names["probabilities"].shape == (3, 10)
    assert names["pipeline"].classes_.tolist() == list(range(10)) == names["model"].labels
    monkeypatch.delitem(sys.modules, "model")
