"""A new run that starts from the parameters of another: the same loss on the same data, in every mode."""

from pathlib import Path

import numpy as np
import pytest

from common.config import RunConfig
from common.errors import ConfigError, RankwiseError
from common.flat import Flat
from tests.ranks import Result, SharedStart, epochs, jobs, records
from tests.test_resume import close, parameters, same_bits
from workers.checkpoint.start import Start, read_start
from workers.launch.run_options import parse

MODES = {"allreduce": "", "shared": "", "factors": ""}
OLD = ("--hidden", "16", "--activation", "tanh", "--batch-size", "50", "--dtype", "float64", "--seed", "3")
STILL = ("--optimizer", "sgd", "--epochs", "1", "--batch-size", "0", "--learning-rate", "1e-60")
"""Options that leave the parameters as they are."""


def shift(source: Path, target: Path) -> None:
    """Write the data of a regression, with features that others are scaled by."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 4)) * [1, 10, 100, 1] + [5, 0, -7, 1000]
    y = x @ [1.0, 0.1, 0.01, 0.5] - 500
    np.savez(source, allow_pickle=False, X=x, y=y)
    np.savez(target, allow_pickle=False, X=x[:200] + 1, y=y[:200] + 1)


class Runs(SharedStart):
    """The jobs of this file, and the data that some are trained on."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("start")
    shift(folder / "old.npz", folder / "new.npz")
    old = str(folder / "2" / "old")
    run = ("-m", "workers.run")
    named: dict[str, tuple[int, tuple[str, ...]]] = {
        "old": (2, (*run, *OLD, "--epochs", "3", "--checkpoint-every", "1", "--keep", "9")),
        **{mode: (2, (*run, "--from", old, *STILL, "--mode", mode)) for mode in MODES},
        "three": (3, (*run, "--from", old, *STILL, "--mode", "shared", "--ranks-per-node", "2")),
        "of-epoch-2": (2, (*run, "--from", f"{old}/checkpoint-52.npz", *STILL)),
        "trained": (2, (*run, "--from", old, "--epochs", "3", "--checkpoint-every", "1", "--keep", "9")),
        "float32": (2, (*run, "--from", old, *STILL[:-1], "1e-30", "--dtype", "float32")),
        "wider": (2, (*run, "--from", old, "--hidden", "32")),
        "unscaled": (2, (*run, "--from", old, "--no-standardize")),
        "apart": (2, (*run, "--from", old, "--init", "per-rank")),
        "both": (2, (*run, "--from", old, "--resume", old)),
        "split": (2, (*run, "--from", old, *STILL, "--split-seed", "4")),
        "scaled": (2, (*run, "--data", str(folder / "old.npz"), "--model", "linear", "--dtype", "float64")),
        "unscaled-y": (2, (*run, "--from", str(folder / "2" / "scaled"), "--no-standardize-target")),
        "tuned": (2, (*run, "--from", str(folder / "2" / "scaled"), "--data", str(folder / "new.npz"), *STILL,
                      "--test-fraction", "0", "--validation-fraction", "0")),
    }  # fmt: skip
    return Runs(folder, named)


def refused(result: Result) -> str:
    assert result.code in (1, 2), result.out
    assert result.err.count("rankwise:") == 1
    assert "Traceback" not in result.err
    return result.err


@pytest.mark.parametrize("name", [*MODES, "three"])
def test_the_loss_is_that_of_the_other_run(runs: Runs, name: str) -> None:
    """All rows are taken before the only update, which changes nothing."""
    old, new = epochs(runs.run("old"))[-1], epochs(runs.run(name))[0]
    assert new["validation_loss"] == pytest.approx(old["validation_loss"], rel=1e-12)
    assert records(runs.run(name))[-1]["test_loss"] == pytest.approx(
        records(runs.run("old"))[-1]["test_loss"], rel=1e-12
    )
    kept, before = parameters(runs.run(name)), parameters(runs.run("old"))
    assert all(kept[key].tobytes() == before[key].tobytes() for key in before)


def test_the_header_says_where_the_parameters_are_from(runs: Runs) -> None:
    start = records(runs.run("allreduce"))[0]["start"]
    assert start["path"] == str(runs.run("old") / "model.npz")
    assert start["epoch"] == 3
    assert len(start["sha256"]) == 64
    assert records(runs.run("of-epoch-2"))[0]["start"]["epoch"] == 2
    out = runs["allreduce"].out
    assert f"Starts from the parameters of {start['path']} (SHA-256 {start['sha256'][:12]}..., after epoch 3)" in out
    config = records(runs.run("allreduce"))[0]["config"]
    assert (config["hidden"], config["activation"], config["seed"]) == ([16], "tanh", 3)  # as there


def test_a_checkpoint_that_is_named_is_taken(runs: Runs) -> None:
    old = epochs(runs.run("old"))[1]
    assert epochs(runs.run("of-epoch-2"))[0]["validation_loss"] == pytest.approx(old["validation_loss"], rel=1e-12)


def test_the_run_is_new(runs: Runs) -> None:
    """Epochs, the optimizer and the rate begin again."""
    found = epochs(runs.run("trained"))
    assert [r["epoch"] for r in found] == [1, 2, 3]
    assert found[0]["loss"] < epochs(runs.run("old"))[-1]["loss"]
    with np.load(runs.run("trained") / "checkpoint-20.npz") as arrays:
        assert arrays["data/x_mean"].tobytes() == parameters(runs.run("old"))["x_mean"].tobytes()


def test_another_dtype_takes_rounded_parameters(runs: Runs) -> None:
    kept, before = parameters(runs.run("float32")), parameters(runs.run("old"))
    assert kept["W1"].dtype == np.float32
    assert np.array_equal(kept["W1"], before["W1"].astype(np.float32))


def test_other_data_are_scaled_as_the_parameters_know_them(runs: Runs) -> None:
    """Scaled by their own mean, all features would look as if nothing had been added to them."""
    old, new = parameters(runs.run("scaled")), parameters(runs.run("tuned"))
    assert all(old[name].tobytes() == new[name].tobytes() for name in ("x_mean", "x_scale"))
    with np.load(runs.folder / "new.npz") as data:
        x, y = data["X"], data["y"]
    assert "; the features and targets are scaled as they were there." in runs["tuned"].out
    predicted = ((x - old["x_mean"]) / old["x_scale"]) @ old["W"] + old["b"]
    assert old["y_mean"].tobytes() == new["y_mean"].tobytes()
    predicted = predicted * old["y_scale"] + old["y_mean"]
    (first,) = epochs(runs.run("tuned"))
    assert sum(first["rows"]) == 200
    assert first["loss"] == pytest.approx(np.square(predicted[:, 0] - y).mean(), rel=1e-12)


def test_what_does_not_fit_is_one_message(runs: Runs) -> None:
    said = refused(runs["wider"])
    assert "do not fit this model: W1 is (64, 16) there, (64, 32) here; b1 is (16,) there, (32,) here" in said
    assert "leave --no-standardize out" in refused(runs["unscaled"])
    assert "were trained on targets that are scaled; leave --no-standardize-target out" in refused(runs["unscaled-y"])
    assert "with --init per-rank each rank starts on its own" in refused(runs["apart"])
    assert "--resume continues a run, --from starts a new one" in refused(runs["both"])


def test_another_split_of_the_same_data_is_warned_of(runs: Runs) -> None:
    assert runs["split"].code == 0
    assert "with another --split-seed, rows that those parameters were trained on may be test rows" in runs["split"].err
    assert "may be test rows" not in runs["allreduce"].err


def test_a_resumed_run_keeps_its_scaling(runs: Runs, tmp_path: Path) -> None:
    """And ``--from`` with ``--resume auto`` begins or continues: the line for a batch script."""
    old, new = runs.run("scaled"), str(runs.folder / "new.npz")
    auto = ["-m", "workers.run", "--from", str(old), "--data", new, "--resume", "auto"]
    named = {
        "whole": ["-m", "workers.run", "--from", str(old), "--data", new, "--epochs", "4"],
        "first": [*auto, "--epochs", "2", "--output", str(tmp_path / "run")],
        "second": [*auto, "--epochs", "4", "--output", str(tmp_path / "run")],
        "named": ["-m", "workers.run", "--resume", str(tmp_path / "run"), "--epochs", "6"],
    }
    for name, result in jobs(2, tmp_path / "jobs", named).items():
        assert result.code == 0, (name, result.err)
    assert [r["epoch"] for r in epochs(tmp_path / "run")] == [1, 2, 3, 4, 5, 6]
    assert "start" in records(tmp_path / "run")[0]
    six = tmp_path / "six"
    (result,) = jobs(2, six, {"six": [*named["whole"][:-1], "6"]}).values()
    assert result.code == 0
    assert same_bits(six / "six", tmp_path / "run")
    with pytest.raises(AssertionError):
        close(tmp_path / "jobs" / "whole", tmp_path / "run")


def start_of(**arrays: np.ndarray) -> Start:
    return Start(path="x.npz", sha256="0" * 64, parameters=dict(arrays), scaling={}, epoch=None)


@pytest.mark.parametrize("odd", [{"x_mean": np.array(["a"])}, {"y_scale": np.array(["1"])}, {"W": np.array(["a"])}])
def test_texts_in_place_of_numbers_are_one_message(tmp_path: Path, odd: dict[str, np.ndarray]) -> None:
    """Only ``classes`` may be texts."""
    arrays = {"W": np.ones((1, 2)), "classes": np.array(["no", "yes"]), "x_mean": np.zeros(1), "x_scale": np.ones(1)}
    np.savez(tmp_path / "model.npz", allow_pickle=False, **arrays)
    assert read_start(str(tmp_path / "model.npz")).scaling["classes"].tolist() == ["no", "yes"]
    np.savez(tmp_path / "model.npz", allow_pickle=False, **{**arrays, **odd})
    with pytest.raises(RankwiseError, match="holds no parameters, or something else than numbers"):
        read_start(str(tmp_path / "model.npz"))


def test_every_parameter_must_be_there_and_finite() -> None:
    flat = Flat({"W": (2, 3), "b": (3,)}, np.dtype(np.float32))
    with pytest.raises(
        RankwiseError, match=r"W is not there, \(2, 3\) here; b is not there.*V is \(1,\) there, not here"
    ):
        start_of(V=np.zeros(1)).fill(flat)
    with pytest.raises(RankwiseError, match=r"W of x\.npz holds numbers that are not finite in float32"):
        start_of(W=np.full((2, 3), 1e300), b=np.zeros(3)).fill(flat)
    start_of(W=np.ones((2, 3)), b=np.zeros(3)).fill(flat)
    assert flat.params["W"].sum() == 6
    many = {f"p{i}": np.zeros(1) for i in range(9)}
    with pytest.raises(RankwiseError, match="; and 7 more; give --model"):
        start_of(**many).fill(flat)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", b"x" * 1000])
def test_files_that_are_none_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.npz"
    path.write_bytes(content)
    with pytest.raises(RankwiseError, match=r"^from: .*model\.npz: not a whole .*give a checkpoint"):
        read_start(str(path))


def test_other_arrays_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    np.savez(path, allow_pickle=False, W=np.array(["a"]))
    with pytest.raises(RankwiseError, match="holds no parameters"):
        read_start(str(path))
    np.savez(path, allow_pickle=True, W=np.array([{}]))
    with pytest.raises(RankwiseError, match=r"not a whole file of parameters"):
        read_start(str(path))
    np.savez(path, allow_pickle=False, about=np.zeros(3, np.uint8))
    with pytest.raises(RankwiseError, match=r"^from: "):
        read_start(str(path))


def test_places_without_parameters_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RankwiseError, match=r"no run and no file .*nowhere"):
        parse(["--from", str(tmp_path / "nowhere")], MODES)
    with pytest.raises(RankwiseError, match=r"holds neither a checkpoint nor a model\.npz"):
        parse(["--from", str(tmp_path)], MODES)
    (tmp_path / "checkpoint-1.npz").touch()
    with pytest.raises(RankwiseError, match="holds no whole checkpoint"):
        read_start(str(tmp_path))


def test_from_is_given_on_the_command_line_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run.toml").write_text('start_from = "x"\n')
    with pytest.raises(ConfigError, match="allowed is the command line only, give --from"):
        parse(["--config", str(tmp_path / "run.toml")], MODES)
    monkeypatch.setenv("RANKWISE_START_FROM", "x")
    with pytest.raises(ConfigError, match="allowed is the command line only, give --from"):
        parse([], MODES)


def test_the_options_of_the_source_are_taken_over(runs: Runs) -> None:
    config = parse(["--from", str(runs.run("old")), "--learning-rate", "0.5"], MODES)
    assert isinstance(config, RunConfig)
    assert (config.hidden, config.activation, config.dtype, config.seed) == ((16,), "tanh", "float64", 3)
    assert (config.batch_size, config.epochs, config.learning_rate) == (64, 30, 0.5)  # how to train is not


def test_an_optimizer_goes_on_from_a_checkpoint_alone() -> None:
    start = Start(path="model.npz", sha256="", parameters={}, scaling={}, epoch=None)
    start.check(RunConfig())
    with pytest.raises(RankwiseError, match=r"carry: model\.npz is no checkpoint, and has no optimizer"):
        start.check(RunConfig(carry=True))
