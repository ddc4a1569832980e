"""Options: types, limits, and texts that come back unchanged from a file."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.config import RunConfig, to_toml
from common.errors import ConfigError


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
    assert RunConfig.from_dict(tomllib.loads(to_toml(config.as_dict()))) == config


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
    ],
)
def test_wrong_options_say_what_is_allowed(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RunConfig(**options)  # type: ignore[arg-type]
