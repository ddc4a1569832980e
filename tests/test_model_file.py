"""model.npz is a whole model: what is read from it predicts what scikit-learn predicts with the same numbers."""

import dataclasses
import json
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.config import RunConfig
from common.data.dataset import Dataset, Raw, check
from common.data.preprocessing import Category, Number, Preprocessing
from common.data.training_features import scale_alone
from common.errors import DataError
from common.flat import Array
from common.nn import model_facts
from common.nn.mlp import Mlp
from common.nn.model_file import BLOCK, ModelFile
from common.nn.models import build


def dataset(y: Array, config: RunConfig, **more: Any) -> Dataset:
    """Return scaled rows with 5 features."""
    x = np.random.default_rng(3).normal(size=(len(y), 5)) * [1, 2, 5, 0.1, 9] + 7
    data = check(Raw("some", more.pop("x", x), y, **more), config)
    scale_alone(data, config.dtype, standardize=config.standardize)
    if not data.n_classes:
        data.scale_target(*data.target_scaling(), config.dtype)
    return data


def write(path: Path, config: RunConfig, data: Dataset, params: dict[str, Array], **changed: Any) -> Path:
    """Write a model as the end of a run does; ``changed``: arrays that are others, None for none."""
    model = build(config, data.x.shape[1], data.n_classes, data.n_targets)
    header = {
        "versions": {"numpy": np.__version__, "python": "3"},
        "model": {"sizes": list(model.sizes), "loss": type(model.loss).__name__,
                  "parameters": {name: list(shape) for name, shape in model.shapes().items()}},
    }  # fmt: skip
    arrays = {**params, **model_facts.extras(config, data, header), **changed}
    np.savez(path, allow_pickle=False, **{name: array for name, array in arrays.items() if array is not None})
    return path


def parameters(config: RunConfig, data: Dataset, seed: int = 0) -> dict[str, Array]:
    model: Mlp = build(config, data.x.shape[1], data.n_classes, data.n_targets)
    params = {name: np.empty(shape, config.dtype) for name, shape in model.shapes().items()}
    model.init(params, np.random.default_rng(seed))
    return params


def peer(kind: Any, data: Dataset, activation: str) -> Any:
    """Return a perceptron of scikit-learn's, fitted a little."""
    fitted = kind(hidden_layer_sizes=(7, 4), activation=activation, max_iter=5, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        y = data.y[:, 0] if data.y.ndim == 2 else data.labels[data.y]
        return fitted.fit(data.x, y)


def named(fitted: Any) -> dict[str, Array]:
    layers = enumerate(zip(fitted.coefs_, fitted.intercepts_, strict=True), 1)
    return {f"{name}{i}": array for i, pair in layers for name, array in zip("Wb", pair, strict=True)}


@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic"])
def test_predicts_as_scikit_learn(tmp_path: Path, activation: str) -> None:
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    ours = {"logistic": "sigmoid"}.get(activation, activation)
    config = RunConfig(hidden=(7, 4), activation=ours, dtype="float64")
    rng = np.random.default_rng(1)
    x = rng.normal(size=(BLOCK + 70, 5)) * 30 + 2

    classes = dataset(rng.choice([-3, 5, 40], 400), config, x=rng.normal(size=(400, 5)) * 30)
    fitted = peer(MLPClassifier, classes, activation)
    model = ModelFile.load(write(tmp_path / "classes.npz", config, classes, named(fitted)))
    scaled = (x - classes.x_scaling.mean) / classes.x_scaling.scale
    assert np.array_equal(model.predict(x), fitted.predict(scaled))
    assert np.allclose(model.predict_proba(x), fitted.predict_proba(scaled), rtol=1e-12)

    numbers = dataset(rng.normal(size=400) * 1000 + 1e6, config, x=rng.normal(size=(400, 5)) * 30)
    fitted = peer(MLPRegressor, numbers, activation)
    model = ModelFile.load(write(tmp_path / "numbers.npz", config, numbers, named(fitted)))
    scaled = (x - numbers.x_scaling.mean) / numbers.x_scaling.scale
    in_unit = fitted.predict(scaled) * numbers.target_scale[0] + numbers.target_mean[0]
    assert np.allclose(model.predict(x), in_unit, rtol=1e-12)
    with pytest.raises(DataError, match="regression predicts no probabilities"):
        model.predict_proba(x)


def test_logistic_and_linear(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(2)
    config = RunConfig(model="logistic", dtype="float64")
    data = dataset(rng.choice([1, 2], 300), config)
    fitted = LogisticRegression().fit(data.x, data.labels[data.y])
    model = ModelFile.load(write(tmp_path / "m.npz", config, data, {"W": fitted.coef_.T, "b": fitted.intercept_}))
    x = rng.normal(size=(50, 5)) * 8
    scaled = (x - data.x_scaling.mean) / data.x_scaling.scale
    assert np.array_equal(model.predict(x), fitted.predict(scaled))
    assert np.allclose(model.predict_proba(x), fitted.predict_proba(scaled), rtol=1e-12)

    config = RunConfig(model="linear", dtype="float64")
    data = dataset(rng.normal(size=(300, 2)) * [1, 50], config)
    params = parameters(config, data)
    model = ModelFile.load(write(tmp_path / "l.npz", config, data, params))
    expected = (
        (x - data.x_scaling.mean) / data.x_scaling.scale @ params["W"] + params["b"]
    ) * data.target_scale + data.target_mean
    assert np.allclose(model.predict(x), expected, rtol=1e-12)
    assert model.target_names == ["prediction 1", "prediction 2"]


def test_a_row_is_predicted_alike_whatever_is_beside_it(tmp_path: Path) -> None:
    config = RunConfig(hidden=(64, 33))
    data = dataset(np.random.default_rng(0).normal(size=300), config)
    model = ModelFile.load(write(tmp_path / "m.npz", config, data, parameters(config, data)))
    x = np.random.default_rng(5).normal(size=(BLOCK + 41, 5))
    whole = model.predict(x)
    assert np.array_equal(whole[37:38], model.predict(x[37:38]))
    assert np.array_equal(whole[100:], model.predict(x[100:]))
    assert model.predict(x[:0]).shape == (0,)


def test_table_with_texts_and_missing_numbers(tmp_path: Path) -> None:
    """Unknown texts are no text, missing numbers the mean, and left-out features do not count."""
    columns = Preprocessing((Number("size", missing=True), Category("town", ("Bern", "Ulm"))))
    config, n = RunConfig(hidden=(6,), dtype="float64"), 200
    rng = np.random.default_rng(0)
    cells = {"size": rng.normal(size=n) * 9, "town": rng.integers(0, 2, n)}
    data = dataset(
        rng.integers(0, 3, n), config, x=columns.encode(cells, "float32"), feature_names=columns.features(),
        target_names=["colour"], label_names=["blue", "green", "red"], preprocessing=columns,
    )  # fmt: skip
    assert data.x_scaling.kept is not None
    assert data.x_scaling.kept.tolist() == [0, 2, 3]  # "size is missing" is the same in all rows
    path = write(tmp_path / "m.npz", config, data, parameters(config, data))
    model = ModelFile.load(path)
    assert (model.facts.preprocessing, model.n_features, model.target_names) == (columns, 4, ["colour"])
    odd = {"size": np.array([np.nan, data.x_scaling.mean[0]]), "town": np.array([-2, -2])}
    first, second = model.outputs(model.encode(odd))
    assert np.allclose(first, second, rtol=1e-6)
    assert model.labels.tolist() == ["blue", "green", "red"]
    assert set(model.predict_table(cells).tolist()) <= {"blue", "green", "red"}


def test_what_is_wrong_with_a_file_is_one_message(tmp_path: Path) -> None:
    config = RunConfig(hidden=(6,))
    data = dataset(np.random.default_rng(0).integers(0, 3, 90), config)
    params = parameters(config, data)

    def message(**changed: Any) -> str:
        path = write(tmp_path / "m.npz", config, data, params, **changed)
        with pytest.raises(DataError) as error:
            ModelFile.load(path)
        assert str(error.value).startswith(f"{path}: ")
        return str(error.value)

    facts = json.loads(str(model_facts.extras(config, data, {"versions": {}, "model": {}})["facts"]))
    assert "earlier version" in message(facts=None)
    assert "facts" in message(facts=np.array("{"))
    assert "facts" in message(facts=np.array("[" * 100_000))
    assert "version 9" in message(facts=np.array(json.dumps({**facts, "v": 9})))
    assert "facts" in message(facts=np.array(json.dumps(facts)))  # they name no loss
    assert "W1" in message(W1=None)
    assert "b2" in message(b2=np.zeros(4, np.float32))
    assert "x_scale" in message(x_scale=np.ones(4))
    assert "classes" in message(classes=None)
    assert "sizes" in message(classes=np.arange(4), baseline=None)
    assert "baseline" in message(baseline=np.ones(2))
    assert "x_kept" in message(x_kept=np.array([0, 1, 2, 3, 9]), facts=_with(config, data, features=list("abcde")))


def _with(config: RunConfig, data: Dataset, **changed: Any) -> Array:
    model = build(config, 5, 3, 1)
    header = {"sizes": list(model.sizes), "loss": "SoftmaxCrossEntropy",
              "parameters": {name: list(shape) for name, shape in model.shapes().items()}}  # fmt: skip
    facts = json.loads(str(model_facts.extras(config, data, {"versions": {}, "model": header})["facts"]))
    return np.array(json.dumps({**facts, **changed}))


def reader_of_the_docs() -> Any:
    """Return the function that docs/predict.md shows."""
    page = (Path(__file__).parent.parent / "docs" / "predict.md").read_text()
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "def predict" in block)
    body = code[code.index("def predict") :].splitlines()[1:]
    assert len([line for line in body if not line.strip().startswith("#")]) == 10, "the page says so"
    names: dict[str, Any] = {}
    exec(code, names)
    return names["predict"]


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "gelu"])
def test_the_reader_of_the_docs_predicts_the_same(tmp_path: Path, activation: str) -> None:
    predict = reader_of_the_docs()
    rng = np.random.default_rng(6)
    x = rng.normal(size=(40, 5)) * 4 + 7
    x[3, 2] = np.nan
    config = RunConfig(hidden=(7, 6), activation=activation)
    for y in (rng.integers(0, 3, 90), rng.normal(size=(90, 2)) * [1, 70]):
        data = dataset(y, config)
        path = write(tmp_path / "m.npz", config, data, parameters(config, data))
        model = ModelFile.load(path)
        found = predict(np.load(path), x)
        if data.n_classes:
            assert np.allclose(found, model.outputs(x), rtol=1e-4, atol=1e-5)
            assert np.array_equal(np.load(path)["classes"][found.argmax(axis=1)], model.predict(x))
        else:
            assert np.allclose(found, model.predict(x), rtol=1e-4, atol=1e-3)
    config = RunConfig(model="logistic", activation=activation, dtype="float64")
    data = dataset(rng.choice([4, 9], 90), config)
    kept = np.array([0, 2, 4])
    few = dataclasses.replace(data, x=data.x[:, kept], x_scaling=dataclasses.replace(
        data.x_scaling, mean=data.x_scaling.mean[kept], scale=data.x_scaling.scale[kept], kept=kept,
        fill=data.x_scaling.mean[kept] + 1,
    ))  # fmt: skip
    path = write(tmp_path / "m.npz", config, few, parameters(config, few))
    model = ModelFile.load(path)
    found = predict(np.load(path), x)
    assert np.allclose(found, model.outputs(x), rtol=1e-9)
    assert np.array_equal(np.load(path)["classes"][(found[:, 0] > 0).astype(int)], model.predict(x))
