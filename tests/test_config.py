"""Options: types, limits, and texts that come back unchanged from a file."""

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.config import RunConfig, to_toml
from common.data import sources
from common.errors import ConfigError
from common.option import from_dict
from ps.sync import mode_names
from tests.ranks import mpirun
from workers.launch.run_options import parse

HELP = {"allreduce": "", "reduce-bcast": "", "send-recv": ""}


@given(
    st.dictionaries(
        st.from_regex(r"[a-z_]{1,8}", fullmatch=True),
        st.one_of(
            st.booleans(),
            st.integers(-(2**53), 2**53),
            st.floats(allow_nan=False, allow_infinity=False),
            st.text(st.characters(exclude_categories=["Cs"])),
            st.lists(st.integers(0, 9)),
        ),
    )
)
def test_toml_comes_back(values: dict[str, object]) -> None:
    assert tomllib.loads(to_toml(values)) == values


def test_defaults_survive_the_round_trip() -> None:
    config = RunConfig(hidden=(3, 4), learning_rate=1e-05)
    assert from_dict(RunConfig, tomllib.loads(to_toml(config.as_dict()))) == config


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "mpl"}, r"model: unknown value 'mpl' \(did you mean 'mlp'\?\); choose one of linear"),
        ({"optimizer": "qqqq"}, r"optimizer: unknown value 'qqqq'; choose one of sgd"),
        ({"epochs": 0}, "epochs: got 0; allowed is at least 1"),
        ({"epochs": 1.5}, "epochs: got 1.5; allowed is a whole number"),
        ({"epochs": True}, "epochs: got True; allowed is a whole number"),
        ({"hidden": (8, 0)}, "hidden: got 0; allowed is at least 1"),
        ({"learning_rate": 0.0}, "learning_rate: got 0.0; allowed is above 0"),
        ({"learning_rate": float("nan")}, "learning_rate: got nan"),
        ({"clip": float("inf")}, "clip: got inf"),
        ({"momentum": 1.0}, "momentum: got 1.0; allowed is at least 0.0 and below 1.0"),
        ({"test_fraction": 0.6, "validation_fraction": 0.5}, r"got 1.1; at most 0.95"),
        ({"patience": 3, "validation_fraction": 0.0}, "patience: needs validation rows"),
        ({"model": "linear", "loss": "cross-entropy"}, "does not go with model 'linear'; use mse or auto"),
        ({"verbose": "yes"}, "verbose: got 'yes'; allowed is true or false"),
        ({"hidden": "12"}, "hidden: got '12'; allowed is a list of whole numbers"),
        ({"hidden": ((1, 2),)}, r"hidden: got \(\(1, 2\),\); allowed is a list of whole numbers"),
        ({"hidden": (2**62, 4)}, "hidden: got 4611686018427387904; allowed is at least 1 and at most 1000000"),
        ({"hidden": (1,) * 2000}, "hidden: got 2000 numbers; allowed is at most 1000"),
        ({"epochs": 10**400}, r"epochs: got 10{79}\.\.\.; allowed is at least 1 and at most"),
        ({"epochs": 16**5000}, "epochs: got a number of thousands of digits; allowed is"),
        ({"learning_rate": 10**400}, "learning_rate: got 10*"),
        (
            {"schedule": "warmup", "warmup_epochs": 1e308},
            r"warmup_epochs: got 1e\+308; allowed is at least 0.0 and at most",
        ),
        ({"output": "a\0b"}, r"output: got 'a\\x00b'; allowed is a text of valid characters"),
        ({"staleness": 3}, "staleness: got 3; allowed is a text, as in staleness = '3'"),
        ({"output": "\udcff"}, r"output: got '\\udcff'; allowed is a text of valid characters"),
    ],
)
def test_wrong_options_say_what_is_allowed(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RunConfig(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--verbose=maybe"], "verbose: got 'maybe'; allowed is true or false"),
        (["--check-model="], "check_model: got ''; allowed is true or false"),
        (["--clip", "much"], "clip: got 'much'; allowed is a number"),
        (["--validation-fraction=x\x1b"], r"validation_fraction: got 'x\\x1b'; allowed is a number"),
        (["--epochs", "three"], 'epochs: got "three"; allowed is a whole number'),
        (["--seed", "1", "--seed", "2"], "seed: given several times; give it once"),
    ],
)
def test_a_wrong_value_on_the_command_line_is_told_in_the_same_words(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}$"):
        parse(arguments, mode_names.read())


def test_so_is_one_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKWISE_HEAL", "perhaps")
    with pytest.raises(ConfigError, match=r"^RANKWISE_HEAL: got 'perhaps'; allowed is true or false$"):
        parse([], mode_names.read())


@pytest.mark.parametrize("data", ["digits", "A.NPZ"])
def test_a_target_needs_named_columns(data: str) -> None:
    message = f"target: got 'price', but {data} has no named columns; leave --target out"
    with pytest.raises(ConfigError, match=message):
        sources.check_columns(RunConfig(target="price", data=data))


@pytest.mark.parametrize(
    "option",
    [f for f in dataclasses.fields(RunConfig) if f.type in (int, float, tuple[int, ...])],
    ids=lambda option: option.name,
)
def test_every_number_is_bounded(option: "dataclasses.Field[Any]") -> None:
    """Whatever is allowed must not overflow later."""
    huge = (10**30,) if option.name == "hidden" else 10**31
    with pytest.raises(ConfigError, match=f"{option.name}: got 1"):
        RunConfig(**{option.name: huge})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "3.7"], 'epochs: got "3.7"; allowed is a whole number'),
        (["--epochs", "3.0"], 'epochs: got "3.0"; allowed is a whole number'),
        (["--epochs", "9" * 5000], r'epochs: got "9{80}"; allowed is a whole number'),
        (["--epochs", "1" + "0" * 400], "epochs: got 10*"),
        (["--batch-size", "0.4"], 'batch_size: got "0.4"'),
        (["--seed", "1.5"], 'seed: got "1.5"'),
        (["--hidden", "8", "4.5"], 'hidden: got "4.5"; allowed is a whole number'),
        (["--hidden", "10000000000000000000"], "hidden: got 1"),
        (["--output", "~nosuchuser/x"], "output: got '~nosuchuser/x', but that user has no home folder"),
        (["--data", "~nosuchuser/x.NPZ"], "data: got '~nosuchuser/x.NPZ', but that user has no home folder"),
        (["--config", "~nosuchuser/x"], "config: got '~nosuchuser/x', but that user has no home folder"),
        (["--output", "\udcff"], r"got '\\udcff'; allowed is UTF-8"),
        (["--target", "foo"], "target: got 'foo', but digits has no named columns"),
    ],
)
def test_wrong_flags_say_what_is_allowed(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(arguments, HELP)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs = 3.7", "epochs: got 3.7; allowed is a whole number"),
        ("batch_size = 100.5", "batch_size: got 100.5; allowed is a whole number"),
        ("epochs = '3'", "epochs: got '3'; allowed is a whole number"),
        ("epochs = [3]", r"epochs: got \(3,\); allowed is a whole number"),
        ("hidden = [[1, 2]]", "hidden: got .*; allowed is a list of whole numbers"),
        ("hidden = '12'", "hidden: got '12'; allowed is a list of whole numbers"),
        ("hidden = 12", "hidden: got 12; allowed is a list of whole numbers"),
        ("verbose = 1", "verbose: got 1; allowed is true or false"),
        ("learning_rate = true", "learning_rate: got True; allowed is a number"),
        (f"epochs = {'9' * 5000}", "run.toml is no TOML file"),
        (f"hidden = [[0x{'f' * 5000}]]", "hidden: got a number of thousands of digits"),
        ('output = "a\\u0000b"', r"output: got 'a\\x00b'"),
        ("config = 'other.toml'", "unknown option 'config' in .*run.toml"),
    ],
)
def test_wrong_files_say_what_is_allowed(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        parse(["--config", str(tmp_path / "run.toml")], HELP)


@pytest.mark.parametrize("value", ["3.7", "\udcff"])
def test_the_environment_is_checked_alike(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("RANKWISE_EPOCHS", value)
    with pytest.raises(ConfigError, match="got"):
        parse([], HELP)


def test_files_keep_their_values_and_flags_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.toml"
    path.write_text("hidden = []\nlearning_rate = 1\nstandardize = false\nseed = 1\nepochs = 2\nmomentum = 0.5\n")
    monkeypatch.setenv("RANKWISE_SEED", "2")
    monkeypatch.setenv("RANKWISE_EPOCHS", "3")
    config = parse(["--config", str(path), "--epochs", "4", "--data", "OWN.NPZ"], HELP)
    assert config == RunConfig(hidden=(), learning_rate=1, standardize=False, seed=2, epochs=4, momentum=0.5,
                               data=str(Path("OWN.NPZ").absolute()))  # fmt: skip


@pytest.mark.parametrize("arguments", [["--output", "\udcff"], ["--hidden", "4611686018427387904", "4"]])
def test_a_job_says_it_once(tmp_path: Path, arguments: list[str]) -> None:
    result = mpirun(3, "-m", "workers.run", *arguments, cwd=tmp_path)
    assert result.code == 2
    assert result.err.startswith("rankwise: ")
    assert "rankwise:" not in result.err.split("\n", 1)[1]
    assert "Warning" not in result.err  # Open MPI's launcher adds lines of its own
