"""Targets in jobs: regressions in their own unit, whatever the scale, and labels that stay with the model."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_squared_error, r2_score

from common.config import RunConfig
from ps.logfile.writer import RunLog
from tests.ranks import PROGRAMS, SharedStart, epochs, jobs, mpirun, records
from tests.synthetic import header
from tests.test_model_file import reader_of_the_docs
from workers.launch.run_options import saved_config

RNG = np.random.default_rng(4)
SCALES, MEANS = np.array([1e-3, 1.0, 1e6]), np.array([5.0, -3.0, 1e7])
REGRESSION = ("--model", "linear", "--optimizer", "sgd", "--learning-rate", "0.1", "--epochs", "20")


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> SharedStart:
    """Return jobs on made-up prices, on targets far from 0, on several targets and on labels of all kinds."""
    folder = tmp_path_factory.mktemp("target")
    rng = np.random.default_rng(0)
    n = 2200
    x = np.column_stack([rng.uniform(40, 250, n), rng.integers(1, 7, n), rng.uniform(0, 80, n), rng.uniform(0, 30, n)])
    price = 40_000 + 1500 * x[:, 0] + 9000 * x[:, 1] - 400 * x[:, 2] - 1500 * x[:, 3] + 5500 * rng.standard_normal(n)
    z = rng.standard_normal((n, 4))
    near = 1e8 + 4 * (z @ [0.8, 0.5, -0.3, 0.1]) + 0.1 * rng.standard_normal(n)
    several = MEANS + SCALES * (z @ rng.standard_normal((4, 3)) + 0.1 * rng.standard_normal((n, 3)))
    labels = np.array([1, 5, 300])[(z[:, :3]).argmax(axis=1)]
    signs = np.where(z[:, 0] > z[:, 1], 1, -1)
    given = {"price": (x, price), "whole": (x, np.round(price)), "near": (z, near), "several": (z, several),
             "labels": (z, labels), "signs": (z, signs)}  # fmt: skip
    for name, (features, y) in given.items():
        np.savez(folder / f"{name}.npz", X=features[:2000], y=y[:2000], X_test=features[2000:], y_test=y[2000:])
    features, y = load_diabetes(return_X_y=True)
    np.savez(folder / "diabetes.npz", X=features[:342], y=y[:342].astype(int), X_test=features[342:], y_test=y[342:])
    hand = (price - price[:2000].mean()) / price[:2000].std()
    np.savez(folder / "hand.npz", X=x[:2000], y=hand[:2000], X_test=x[2000:], y_test=hand[2000:])
    named = {
        "price": ["price.npz"],
        "whole": ["whole.npz"],
        "linear": ["price.npz", *REGRESSION],
        "diabetes": ["diabetes.npz", *REGRESSION, "--validation-fraction", "0"],
        "near": ["near.npz"],
        "near-linear": ["near.npz", *REGRESSION],
        "several": ["several.npz"],
        "several-linear": ["several.npz", *REGRESSION, "--dtype", "float64"],
        "patient": ["several.npz", *REGRESSION, "--patience", "3"],
        "hand": ["hand.npz", "--validation-fraction", "0", "--no-standardize-target"],
        "for-hand": ["price.npz", "--validation-fraction", "0"],
        "as-is": ["price.npz", *REGRESSION, "--no-standardize-target"],
        "labels": ["labels.npz"],
        "signs": ["signs.npz", "--model", "logistic", "--learning-rate", "0.05"],
    }
    alone = {f"{name}-1": (1, named[name]) for name in ("linear", "several-linear")}
    every = {**{name: (3, options) for name, options in named.items()}, **alone}
    return SharedStart(
        folder, {k: (n, ["-m", "workers.run", "--data", str(folder / o[0]), *o[1:]]) for k, (n, o) in every.items()}
    )


def held_out(batch: SharedStart, name: str) -> tuple[np.ndarray, np.ndarray]:
    with np.load(batch.folder / name) as arrays:
        return arrays["X_test"], arrays["y_test"].astype(float)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "r2"), [("price", 0.99), ("whole", 0.99), ("linear", 0.99), ("near", 0.99)])
def test_defaults_fit_what_least_squares_fits(batch: SharedStart, name: str, r2: float) -> None:
    run = batch.run(name)
    end = records(run)[-1]
    assert end["test_metric"] > r2
    assert not [r for r in records(run) if r["kind"] == "verdict" and "rate" in r["remedy"]]


def test_a_real_target_of_whole_numbers_is_fitted_as_least_squares_fits_it(batch: SharedStart) -> None:
    x, y = held_out(batch, "diabetes.npz")
    with np.load(batch.folder / "diabetes.npz") as arrays:
        theirs = LinearRegression().fit(arrays["X"], arrays["y"]).score(x, y)
    assert records(batch.run("diabetes"))[-1]["test_metric"] == pytest.approx(theirs, abs=0.02)


@pytest.mark.parametrize("name", ["linear", "near-linear", "several-linear"])
def test_the_saved_model_predicts_in_the_unit_of_the_target(batch: SharedStart, name: str) -> None:
    """And loss and R2 in the log are what scikit-learn says of these predictions."""
    run, data = batch.run(name), {"linear": "price"}.get(name, name.split("-", maxsplit=1)[0])
    x, y = held_out(batch, f"{data}.npz")
    with np.load(run / "model.npz") as model:
        scaled = (x - model["x_mean"]) / model["x_scale"]
        predicted = (scaled @ model["W"] + model["b"]) * model["y_scale"] + model["y_mean"]
        assert model["y_mean"].dtype == model["y_scale"].dtype == np.float64
    y = y.reshape(predicted.shape)
    end = records(run)[-1]
    assert end["test_loss"] == pytest.approx(mean_squared_error(y, predicted), rel=1e-4)
    assert end["test_metric"] == pytest.approx(r2_score(y, predicted), abs=1e-5)
    with np.load(batch.folder / f"{data}.npz") as arrays:
        theirs = LinearRegression().fit(arrays["X"], arrays["y"])
    best = r2_score(y, theirs.predict(x), multioutput="raw_values")
    np.testing.assert_allclose(r2_score(y, predicted, multioutput="raw_values"), best, atol=3e-3)


def test_every_target_is_learned_whatever_its_scale(batch: SharedStart) -> None:
    """Early stopping looks at all of them, too: the largest alone makes nearly all of the loss."""
    header, *_, end = records(batch.run("several"))
    assert end["test_metric"] > 0.98
    np.testing.assert_allclose(header["data"]["target_scale"] / SCALES, np.full(3, 1.8), atol=1.2)
    log = epochs(batch.run("patient"))
    scores = [epoch["validation_metric"] for epoch in log]
    assert records(batch.run("patient"))[-1]["best_epoch"] == int(np.argmax(scores)) + 1
    assert max(scores) > 0.98


def test_losses_are_in_one_unit(batch: SharedStart) -> None:
    """Of an epoch, of each rank, and of the validation and test rows."""
    for name, variance in (("linear", 1e10), ("several", 1e12), ("near", 16.0)):
        log = epochs(batch.run(name))
        assert log[-1]["loss"] < log[0]["loss"] < 10 * variance
        for epoch in (log[0], log[-1]):
            mean = np.average(epoch["loss_by_rank"], weights=epoch["rows"])
            assert mean == pytest.approx(epoch["loss"], rel=1e-6)
        assert 0.3 < log[-1]["validation_loss"] / log[-1]["loss"] < 3
        assert 0.3 < records(batch.run(name))[-1]["test_loss"] / log[-1]["validation_loss"] < 3


def test_unstandardised_losses_have_the_same_unit(batch: SharedStart) -> None:
    """With the target as it is, the same linear model is found in other steps, and the first loss is the same."""
    standardised, as_is = (epochs(batch.run(name)) for name in ("linear", "as-is"))
    assert as_is[-1]["validation_loss"] == pytest.approx(standardised[-1]["validation_loss"], rel=0.05)


def test_it_trains_as_on_a_target_standardised_by_hand(batch: SharedStart) -> None:
    ours, by_hand = (batch.run(name) for name in ("for-hand", "hand"))
    with np.load(ours / "model.npz") as one, np.load(by_hand / "model.npz") as other:
        for name in ("W1", "b1", "W2", "b2"):
            np.testing.assert_allclose(one[name], other[name], rtol=1e-3, atol=1e-5)
        unit = float(one["y_scale"][0] ** 2)
    for mine, theirs in zip(epochs(ours), epochs(by_hand), strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"] * unit, rel=1e-3)


@pytest.mark.parametrize("name", ["linear", "several-linear"])
def test_any_number_of_ranks_scales_alike(batch: SharedStart, name: str) -> None:
    runs = batch.run(name), batch.run(f"{name}-1")
    with np.load(runs[0] / "model.npz") as three, np.load(runs[1] / "model.npz") as one:
        for key in ("y_mean", "y_scale", "x_mean", "x_scale"):
            np.testing.assert_array_equal(three[key], one[key])
    three_ranks, one_rank = ([epoch["loss"] for epoch in epochs(run)] for run in runs)
    np.testing.assert_allclose(three_ranks, one_rank, rtol=1e-9 if name == "several-linear" else 1e-3)


def test_the_balance_is_in_the_targets_unit(batch: SharedStart) -> None:
    balance = next(r for r in records(batch.run("several")) if r["kind"] == "balance")
    with np.load(batch.folder / "several.npz") as arrays:
        y = arrays["y"]
    np.testing.assert_allclose(balance["target_mean"], np.tile(y.mean(axis=0), (3, 1)), rtol=0.2, atol=2)
    np.testing.assert_allclose(balance["target_variance"], np.tile(y.var(axis=0), (3, 1)), rtol=0.2)


def test_labels_are_kept_with_the_model(batch: SharedStart) -> None:
    run = batch.run("labels")
    header, *_, end = records(run)
    assert header["data"]["classes"] == 3
    assert header["data"]["labels"] == [1, 5, 300]
    assert header["model"]["sizes"][-1] == 3
    assert end["test_metric"] > 0.9
    with np.load(run / "model.npz") as model:
        assert model["classes"].tolist() == [1, 5, 300]
        x, y = held_out(batch, "labels.npz")
        hidden = np.maximum((x - model["x_mean"]) / model["x_scale"] @ model["W1"] + model["b1"], 0)
        right = model["classes"][(hidden @ model["W2"] + model["b2"]).argmax(axis=1)] == y
    assert right.mean() == pytest.approx(end["test_metric"])
    assert records(batch.run("signs"))[-1]["test_metric"] > 0.95


@pytest.mark.parametrize("name", ["labels", "price", "several"])
def test_the_documentation_predicts_what_was_trained(batch: SharedStart, name: str) -> None:
    run = batch.run(name)
    x, y = held_out(batch, f"{name}.npz")
    with np.load(run / "model.npz") as model:
        outputs = reader_of_the_docs()(model, x)
        found = model["classes"][outputs.argmax(axis=1)] if name == "labels" else outputs
    metric = (found == y).mean() if name == "labels" else r2_score(y.reshape(found.shape), found)
    assert metric == pytest.approx(records(batch.run(name))[-1]["test_metric"], abs=1e-5)


def test_what_was_decided_is_printed_once_and_logged(batch: SharedStart) -> None:
    run = batch.run("labels")
    notes = records(run)[0]["data"]["notes"]
    assert notes[0].startswith("Task: classes, because the target has 3 different whole numbers in 2,200 rows")
    assert notes[1].startswith("Labels 1, 5, 300 are the classes 0 to 2")
    for note in notes:
        assert batch["labels"].out.count(note) == 1


def test_a_model_of_ones_own_gets_what_its_loss_takes(tmp_path: Path) -> None:
    """Standardised numbers for our squared error; with another loss the numbers that are in the data."""
    code = """
import numpy as np
from common.nn.functional import Loss, MeanSquaredError

class Line:
    loss = MeanSquaredError()
    def __init__(self, n_features, n_outputs):
        self.sizes = n_features, n_outputs
    def shapes(self):
        return {"V": self.sizes}
    def init(self, params, rng):
        params["V"][...] = 0
    def predict(self, params, x):
        return x @ params["V"]
    def loss_grad(self, params, x, y, grads, ready):
        out = self.predict(params, x)
        grads["V"][...] = 2 * x.T @ (out - y) / y.shape[1]
        assert abs(y).max(initial=0) < 10
        return self.loss.sum(out, y)

class Counts(Line):
    class Poisson(Loss):
        def sum(self, out, y):
            return float((np.exp(out) - y * out).sum())
    loss = Poisson()
    def loss_grad(self, params, x, y, grads, ready):
        assert y.min(initial=0) >= 0 and (y == np.round(y)).all()
        out = self.predict(params, x)
        grads["V"][...] = x.T @ (np.exp(out) - y)
        return self.loss.sum(out, y)
"""
    (tmp_path / "lines.py").write_text(code)
    x = RNG.standard_normal((300, 3))
    y = x @ [[1.0, 2.0], [0.5, -1.0], [3.0, 1.0]]
    np.savez(tmp_path / "one.npz", X=x, y=1e6 + 1e5 * y[:, 0])
    np.savez(tmp_path / "two.npz", X=x, y=y * [1e6, 1e-3])
    np.savez(tmp_path / "counts.npz", X=x, y=np.random.default_rng(0).poisson(np.exp(1 + 0.5 * x[:, 0])))
    options = ["--epochs", "12", "--learning-rate", "0.05"]
    named = {
        "one": ["-m", "workers.run", "--model", "lines:Line", "--data", str(tmp_path / "one.npz"), *options],
        "two": ["-m", "workers.run", "--model", "lines:Line", "--data", str(tmp_path / "two.npz"), *options],
        "counts": ["-m", "workers.run", "--model", "lines:Counts", "--data", str(tmp_path / "counts.npz"), *options,
                   "--loss", "mse"],
    }  # fmt: skip
    ended = jobs(2, tmp_path, named)
    assert [result.code for result in ended.values()] == [0, 0, 0], [result.err for result in ended.values()]
    one, two = epochs(tmp_path / "one"), epochs(tmp_path / "two")
    assert one[0]["loss"] > 1e9  # variance 1e11
    assert one[-1]["validation_metric"] > 0.95
    assert two[0]["loss"] < 2  # standardised: the model adds up its losses itself
    assert two[-1]["validation_metric"] > 0.95
    as_it_is = "The target is not standardised: lines:Counts has a loss of its own"
    assert [result.out.count(as_it_is) for result in ended.values()] == [0, 0, 1]
    with np.load(tmp_path / "counts" / "model.npz") as model:
        assert (model["y_mean"].tolist(), model["y_scale"].tolist()) == ([0.0], [1.0])


@pytest.mark.parametrize(("classes", "loss"), [(None, "mse"), (3, "cross-entropy")])
def test_a_run_older_than_these_rules_goes_on_by_its_own(tmp_path: Path, classes: int | None, loss: str) -> None:
    """Its log has none of the options: it trained on every column, on targets as they were, on what their type said."""
    head = header(2)
    news = ("header", "index_column", "standardize_target")
    head["config"] = {name: value for name, value in head["config"].items() if name not in news}
    head["data"]["classes"] = classes
    log = RunLog(tmp_path / "coordinator.msgpack")
    log.append("header", **head)
    log.close()
    saved = saved_config(str(tmp_path), "")
    assert [saved[name] for name in news] == ["yes", "keep", False]
    assert saved["loss"] == loss
    assert RunConfig(**saved) == RunConfig(header="yes", index_column="keep", standardize_target=False, loss=loss)


def test_a_resumed_regression_ends_with_the_same_bits(batch: SharedStart, tmp_path: Path) -> None:
    """Stopped in the middle of an epoch, whose loss covers both jobs, in the targets' unit."""
    assert batch.run("several")
    options = ["--data", str(batch.folder / "several.npz"), "--hidden", "8", "--epochs", "3", "--patience", "3"]
    whole, stopped = str(tmp_path / "whole"), str(tmp_path / "stopped")
    assert mpirun(2, "-m", "workers.run", *options, "--output", whole).code == 0
    assert mpirun(2, str(PROGRAMS / "faulty.py"), "term", "1", "2", "9", *options, "--output", stopped).code == 75
    assert mpirun(2, "-m", "workers.run", "--resume", stopped).code == 0
    with np.load(f"{whole}/model.npz") as one, np.load(f"{stopped}/model.npz") as other:
        assert one.files == other.files
        assert all(one[name].tobytes() == other[name].tobytes() for name in one.files)
    ours, theirs = (epochs(Path(folder)) for folder in (stopped, whole))
    assert ours[1]["before"]["steps"] == 9
    for field in ("loss", "validation_loss", "validation_metric"):
        np.testing.assert_allclose([e[field] for e in ours], [e[field] for e in theirs], rtol=1e-6)
    share = ours[1]["before"]["loss_sum"] / ours[1]["before"]["rows"] / ours[1]["loss"]
    assert 0.3 < share < 3
